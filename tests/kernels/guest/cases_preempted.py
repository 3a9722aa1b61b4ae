"""Cases: the program is preempted by a task that does an exec, a fork or an exit on the same CPU."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

from harness import BUSYBOX, MATCHING, Guest

from sensor.kernel.layout import Mode

CPU = 0
EXECS = 150
SECONDS = 120
PADDING = ["p" * 1000] * 120
FIFO = os.sched_param(1)


def preempted_by_an_exec(guest: Guest) -> dict[str, object]:
    """an urgent task does execs on a CPU that searches long argv: each is told once, none is missed"""
    needle, other = guest.mark(), guest.mark()

    def search() -> None:
        while True:
            _run(["busybox", "true", other, *PADDING])

    def be_urgent() -> None:
        os.sched_setscheduler(0, os.SCHED_FIFO, FIFO)
        for _ in range(EXECS):
            _run(["busybox", "true", needle])
            time.sleep(0.002)  # the others' turn
        os._exit(0)

    with (
        guest.filtering(b"\0" + needle.encode() + b"\0", mode=Mode.MATCHING),
        guest.counting() as moved,
    ):
        searching = [_on_the_cpu(search) for _ in range(2)]
        urgent = _on_the_cpu(be_urgent)
        ended, deadline = False, time.monotonic() + SECONDS
        while not ended:
            assert time.monotonic() < deadline, "the urgent execs did not end"
            guest.read(0.1)
            ended = os.waitpid(urgent, os.WNOHANG)[0] == urgent
        for pid in searching:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        guest.wait(needle, EXECS, MATCHING)
        counted = moved()
    assert "missed" not in counted, counted
    return {"execs": counted["execs"]}


def _on_the_cpu(body: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            os.sched_setaffinity(0, {CPU})
            body()
        finally:
            os._exit(99)
    return pid


def _run(argv: list[str]) -> None:
    os.waitpid(os.posix_spawn(BUSYBOX, argv, {}), 0)
