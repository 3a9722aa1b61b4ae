"""The flight recorder's memory, as the program leaves it, and execs of a cgroup out of it."""

from __future__ import annotations

import ctypes as ct
from collections.abc import Callable

from sensor.kernel.layout import RECENT, RECORDERS, Recent, Recorder
from sensor.kernel.recorder import FlightRecorder

SIZE = ct.sizeof(Recorder)


def memory(*recorders: tuple[int, Recorder]) -> bytearray:
    raw = bytearray(RECORDERS * SIZE)
    for place, recorder in recorders:
        raw[place * SIZE : (place + 1) * SIZE] = bytes(recorder)
    return raw


def reading(*recorders: tuple[int, Recorder]) -> Callable[[int, int], bytes]:
    raw = bytes(memory(*recorders))
    return lambda start, length: raw[start : start + length]


def recorder(cgroup_id: int, times: list[int], argv: bytes = b"ls\0/\0") -> Recorder:
    made = Recorder(cgroup_id=cgroup_id, count=len(times), last_ns=max(times, default=0))
    for number, exec_ns in enumerate(times):
        recent = Recent(
            exec_ns=exec_ns,
            tgid=number,
            ppid=1,
            euid=33,
            args_total=len(argv),
            args_len=min(len(argv), Recent.args.size),
        )
        head = argv[: Recent.args.size]
        ct.memmove(ct.addressof(recent) + Recent.args.offset, head, len(head))
        made.recent[number % RECENT] = recent
    return made


def test_the_last_execs_of_a_cgroup_in_their_order() -> None:
    subject = FlightRecorder(reading((5, recorder(5, [10, 20, 30]))))
    found = subject.last(5, before_ns=30)
    assert [recent.boottime_ns for recent in found] == [10, 20]
    assert (found[0].args, found[0].uid, found[0].args_truncated) == (("ls", "/"), 33, False)


def test_after_many_execs_the_oldest_are_gone() -> None:
    subject = FlightRecorder(reading((5, recorder(5, list(range(1, RECENT + 4))))))
    found = subject.last(5, before_ns=10**9)
    assert [recent.boottime_ns for recent in found] == list(range(4, RECENT + 4))


def test_a_cgroup_may_stand_in_a_later_place() -> None:
    subject = FlightRecorder(reading((5, recorder(1 + RECORDERS, [1])), (6, recorder(5, [2]))))
    assert [recent.boottime_ns for recent in subject.last(5, before_ns=9)] == [2]


def test_another_cgroup_has_no_past_here() -> None:
    assert FlightRecorder(reading((5, recorder(5, [1])))).last(7, before_ns=9) == ()


def test_an_exec_that_is_being_written_is_left_out() -> None:
    made = recorder(5, [1, 2])
    made.recent[0].exec_ns = 0
    assert len(FlightRecorder(reading((5, made))).last(5, before_ns=9)) == 1


def test_a_long_argv_is_cut_and_says_so() -> None:
    (recent,) = FlightRecorder(reading((5, recorder(5, [1], b"x" * 200 + b"\0")))).last(
        5, before_ns=9
    )
    assert (recent.args, recent.args_truncated) == (("x" * Recent.args.size,), True)
