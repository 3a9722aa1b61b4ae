#!/bin/sh
# What the node sees in place of the machine: run in network and mount namespaces of its own.
# usage: node-view.sh FOLDER ADDRESS SERVICE     FOLDER: has run, log and kubelet
# It says `ready`, and then holds the namespaces until it is killed.
set -eu
folder=$1 address=$2 service=$3

# As on a node: what is mounted by one, containers see. Beyond this namespace nobody does.
mount --make-rshared /
mount --bind "$folder/run" /run
mount --bind "$folder/log" /var/log
mkdir -p /var/lib/kubelet
mount --bind "$folder/kubelet" /var/lib/kubelet

# kubelet sets these for the machine, or, as it is told here, wants to find them so.
mkdir "$folder/sysctl"
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
	kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
	file=$folder/sysctl/$(echo "${setting%=*}" | tr / _)
	echo "${setting#*=}" >"$file"
	mount --bind "$file" "/proc/sys/${setting%=*}"
done

# The node has one address, on a bridge without ports. The one of the service `kubernetes` leads to the API
# server itself, which is all that kube-proxy would do here.
ip link set lo up
ip address add "$service/32" dev lo
ip link add node0 type bridge
ip address add "$address/24" dev node0
ip link set node0 up
ip route add default dev node0
echo 1 >/proc/sys/net/ipv4/ip_forward

echo ready
exec sleep infinity
