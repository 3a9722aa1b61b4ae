"""What the image is tested with: the build of it, and Docker engines of the test's own to run it.

Debian 12's Docker (20.10) knows neither CAP_BPF nor CAP_PERFMON. The Docker of Debian 13 does; it runs
from a folder, with the kernel and the cgroups of the machine. What is slow to make is kept in `CACHE`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
sys.path[:0] = [str(REPOSITORY / "tests/live"), str(REPOSITORY / "tests/live/containers")]

from daemons import DockerOnV2  # noqa: E402
from docker_engine import DockerEngine  # noqa: E402

NAME = "localhost/ebpf-container-sensor-test"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sensor-image"
# What deploy/Dockerfile copies, and what builds it.
CONTEXT = ("LICENSE", "README.md", "bpf", "deploy", "pyproject.toml", "sensor", ".dockerignore")
WHEELS = (*("--no-deps", "--quiet"), *("--requirement", "deploy/constraints.txt"))
NEWER = "trixie"


class BuildError(Exception):
    """The image could not be built; the message holds the tool's last lines."""


def run(*command: str | Path, **environment: str) -> str:
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd=REPOSITORY,
        env={**os.environ, **environment},
    )
    if done.returncode != 0:
        last = "\n".join(done.stdout.splitlines()[-20:])
        raise BuildError(f"{' '.join(map(str, command))}:\n{last}")
    return done.stdout


def build(folder: Path) -> Path:
    """Build the image of this checkout; returns it as `docker load` takes it.

    Podman builds it, which needs no daemon, in a storage of its own under `CACHE`. The base and the
    packages come from where Debian's and pip's settings on this machine say: no registry is asked.
    """
    context = folder / "context"
    context.mkdir()
    for name in CONTEXT:
        source = REPOSITORY / name
        if source.is_dir():
            ignore = shutil.ignore_patterns("__pycache__", "*.whl")
            shutil.copytree(source, context / name, ignore=ignore)
        else:
            shutil.copy2(source, context / name)
    wheels = context / "deploy/wheels"
    pip = (sys.executable, "-m", "pip", "wheel", "--disable-pip-version-check")
    run(*pip, *WHEELS, "--wheel-dir", wheels, "setuptools>=68", "wheel")
    podman = [
        "podman",
        f"--root={CACHE / 'storage'}",
        f"--runroot={CACHE / 'run'}",
        "--cgroup-manager=cgroupfs",
        # On a host with cgroups v1 and v2 crun refuses once Docker's runc has used a controller of v2.
        "--runtime=runc",
    ]
    known = subprocess.run([*podman, "image", "exists", "debian:bookworm-slim"], check=False)
    own_base = [] if known.returncode == 0 else ["--own-base"]
    run(context / "deploy/image.sh", *own_base, NAME, ENGINE=" ".join(podman))
    saved = folder / "image.tar"
    run(*podman, "save", "--quiet", "--format=docker-archive", f"--output={saved}", NAME)
    return saved


class NewerDocker(DockerOnV2):
    """The Docker of Debian 13 in a root of its own, on the machine's cgroups as they are."""

    programs = ("mmdebstrap", "pivot_root")
    root = CACHE / f"docker-{NEWER}"

    def start(self) -> None:
        if not self.root.is_dir():
            unfinished = self.root.with_suffix(".part")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.parent.mkdir(parents=True, exist_ok=True)
            packages = "--include=docker.io,ca-certificates,iproute2,mount"
            run("mmdebstrap", "--quiet", "--variant=apt", packages, NEWER, unfinished)
            unfinished.rename(self.root)
        super().start()

    @property
    def before(self) -> str:  # type: ignore[override]
        """The daemon's mounts; its folder has the same name inside and outside of its root.

        No chroot: the containers' namespaces would still begin at the machine's own root.
        """
        inside = f"{self.root}{self.directory}"
        return f"""
            set -e
            mount --bind {self.root} {self.root}
            mount -t proc proc {self.root}/proc
            mount --rbind /sys {self.root}/sys
            mount --rbind /dev {self.root}/dev
            mount -t tmpfs run {self.root}/run
            mount -t tmpfs tmp {self.root}/var/tmp
            mkdir {inside} {self.root}/var/tmp/machine
            mount --bind {self.directory} {inside}
            cd {self.root}
            pivot_root . var/tmp/machine
            PATH=/usr/sbin:/usr/bin:/sbin:/bin
            umount --lazy /var/tmp/machine
        """


__all__ = ["NAME", "BuildError", "DockerEngine", "NewerDocker", "build"]
