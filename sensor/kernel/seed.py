"""The process table's first content: the processes that ran before the sensor, from /proc.

In: the map, whose programs are attached already. Out: an entry for each process. The programs write
at the same time, so an entry is compared with /proc once it is written, and written again where the
process has done an exec meanwhile: what the program writes of that exec, it writes later.
"""

from __future__ import annotations

import ctypes as ct
import mmap
import os
from pathlib import Path

from sensor.kernel.layout import FILENAME_LEN, IMAGE_LEN, PROCS_WAYS, Proc

_SIZE = ct.sizeof(Proc)
_CMDLINE_MAX = 1 << 21
_ATTEMPTS = 3


class ProcessTable:
    """The table as memory: `places` entries, a power of two."""

    def __init__(self, memory: mmap.mmap | bytearray, places: int) -> None:
        self._memory = memory
        self._places = places

    @classmethod
    def of_map(cls, fd: int, places: int) -> ProcessTable:
        size = -(-places * _SIZE // mmap.PAGESIZE) * mmap.PAGESIZE
        return cls(mmap.mmap(fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE), places)

    def tgids(self) -> set[int]:
        """Which processes are in the table."""
        found = {self._at(place).tgid for place in range(self._places)}
        return found - {0}

    def put(self, tgid: int, cmdline: bytes, filename: bytes) -> bool:
        """Whether there was a place."""
        free = None
        for way in range(PROCS_WAYS):
            proc = self._at((tgid + way * (self._places // PROCS_WAYS)) % self._places)
            if proc.tgid == tgid:
                break
            if free is None and not proc.tgid:
                free = proc
        else:
            if free is None:
                return False
            proc = free
        proc.tgid = tgid
        name = filename + b"\0" if len(filename) < FILENAME_LEN else b""
        text = (name + cmdline)[:IMAGE_LEN]
        image = proc.image
        image.args_total = len(cmdline)
        image.filename_len, image.text_len = len(name), len(text)
        image.text[: len(text)] = text
        return True

    def remove(self, tgid: int) -> None:
        for way in range(PROCS_WAYS):
            proc = self._at((tgid + way * (self._places // PROCS_WAYS)) % self._places)
            if proc.tgid == tgid:
                proc.tgid = 0

    def _at(self, place: int) -> Proc:
        return Proc.from_buffer(self._memory, place * _SIZE)


def seed(map_fd: int, places: int, proc_root: Path) -> int:
    """Put the processes there are into the table; returns how many."""
    table = ProcessTable.of_map(map_fd, places)
    return sum(_put(table, entry) for entry in proc_root.iterdir() if entry.name.isdigit())


def _put(table: ProcessTable, entry: Path) -> bool:
    tgid = int(entry.name)
    known = _started_as(entry)
    for _ in range(_ATTEMPTS):
        if known is None or not table.put(tgid, *known):
            return False
        now = _started_as(entry)
        if now is None:
            table.remove(tgid)
        if now == known:
            return True
        known = now
    return True


def _started_as(entry: Path) -> tuple[bytes, bytes] | None:
    """Argv and the path of the executable; None for what is gone, and for kernel threads."""
    try:
        with (entry / "cmdline").open("rb") as file:
            cmdline = file.read(_CMDLINE_MAX)
        return cmdline, os.fsencode(os.readlink(entry / "exe"))
    except OSError:
        return None
