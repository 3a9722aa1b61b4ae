"""The sensor in the guest, as the cases use it.

In: the loaded probe. Out: events by the mark in their argv, differences of counters, the process
table's keys. Only the standard library and the sensor's kernel side are used: nothing is installed.
"""

from __future__ import annotations

import itertools
import os
import subprocess
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sensor.event import ExecEvent
from sensor.kernel.automaton import build
from sensor.kernel.decode import Decoder
from sensor.kernel.filter import Filter
from sensor.kernel.layout import Mode
from sensor.kernel.probe import Probe
from sensor.kernel.ring import Rings
from sensor.kernel.seed import ProcessTable

# its path as the kernel tells it: in newer user lands /bin is a symbolic link
BUSYBOX = os.path.realpath("/bin/busybox")
PROCESSES_MAX = 512
RING_BYTES = 1 << 20
OTHERS_RING_BYTES = 64 << 10
EVENT_SECONDS = 20
MATCHING, OTHERS, FAILED = 0, 1, 2  # the rings


def boottime_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


@dataclass
class Guest:
    """The attached program and what it has told so far."""

    probe: Probe
    rings: Rings
    decoders: tuple[Decoder, ...]
    events: list[tuple[int, ExecEvent]] = field(default_factory=list)
    _marks: Iterator[int] = field(default_factory=itertools.count)

    @classmethod
    def load(cls, *, by_perf: bool | None = None, failed: bool = False) -> Guest:
        """With `failed` execs that failed are told, too."""
        probe = Probe.load(
            ring_bytes=RING_BYTES,
            others_ring_bytes=OTHERS_RING_BYTES,
            failed_ring_bytes=RING_BYTES if failed else 0,
            processes_max=PROCESSES_MAX,
            silence_s=300,
            by_perf=by_perf,
        )
        offset = time.time_ns() - boottime_ns()
        rings = Rings(*probe.ring_fds, apart=probe.failed_ring_fd)
        decoders = tuple(
            Decoder(
                realtime_offset_ns=offset,
                host_pid_ns=probe.loaded.host_pid_ns,
                host_mnt_ns=probe.loaded.host_mnt_ns,
            )
            for _ in range(rings.count)
        )
        return cls(probe, rings, decoders)

    def close(self) -> None:
        self.rings.close()
        self.probe.close()

    # --- execs ------------------------------------------------------------------------------------

    def mark(self) -> str:
        """An argument that no other exec has."""
        return f"mark-{next(self._marks)}-end"

    def busybox(self, *arguments: str, cwd: str | None = None) -> list[str]:
        """Runs busybox's `true` with these arguments and returns its whole argv."""
        argv = ["busybox", "true", *arguments]
        subprocess.run(argv, executable=BUSYBOX, cwd=cwd, check=True)
        return argv

    # --- what was told ----------------------------------------------------------------------------

    def read(self, timeout_s: float = 0.0) -> None:
        for ring, record in self.rings.poll(timeout_s):
            event = self.decoders[ring].feed(record)
            if event is not None:
                self.events.append((ring, event))

    def with_mark(self, mark: str, ring: int | None = None) -> list[ExecEvent]:
        """The events so far in whose argv the mark is an argument, in one ring or in both."""
        return [
            event
            for number, event in self.events
            if mark in (event.args or ()) and ring in (None, number)
        ]

    def wait(self, mark: str, count: int = 1, ring: int | None = None) -> list[ExecEvent]:
        """The events with the mark, once there are `count`; more or none in time is a failure."""
        deadline = time.monotonic() + EVENT_SECONDS
        while True:
            found = self.with_mark(mark, ring)
            if len(found) >= count or time.monotonic() > deadline:
                break
            self.read(0.2)
        assert len(found) == count, f"{len(found)} events with {mark}, not {count}"
        return found

    def event(self, mark: str, ring: int | None = None) -> ExecEvent:
        return self.wait(mark, 1, ring)[0]

    def run(self, *arguments: str) -> ExecEvent:
        """Runs busybox with a mark behind the arguments; returns what was told of it."""
        mark = self.mark()
        self.busybox(*arguments, mark)
        return self.event(mark)

    # --- counters, filter, process table ----------------------------------------------------------

    @contextmanager
    def counting(self) -> Iterator[Callable[[], dict[str, int]]]:
        """Gives a function that says which counters have moved since, and by how much."""
        before = self.probe.counters()

        def moved() -> dict[str, int]:
            now = self.probe.counters()
            return {name: now[name] - before[name] for name in now if now[name] != before[name]}

        yield moved

    @contextmanager
    def filtering(self, *literals: bytes, mode: Mode = Mode.MATCHING) -> Iterator[None]:
        self.probe.set_filter(Filter.searching(build(literals)))
        self.probe.set_mode(mode)
        try:
            yield
        finally:
            self.no_filter()

    def no_filter(self) -> None:
        self.probe.set_mode(Mode.ALL)
        self.probe.set_filter(Filter())

    def table(self) -> set[int]:
        """The tgids in the kernel's process table."""
        return ProcessTable.of_map(self.probe._descriptors["sn_procs"], PROCESSES_MAX).tgids()


def processes() -> set[int]:
    """The tgids of the processes that there are, without kernel threads and zombies."""
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if os.readlink(f"/proc/{name}/exe"):
                    found.add(int(name))
            except OSError:
                continue
    return found


def in_child(body: Callable[[], object]) -> int:
    """Runs `body` in a child, which must end or exec to exit code 0; returns the child's pid."""
    pid = os.fork()
    if pid == 0:
        try:
            body()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - a child must never return into the parent's code
            traceback.print_exc()
            os._exit(99)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code == 0, f"the child ended with {code}"
    return pid


def argv_bytes(argv: Iterable[str]) -> bytes:
    """An argv as it lies in memory."""
    return b"".join(os.fsencode(argument) + b"\0" for argument in argv)
