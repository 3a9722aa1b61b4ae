#!/bin/bash
# Installs those Debian packages of the given lists that are missing, and says which.
# usage: install-packages.sh LIST...   (a list: one package a line, # starts a comment)
# Exit: 0 all there; 1 something is missing and cannot be installed.
set -euo pipefail

if ! command -v apt-get >/dev/null; then
	echo "no apt-get here: please see to it that the equivalents of these Debian packages are installed:" >&2
	sed -E 's/[[:space:]]*#.*//; /^$/d; s/^/  /' "$@" >&2
	exit 0
fi

missing=()
while read -r package; do
	state=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null || true)
	[ "$state" = installed ] || missing+=("$package")
done < <(sed -E 's/[[:space:]]*#.*//; /^$/d' "$@")
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
	echo "Debian packages are missing: sudo apt-get install ${missing[*]}" >&2
	exit 1
fi

echo "installing Debian packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive NEEDRESTART_MODE=l

# A daemon that comes with a package (Docker's) is not to start now: what needs one starts its own.
# This file is Debian's switch for that; one that is there already stays as it is.
policy=${POLICY_RC_D:-/usr/sbin/policy-rc.d}
if [ ! -e "$policy" ]; then
	trap 'rm -f "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' >"$policy"
	chmod 755 "$policy"
fi

install() {
	apt-get install --yes --no-install-recommends "${missing[@]}"
}
if ! apt-cache show --no-all-versions "${missing[@]}" >/dev/null 2>&1; then
	apt-get update
	install
elif ! install; then
	echo "the package lists may be old: updating them and trying once more"
	apt-get update
	install
fi
