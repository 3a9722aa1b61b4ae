"""The kernel's cgroup freezer: pausing a container whose runtime has no call for it.

In: a process of the container. Out: a `Freezer`, for cgroup v1 or v2. The cgroup must be the
container's own by its name, or nothing is frozen: a pid may have been given to another process.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sensor.containers.cgroup import identify
from sensor.errors import SourceError

_WITHIN_S: Final = 5.0
_LOOK_S: Final = 0.01  # v1 tells nobody when the last task has stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class Freezer:
    """One cgroup's switch."""

    directory: Path
    unified: bool

    @property
    def is_frozen(self) -> bool:
        """Whether every task in it has stopped."""
        if self.unified:
            return "frozen 1" in self._read("cgroup.events").splitlines()
        return self._read("freezer.state") == "FROZEN"

    def freeze(self) -> None:
        """Stop every task in it. Raises SourceError where one does not stop in time; then none is."""
        self._switch("1" if self.unified else "FROZEN")
        if not self._await(frozen=True):
            self.thaw()
            raise SourceError(f"{self.directory}: not every process stopped in {_WITHIN_S:g} s")

    def thaw(self) -> None:
        """Let them run."""
        self._switch("0" if self.unified else "THAWED")
        self._await(frozen=False)

    def _await(self, *, frozen: bool) -> bool:
        deadline = time.monotonic() + _WITHIN_S
        while self.is_frozen is not frozen:
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_S)
        return True

    def _switch(self, value: str) -> None:
        path = self.directory / ("cgroup.freeze" if self.unified else "freezer.state")
        try:
            path.write_text(value)
        except OSError as error:
            raise SourceError(f"{path}: {error.strerror}") from error

    def _read(self, name: str) -> str:
        try:
            return (self.directory / name).read_text().strip()
        except OSError as error:
            raise SourceError(f"{self.directory / name}: {error.strerror}") from error


def cgroup_lines(process: str, proc_root: Path) -> list[str]:
    """The lines of a process's cgroup file, by its pid or `self`; none where it cannot be read."""
    try:
        return (proc_root / process / "cgroup").read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []


def freezer_of(
    pid: int,
    container_id: str,
    *,
    proc_root: Path = Path("/proc"),
    cgroup_root: Path = Path("/sys/fs/cgroup"),
) -> Freezer | None:
    """The freezer of the container that the process is in; None where there is none to be found."""
    if not pid:
        return None
    for line in cgroup_lines(str(pid), proc_root):
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if identify(path).container_id != container_id:
            continue
        relative = path.lstrip("/")
        if "freezer" in controllers.split(","):
            directory = cgroup_root / "freezer" / relative
            if (directory / "freezer.state").is_file():
                return Freezer(directory=directory, unified=False)
        elif not controllers:
            for root in (cgroup_root, cgroup_root / "unified"):
                if (root / relative / "cgroup.freeze").is_file():
                    return Freezer(directory=root / relative, unified=True)
    return None
