"""A process in a cgroup that looks like a container's, where no engine has a hand in it."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType


def hierarchies(mountinfo: Path = Path("/proc/self/mountinfo")) -> list[Path]:
    """Where the cgroup hierarchies of this machine are mounted, v1 and v2."""
    found = []
    for line in mountinfo.read_text().splitlines():
        before, _, after = line.partition(" - ")
        if after.split(" ", 1)[0] in ("cgroup", "cgroup2"):
            found.append(Path(before.split()[4]))
    return found


class CgroupOfItsOwn:
    """The cgroup `path` (bytes, relative to each hierarchy's root), made and removed again."""

    def __init__(self, path: bytes) -> None:
        self._path = Path(os.fsdecode(path))
        self._made: list[Path] = []
        self._joinable: list[Path] = []

    def __enter__(self) -> Self:
        for root in hierarchies():
            directory = root
            with suppress(OSError):  # a read-only hierarchy; the others do
                for part in self._path.parts:
                    directory /= part
                    if not directory.is_dir():
                        directory.mkdir()
                        self._made.append(directory)
                self._joinable.append(directory / "cgroup.procs")
        return self

    def run(self, command: Sequence[str]) -> None:
        """Run a command in it, and wait for its end."""
        subprocess.run(command, capture_output=True, check=False, preexec_fn=self.join)

    def join(self) -> None:
        """Move the calling process into it."""
        for procs in self._joinable:
            with suppress(OSError):  # cpuset takes nobody in before it has CPUs
                procs.write_text("0")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for directory in reversed(self._made):
            directory.rmdir()
