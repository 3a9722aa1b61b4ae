"""The answer of a check, and the machine it is asked of."""

from __future__ import annotations

import os
import resource
import sys
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class Status(StrEnum):
    """`WARN`: the sensor runs, with less. `FAIL`: it does not run."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What one check found. `fix` is a command or a sentence; None where there is nothing to mend."""

    name: str
    status: Status
    detail: str
    fix: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSocket:
    """Where a container engine listens. `http`: Docker's API; otherwise gRPC."""

    name: str
    path: Path
    http: bool


def _engine_sockets() -> tuple[EngineSocket, ...]:
    docker = Path("/run/docker.sock")
    scheme, _, address = os.environ.get("DOCKER_HOST", "").partition("://")
    if scheme == "unix":
        docker = Path(address)
    return (
        EngineSocket(name="docker", path=docker, http=True),
        EngineSocket(name="podman", path=Path("/run/podman/podman.sock"), http=True),
        EngineSocket(name="containerd", path=Path("/run/containerd/containerd.sock"), http=False),
        EngineSocket(name="cri-o", path=Path("/run/crio/crio.sock"), http=False),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The machine under examination; each part can stand for another one in a test."""

    proc_root: Path = Path("/proc")
    sys_root: Path = Path("/sys")
    dist_packages: Path = Path("/usr/lib/python3/dist-packages")
    python: str = sys.executable
    libbpf: str = "libbpf.so.1"
    # The user the sensor becomes once its program is attached.
    user: str = "nobody"
    euid: int = field(default_factory=os.geteuid)
    release: str = field(default_factory=lambda: os.uname().release)
    memlock: int = field(default_factory=lambda: resource.getrlimit(resource.RLIMIT_MEMLOCK)[0])
    sockets: tuple[EngineSocket, ...] = field(default_factory=_engine_sockets)
