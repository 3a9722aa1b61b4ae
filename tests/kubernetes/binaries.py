"""A node and a control plane of Kubernetes, built from Debian's source package and kept in a folder.

No binaries of them are in Debian, but its source package `kubernetes` of bookworm is the whole tree with all
that it needs, so it builds without a network. Its version is 1.20, the last one that Debian had whole.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet")
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
SUITE = "bookworm"
DEFAULT_MIRROR = "http://deb.debian.org/debian"
UPSTREAM = re.compile(r"(?:.*really)?(?P<version>\d+\.\d+\.\d+)")
OUTPUT = "_output/local/bin/linux"
# This kubelet takes no pod for gone before it has next collected garbage, a minute later at worst; a run has
# ten that go. Nothing else is changed.
GARBAGE_FILE = "pkg/kubelet/kubelet.go"
GARBAGE_PERIOD = ("ContainerGCPeriod = time.Minute", "ContainerGCPeriod = 2 * time.Second")


class BuildError(Exception):
    """A step failed; the message has the end of what it said."""


def kubernetes(cache: Path, say: Callable[[str], None]) -> Path:
    """The folder with `PROGRAMS`; builds them first if they are not in `cache`, which takes minutes."""
    folder = cache / f"kubernetes-{SUITE}"
    if all((folder / program).exists() for program in PROGRAMS):
        return folder
    work = cache / "build"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    log = cache / "build.log"
    log.write_text("")
    started = time.monotonic()
    say(f"fetching Debian's source package of Kubernetes ({SUITE})")
    source = _fetch(work, log)
    say(f"building {', '.join(PROGRAMS)} from {source.name}; some minutes, see {log}")
    _build(source, work, log)
    folder.mkdir(exist_ok=True)
    for program in PROGRAMS:
        (built,) = (source / OUTPUT).glob(f"*/{program}")
        shutil.move(built, folder / program)
    shutil.rmtree(work, ignore_errors=True)
    say(f"built in {time.monotonic() - started:.0f} s")
    return folder


def mirror() -> str:
    """Where apt on this machine gets Debian from."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(ORIGIN)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    )
    for line in listed.stdout.splitlines():
        address, _, origin = line.partition(" ")
        if origin == "Debian" and "security" not in address:
            return address
    return DEFAULT_MIRROR


def _fetch(work: Path, log: Path) -> Path:
    """Fetch and unpack the source, with a configuration and lists of apt's of our own."""
    apt = work / "apt"
    for name in ("lists/partial", "cache/archives/partial", "parts"):
        (apt / name).mkdir(parents=True)
    (apt / "status").touch()
    (apt / "sources.list").write_text(f"deb-src [signed-by={KEYRING}] {mirror()} {SUITE} main\n")
    (apt / "apt.conf").write_text(
        f"""
        Dir::State "{apt}";
        Dir::State::lists "{apt}/lists";
        Dir::State::status "{apt}/status";
        Dir::Cache "{apt}/cache";
        Dir::Etc::sourcelist "{apt}/sources.list";
        Dir::Etc::sourceparts "{apt}/parts";
        Dir::Etc::preferencesparts "{apt}/parts";
        APT::Sandbox::User "";
        Acquire::Languages "none";
        """
    )
    environment = os.environ | {"APT_CONFIG": str(apt / "apt.conf")}
    _run(["apt-get", "--quiet", "update"], work, environment, log)
    fetch = ["apt-get", "--quiet", "source", "--only-source", "kubernetes"]
    _run(fetch, work, environment, log)
    (source,) = work.glob("kubernetes-*/")
    return source


def _build(source: Path, work: Path, log: Path) -> None:
    match = UPSTREAM.match(source.name.removeprefix("kubernetes-"))
    if match is None:
        raise BuildError(f"no version in the name {source.name}")
    kubelet = source / GARBAGE_FILE
    text = kubelet.read_text()
    if GARBAGE_PERIOD[0] not in text:
        raise BuildError(f"{GARBAGE_FILE} is not as expected")
    kubelet.write_text(text.replace(*GARBAGE_PERIOD))
    environment = os.environ | {
        "HOME": str(work),
        "GOCACHE": str(work / "cache"),
        "GOPATH": str(work / "go"),
        "GO111MODULE": "auto",
        "GOFLAGS": "-mod=vendor",
        "GOPROXY": "off",
        "CGO_ENABLED": "0",
        "KUBE_GIT_VERSION": f"v{match['version']}",
    }
    what = " ".join(f"cmd/{program}" for program in PROGRAMS)
    _run(["nice", "make", f"WHAT={what}"], source, environment, log)


def _run(command: list[str], folder: Path, environment: dict[str, str], log: Path) -> None:
    with log.open("a") as output:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if done.returncode != 0:
        last = "\n".join(log.read_text(errors="replace").splitlines()[-20:])
        raise BuildError(f"{' '.join(command)} failed:\n{last}")
