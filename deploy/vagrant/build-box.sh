#!/bin/bash
# Builds a Vagrant box of Debian 12 for libvirt from Debian's archive, where no public box can be had.
# usage: build-box.sh [FILE]     the box; default: dist/sensor-bookworm.box
# It holds the Debian packages of the project's lists, so that a machine made of it needs few more. It
# boots its kernel directly: the disk has no boot loader. Needs root, and the packages of apt-packages.txt.
set -euo pipefail
cd "$(dirname "$0")/../.."

[ "$(id -u)" -eq 0 ] || { echo 'this needs root' >&2; exit 1; }
box=$(realpath --canonicalize-missing "${1:-dist/sensor-bookworm.box}")
mkdir -p "$(dirname "$box")"
work=$(mktemp --directory --tmpdir=/var/tmp sensor-box.XXXXXXXX)
trap 'rm -rf "$work"' EXIT
root=$work/root
arch=$(dpkg --print-architecture)
gigabytes=12

packages=$(sed -E 's/[[:space:]]*#.*//; /^$/d' deploy/apt-packages.txt deploy/apt-packages-test.txt | paste -sd,)
echo 'installing Debian 12 into a folder'
mmdebstrap --quiet --variant=important --hook-dir=/usr/share/mmdebstrap/hooks/merged-usr \
	--include="usr-is-merged,linux-image-cloud-$arch,initramfs-tools,systemd-sysv,systemd-resolved,openssh-server,sudo,make,rsync,ca-certificates,dbus,$packages" \
	bookworm "$root" >"$work/log" 2>&1 || { tail -20 "$work/log" >&2; exit 1; }

# Vagrant's conventions for boxes: this user, its publicly known key (replaced at the first start), sudo.
chroot "$root" useradd --create-home --shell /bin/bash --groups sudo vagrant
install -d -m 700 -o 1000 -g 1000 "$root/home/vagrant/.ssh"
key=$(find / -xdev -path '*/vagrant*/keys/vagrant.pub' -print -quit 2>/dev/null)
[ -n "$key" ] || { echo "Vagrant's vagrant.pub was not found: apt-get install vagrant" >&2; exit 1; }
install -m 600 -o 1000 -g 1000 "$key" "$root/home/vagrant/.ssh/authorized_keys"
printf 'vagrant ALL=(ALL) NOPASSWD: ALL\n' >"$root/etc/sudoers.d/vagrant"
chmod 440 "$root/etc/sudoers.d/vagrant"

echo sensor >"$root/etc/hostname"
printf '127.0.0.1 localhost sensor\n' >"$root/etc/hosts"
printf '/dev/vda / ext4 defaults,noatime 0 1\n' >"$root/etc/fstab"
printf '[Match]\nName=e*\n[Network]\nDHCP=yes\n' >"$root/etc/systemd/network/80-dhcp.network"
chroot "$root" systemctl enable --quiet systemd-networkd systemd-resolved ssh
# The tests start daemons of their own; Docker's is for whoever tries the sensor, and is started by the Vagrantfile.
chroot "$root" systemctl disable --quiet docker.service docker.socket containerd.service rsyslog prometheus-alertmanager
ln -sf /run/systemd/resolve/resolv.conf "$root/etc/resolv.conf"
rm -rf "$root"/etc/ssh/ssh_host_* "$root/var/cache/apt" "$root/var/lib/apt/lists"
mkdir -p "$root/var/cache/apt/archives/partial" "$root/var/lib/apt/lists/partial"
: >"$root/etc/machine-id"
# Every box of these must not have the same host keys.
cat >"$root/etc/systemd/system/ssh-keys.service" <<'END'
[Unit]
Before=ssh.service
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key
[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A
[Install]
WantedBy=multi-user.target
END
chroot "$root" systemctl enable --quiet ssh-keys.service

echo 'making the disk'
mkdir "$work/box"
cp "$root"/boot/vmlinuz-* "$work/box/vmlinuz"
cp "$root"/boot/initrd.img-* "$work/box/initrd"
mke2fs -q -t ext4 -d "$root" "$work/disk" "${gigabytes}G"
qemu-img convert -O qcow2 -c "$work/disk" "$work/box/box.img"
rm "$work/disk"
printf '{"provider": "libvirt", "format": "qcow2", "virtual_size": %d}\n' "$gigabytes" >"$work/box/metadata.json"
cat >"$work/box/Vagrantfile" <<'END'
Vagrant.configure("2") do |config|
  config.vm.provider :libvirt do |libvirt|
    libvirt.kernel = File.expand_path("vmlinuz", __dir__)
    libvirt.initrd = File.expand_path("initrd", __dir__)
    libvirt.cmd_line = "root=/dev/vda rw console=ttyS0 quiet"
  end
end
END
tar -C "$work/box" -czf "$box" .
echo "built $box, $(du -m "$box" | cut -f1) MB. To use it:"
echo "  vagrant box add --name sensor/bookworm $box && export SENSOR_BOX=sensor/bookworm"
