#!/bin/bash
# Builds the Debian package with Debian's own tools.
# usage: build.sh [FOLDER]    the package goes to FOLDER (default: dist)
# Where wheels lie in deploy/wheels (`make wheels`), they are used and no index is asked.
set -euo pipefail
cd "$(dirname "$0")/../.."

if compgen -G 'deploy/wheels/*.whl' >/dev/null; then
	export PIP_NO_INDEX=1
fi
out=$(realpath --canonicalize-missing "${1:-dist}")
work=$(mktemp --directory)
trap 'rm -rf "$work"' EXIT
source=$work/source
mkdir -p "$source" "$out"

cp -r LICENSE README.md pyproject.toml sensor bpf "$source"
cp -r deploy/constraints.txt deploy/wheels deploy/sensor.yaml docs/operations.md "$source"
cp -r deploy/debian "$source/debian"
for kind in service tmpfiles; do
	cp "deploy/systemd/ebpf-container-sensor.$kind" "$source/debian/"
done
find "$source" -name __pycache__ -type d -prune -exec rm -rf {} +

(cd "$source" && dpkg-buildpackage --build=binary --no-sign)
mv "$work"/*.deb "$out"
ls -l "$out"/*.deb
