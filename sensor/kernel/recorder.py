"""The flight recorder's other side: what a cgroup did just before, read when an alert asks for it.

In: reads of the map, which the program writes all the time. Out: the last execs of one cgroup. Until
somebody asks, this costs user space nothing.
"""

from __future__ import annotations

import ctypes as ct
from collections.abc import Callable

from sensor.event import RecentExec
from sensor.kernel.decode import split_argv
from sensor.kernel.layout import RECENT, RECORDERS, RECORDERS_WAYS, Recent, Recorder

_SIZE = ct.sizeof(Recorder)
_ARGS = Recent.args.offset


class FlightRecorder:
    """Reads a copy, since the program goes on writing; an exec that is being written is left out.

    `read` gives the map's bytes by start and length, or raises `ProbeError`.
    """

    def __init__(self, read: Callable[[int, int], bytes]) -> None:
        self._read = read

    def last(self, cgroup_id: int, *, before_ns: int) -> tuple[RecentExec, ...]:
        """The cgroup's execs before the time (CLOCK_BOOTTIME), oldest first; none if it has none.

        Raises `ProbeError` when the map cannot be read.
        """
        for way in range(RECORDERS_WAYS):
            start = (cgroup_id + way) % RECORDERS * _SIZE
            raw = self._read(start, _SIZE)
            recorder = Recorder.from_buffer_copy(raw)
            if recorder.cgroup_id == cgroup_id:
                return _execs(recorder, raw, before_ns)
        return ()


def _execs(recorder: Recorder, raw: bytes, before_ns: int) -> tuple[RecentExec, ...]:
    base = Recorder.recent.offset
    found = []
    for index in range(min(recorder.count, RECENT)):
        recent = recorder.recent[index]
        if not 0 < recent.exec_ns < before_ns:
            continue
        start = base + index * ct.sizeof(Recent) + _ARGS
        length = min(recent.args_len, Recent.args.size)
        found.append(
            RecentExec(
                boottime_ns=recent.exec_ns,
                pid=recent.tgid,
                ppid=recent.ppid,
                uid=recent.euid,
                args=split_argv(raw[start : start + length]),
                args_truncated=recent.args_total > length,
            )
        )
    return tuple(sorted(found, key=lambda recent: recent.boottime_ns))
