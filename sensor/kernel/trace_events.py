"""Trace events: opened by their numbers in tracefs, and a program attached to one by way of perf.

A raw tracepoint may be preempted on newer kernels, and the kernel refuses a program to a second task
on the same CPU meanwhile. perf turns preemption off around what it calls, as the programs of that
kind are promised; its price is a record of the event for each call.
"""

from __future__ import annotations

import ctypes as ct
import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from sensor.errors import ProbeError
from sensor.kernel.libbpf import libbpf

# The first release in which a raw tracepoint may be preempted.
_PREEMPTIBLE_SINCE = (6, 19)
MOUNT = Path("/sys/kernel/tracing")

# System calls have these numbers on every machine, but for perf_event_open.
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}
_FSCONFIG_CMD_CREATE = 6
_PERF_TYPE_TRACEPOINT = 2
_PERF_FLAG_FD_CLOEXEC = 8
_BPF_PERF_EVENT = 41
_EVERY_PROCESS = -1


class _PerfEventAttr(ct.Structure):
    """The kernel's struct perf_event_attr in its first version, of 64 bytes."""

    _fields_ = (
        ("type", ct.c_uint32),
        ("size", ct.c_uint32),
        ("config", ct.c_uint64),
        ("rest", ct.c_uint64 * 6),
    )


def are_needed(release: str) -> bool:
    """Whether that kernel may preempt a program at a raw tracepoint; true for one not understood."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return found is None or (int(found[1]), int(found[2])) >= _PREEMPTIBLE_SINCE


def open_events(events: Mapping[str, str]) -> dict[str, int]:
    """Descriptors of the events, of every process, by their names of the caller's.

    An event is named as `sched/sched_process_exec`. Raises `ProbeError` with what is refused.
    """
    try:
        with TraceFs() as tracefs:
            numbers = {name: tracefs.number(event) for name, event in events.items()}
    except OSError as exc:
        raise ProbeError(f"tracefs is not there and cannot be mounted: {exc.strerror}") from exc
    try:
        return {name: _opened(number) for name, number in numbers.items()}
    except OSError as exc:
        raise ProbeError(f"perf_event_open: {exc.strerror}") from exc


class TraceFs:
    """tracefs: as it is mounted, or for this process alone. Raises OSError where neither can be had."""

    def __init__(self, mount: Path = MOUNT) -> None:
        if (mount / "events").is_dir():
            self._directory = os.open(mount, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        else:
            self._directory = _mounted_nowhere()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._directory)

    def number(self, event: str) -> int:
        """Of an event named as `sched/sched_process_exec`. Raises OSError when there is none."""
        fd = os.open(f"events/{event}/id", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory)
        with os.fdopen(fd) as file:
            return int(file.read())


def _opened(number: int) -> int:
    attributes = _PerfEventAttr(
        type=_PERF_TYPE_TRACEPOINT, size=ct.sizeof(_PerfEventAttr), config=number
    )
    # The program runs on each CPU, whichever the event is opened on.
    cpu = min(os.sched_getaffinity(0))
    call = _PERF_EVENT_OPEN.get(os.uname().machine)
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return _call(call, ct.byref(attributes), _EVERY_PROCESS, cpu, -1, _PERF_FLAG_FD_CLOEXEC)


def attach(name: str, fd: int, event: int) -> int:
    """Attach a loaded program to an opened event; the attachment lasts as long as the descriptor returned."""
    link: int = libbpf().bpf_link_create(fd, event, _BPF_PERF_EVENT, None)
    if link < 0:
        raise ProbeError(f"the program {name} cannot be attached: {os.strerror(-link)}")
    return link


def _mounted_nowhere() -> int:
    context = _call(_FSOPEN, b"tracefs", 0)
    try:
        _call(_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        return _call(_FSMOUNT, context, 0, 0)
    finally:
        os.close(context)


def _call(number: int, *arguments: object) -> int:
    """A system call that the C library has no function for. Raises OSError."""
    libc = ct.CDLL(None, use_errno=True)
    libc.syscall.restype = ct.c_long
    result: int = libc.syscall(
        ct.c_long(number), *(ct.c_long(a) if isinstance(a, int) else a for a in arguments)
    )
    if result < 0:
        error = ct.get_errno()
        raise OSError(error, os.strerror(error))
    return result
