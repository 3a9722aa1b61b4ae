#!/bin/bash
# Builds the image with the container engine at hand.
# usage: image.sh [--own-base] [--platform=PLATFORM] [NAME]       NAME: default ebpf-container-sensor
#   --own-base   make the base from Debian's archive first, where no registry can be reached (root, mmdebstrap)
#   --platform   for another machine than this one: linux/amd64 or linux/arm64. What is built for it runs here, so
#                that needs an emulator (apt-get install qemu-user-static)
# Environment:
#   ENGINE         the engine's command; default: docker where a daemon answers, else podman
#   BASE           the image to build on, best by digest; default: the Dockerfile's
#   PIP_INDEX_URL  an index of packages of your own. Where wheels lie in deploy/wheels (`make wheels`), none is asked
#   EXTRAS         optional parts, by their names in pyproject.toml
# Exit: 0 built; 1 not, and the reason.
set -euo pipefail
cd "$(dirname "$0")/.."

own_base=
platform=
name=ebpf-container-sensor
for argument in "$@"; do
	case $argument in
	--own-base) own_base=yes ;;
	--platform=linux/amd64 | --platform=linux/arm64) platform=${argument#*=} ;;
	-*)
		sed -n '2,/^set /{/^#/s/^# \?//p}' "$0" >&2
		exit 1
		;;
	*) name=$argument ;;
	esac
done

# Words, so that ENGINE may hold options: ENGINE='podman --root /srv/images'.
read -ra engine <<<"${ENGINE:-}"
if [ ${#engine[@]} -eq 0 ]; then
	if command -v docker >/dev/null && docker version >/dev/null 2>&1; then
		engine=(docker)
	elif command -v podman >/dev/null; then
		engine=(podman)
	else
		cat >&2 <<-'END'
			no container engine answers. One of these is needed:
			  Docker   sudo apt-get install docker.io && sudo systemctl start docker
			           or DOCKER_HOST=unix:///path/to/docker.sock for a daemon elsewhere
			  Podman   sudo apt-get install podman
		END
		exit 1
	fi
fi

options=()
if [ "$(basename "${engine[0]}")" = podman ]; then
	# Podman's own format knows no health check; its networks want packages that it only recommends.
	options+=(--format docker --network host)
fi
if [ -n "$platform" ]; then
	options+=(--platform "$platform")
fi
for variable in EXTRAS PIP_INDEX_URL BASE; do
	[ -z "${!variable:-}" ] || options+=(--build-arg "$variable=${!variable}")
done
if compgen -G 'deploy/wheels/*.whl' >/dev/null; then
	echo 'packages come from the wheels in deploy/wheels, no index is asked'
	options+=(--build-arg PIP_NO_INDEX=1)
fi

base=${BASE:-$(sed -n 's/^ARG BASE=//p' deploy/Dockerfile)}
if [ -n "$own_base" ]; then
	[ "$(id -u)" -eq 0 ] || { echo "--own-base needs root" >&2; exit 1; }
	command -v mmdebstrap >/dev/null || { echo "--own-base needs mmdebstrap: apt-get install mmdebstrap" >&2; exit 1; }
	tar=$(mktemp --suffix .tar)
	trap 'rm -f "$tar"' EXIT
	# With /usr merged, as Debian's own images have it.
	mmdebstrap --quiet --variant=minbase --include=usr-is-merged ${platform:+"--architectures=${platform#linux/}"} \
		--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr bookworm "$tar"
	if [ -n "$platform" ] && [ "$(basename "${engine[0]}")" = podman ]; then
		"${engine[@]}" import --os linux --arch "${platform#linux/}" "$tar" "$base"
	else
		"${engine[@]}" import ${platform:+"--platform=$platform"} "$tar" "$base"
	fi
elif ! "${engine[@]}" image inspect "$base" >/dev/null 2>&1 &&
	! "${engine[@]}" pull ${platform:+"--platform=$platform"} "$base"; then
	cat >&2 <<-END
		the base $base is not here and cannot be pulled. Name another one (BASE=...), or make it from
		Debian's archive: sudo make image ARGS=--own-base
	END
	exit 1
fi

version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
revision=$(git rev-parse HEAD 2>/dev/null || true)
"${engine[@]}" build "${options[@]}" --file deploy/Dockerfile --tag "$name" \
	--build-arg "VERSION=$version" --build-arg "REVISION=$revision" .
"${engine[@]}" image inspect --format '{{.Id}} {{.Size}}' "$name" |
	awk -v name="$name" -v version="$version" '{ printf "built %s %s: %s, %.0f MB\n", name, version, $1, $2 / 1e6 }'
