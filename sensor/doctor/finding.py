"""The answer of a check, and the machine it is asked of."""

from __future__ import annotations

import os
import re
import resource
import sys
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from sensor.containers.discovery import WELL_KNOWN

if TYPE_CHECKING:
    from collections.abc import Iterable


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


def well_known_sockets() -> tuple[Path, ...]:
    """The sockets of engines that are on this machine, each once."""
    patterns = list(WELL_KNOWN)
    scheme, _, address = os.environ.get("DOCKER_HOST", "").partition("://")
    if scheme == "unix":
        patterns.insert(0, address)
    root = Path("/")
    found = [path for pattern in patterns for path in sorted(root.glob(pattern.lstrip("/")))]
    # /var/run is mostly a link to /run.
    return tuple({path.resolve(): path for path in found})


def named_sockets(specs: Iterable[str]) -> tuple[Path, ...]:
    """The paths of sockets as the configuration names them: `PATH`, `docker:PATH` or `cri:PATH`."""
    return tuple(Path(re.sub(r"^[a-z]+:(?://)?(?=/)", "", spec)) for spec in specs)


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
    sockets: tuple[Path, ...] = field(default_factory=well_known_sockets)
