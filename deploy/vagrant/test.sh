#!/bin/bash
# Runs the live tests in a virtual machine and brings the report out.
# usage: test.sh [PYTEST-ARGUMENTS]     default: tests/live
#   test.sh tests/live/test_fires.py -k grep
# Environment: what deploy/vagrant/Vagrantfile reads; VAGRANT_DEFAULT_PROVIDER chooses the provider;
# KEEP=1 leaves the machine running; SENSOR_TEST_PATIENCE is a factor for every wait of the tests, 20 where
# the machine is emulated. The report goes to dist/vagrant/: output and report.xml (JUnit).
# Exit: the tests'; 1 where there was no machine to run them in.
set -euo pipefail
cd "$(dirname "$0")"

command -v vagrant >/dev/null || {
	cat >&2 <<-'END'
		Vagrant is not installed. With libvirt, on Debian 12:
		  sudo apt-get install vagrant vagrant-libvirt libvirt-daemon-system libvirt-daemon-driver-qemu rsync
	END
	exit 1
}
out=../../dist/vagrant
mkdir -p "$out"
trap '[ -n "${KEEP:-}" ] || vagrant destroy --force >/dev/null' EXIT

# Also a machine that was running before gets what is here now, and what that needs.
vagrant up --no-provision
vagrant rsync
vagrant provision
printf -v arguments '%q ' "${@:-tests/live}"
# An emulated processor is many times slower than any real one.
patience=${SENSOR_TEST_PATIENCE:-1}
[ "${SENSOR_EMULATE:-}" != 1 ] || patience=${SENSOR_TEST_PATIENCE:-20}
status=0
# A report is made in any case; the exit code is that of the tests.
vagrant ssh --no-tty --command "cd sensor && uname -r && systemd-detect-virt; sudo env CI=true SENSOR_TEST_PATIENCE=$patience \
	.venv/bin/python -m pytest \
	--junitxml=/tmp/report.xml -p no:cacheprovider $arguments" | tee "$out/output" || status=$?
vagrant ssh --no-tty --command 'cat /tmp/report.xml' >"$out/report.xml" || status=1
echo "the report: dist/vagrant/output, dist/vagrant/report.xml"
exit "$status"
