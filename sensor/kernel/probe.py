"""The running sensor's side of the program: starts the loader, keeps what it handed over.

In: a request for the loader. Out: a `Probe` with the ring's descriptor and the maps as memory. After
`load()` nothing here needs a privilege: the maps are read and written through mmap, never through
bpf(), which older kernels refuse to a process without capabilities.
"""

from __future__ import annotations

import ctypes as ct
import mmap
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sensor.child import SILENCE_S, worked
from sensor.errors import ProbeError
from sensor.event import Cgroup
from sensor.kernel import handover
from sensor.kernel.failed import CHAINS, RING
from sensor.kernel.filter import Filter
from sensor.kernel.layout import (
    CGROUP_HOST,
    CGROUP_V1,
    CGROUPS,
    FILTER_BANK,
    STAT_COUNT,
    Bank,
    Config,
    Mode,
    Stat,
)
from sensor.kernel.recorder import FlightRecorder

_END_S = 2.0  # for a loader that told of an error, to end by itself
_PROCESSES_MIN = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What the loader told beside the descriptors. Namespaces are inode numbers, None if unknown.

    `may_miss` says why the program can be preempted here, which loses execs; None: it cannot.
    `at_every_call`: execs that failed are looked for at the end of every system call of the machine.
    """

    host_pid_ns: int | None
    host_mnt_ns: int | None
    seeded: int
    load_seconds: float
    may_miss: str | None = None
    at_every_call: bool = False


def possible_cpus(sys_root: Path = Path("/sys")) -> int:
    """How many CPUs the kernel may ever number: counters have a row for each."""
    text = (sys_root / "devices/system/cpu/possible").read_text().strip()
    return int(text.replace(",", "-").rsplit("-", 1)[-1]) + 1


class Probe:
    """The attached program. Closing it detaches everything: nothing is pinned."""

    def __init__(self, descriptors: Mapping[str, int], loaded: Loaded, cpus: int) -> None:
        self.loaded = loaded
        self._descriptors = dict(descriptors)
        self._cpus = cpus
        self._stats = memoryview(self._map("sn_stats", cpus * STAT_COUNT * 8)).cast("Q")
        self._config = Config.from_buffer(self._map("sn_config", ct.sizeof(Config)))
        self._links = {
            name.removeprefix("link:"): (fd, _fdinfo(fd, "link_id"))
            for name, fd in self._descriptors.items()
            if name.startswith("link:")
        }
        self._spares_the_host = False
        self._cgroups = memoryview(self._map("sn_cgroups", CGROUPS * 8)).cast("Q")
        # The two large maps are mapped a part at a time, when they are used: what is mapped counts as
        # this process's memory, too.
        self.recorder = FlightRecorder(self._read_recorders)

    @classmethod
    def load(
        cls,
        *,
        ring_bytes: int = 4 << 20,
        others_ring_bytes: int = 4096,
        failed_ring_bytes: int = 0,
        processes_max: int = 16384,
        proc_root: str = "/proc",
        silence_s: float = SILENCE_S,
        by_perf: bool | None = None,
    ) -> Probe:
        """Compiles, loads and attaches in a child, which may do nothing for `silence_s` seconds.

        With a ring for them, execs that failed are told, too. `by_perf` attaches to trace events instead
        of raw tracepoints; None: where a kernel may preempt the latter. Raises `ProbeError` with the
        loader's last words.
        """
        cpus = possible_cpus()
        request = {
            "cpus": cpus,
            "ring_pages": ring_bytes // mmap.PAGESIZE,
            "others_pages": max(1, others_ring_bytes // mmap.PAGESIZE),
            "failed_pages": failed_ring_bytes // mmap.PAGESIZE,
            "processes_max": 1 << (max(processes_max, _PROCESSES_MIN) - 1).bit_length(),
            "proc_root": proc_root,
            "by_perf": by_perf,
        }
        # The child is root: it must find the same package as we are, and nothing in the working
        # directory (-P), where anybody may have put a json.py.
        environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
        ours, theirs = handover.pair()
        with ours, theirs:
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", "sensor.kernel.loader", str(theirs.fileno())],
                env=environment,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
            theirs.close()
            try:
                reply, fds = handover.ask(ours, request, lambda: worked(child.pid), silence_s)
            except ProbeError as exc:
                raise ProbeError(f"{exc}{_last_words(child)}") from exc
            child.communicate()
        loaded = Loaded(
            host_pid_ns=reply["host_pid_ns"],
            host_mnt_ns=reply["host_mnt_ns"],
            seeded=reply["seeded"],
            load_seconds=reply["seconds"]["load"],
            may_miss=reply["may_miss"],
            at_every_call=reply["at_every_call"],
        )
        return cls(dict(zip(reply["descriptors"], fds, strict=True)), loaded, cpus)

    @property
    def ring_fds(self) -> tuple[int, int]:
        """The ring of execs that a rule could match, and that of the others."""
        return self._descriptors["sn_events"], self._descriptors["sn_others"]

    @property
    def failed_ring_fd(self) -> int | None:
        """The ring of execs that failed; None where they are not told."""
        return self._descriptors.get(RING)

    def set_mode(self, mode: Mode) -> None:
        self._config.mode = mode
        self._use_what_is_known()

    def set_filter(self, wanted: Filter) -> None:
        """Puts a filter to work by one write.

        The bank that is written is the one not in use. Searches that began with the bank before
        last are long over: one takes microseconds, and reloads come from people. Raises `ProbeError`.
        """
        number = self._config.filter & FILTER_BANK
        if (automaton := wanted.automaton) is not None:
            number = 1 - number
            start = number * _rounded(ct.sizeof(Bank))
            raw = automaton.transitions.tobytes()
            with self._part("sn_banks", start, Bank.next.offset + len(raw)) as (bank, at):
                bank[at : at + len(automaton.classes)] = automaton.classes
                table = at + Bank.next.offset
                bank[table : table + len(raw)] = raw
        self._spares_the_host = wanted.spares_the_host
        self._config.failed = wanted.failed_word(number)
        self._config.filter = wanted.word(number)
        self._use_what_is_known()

    def know_the_host(self, sensor_tgid: int, pid_ns: int | None, mnt_ns: int | None) -> None:
        """From here on the host's execs may be spared; what the sensor starts itself never is.

        `sensor_tgid` is the sensor's number as the kernel counts, from outside of any container.
        """
        self._config.pid_ns, self._config.mnt_ns = pid_ns or 0, mnt_ns or 0
        self._config.sensor_tgid = sensor_tgid
        self._use_what_is_known()

    def _use_what_is_known(self) -> None:
        of_use = self._spares_the_host or self._config.mode == Mode.CONTAINERS
        self._config.knows_host = of_use and self._config.sensor_tgid != 0

    def note_host_cgroup(self, cgroups: tuple[Cgroup, ...]) -> None:
        """Tells the program that a process with these cgroups, the default one first, is in no container.

        That must follow from their paths alone: processes of other namespaces are judged by it, too.
        """
        if not self._config.sensor_tgid:
            return
        key = cgroups[0].id + sum(cgroup.id * CGROUP_V1 for cgroup in cgroups[1:])
        place = key % CGROUPS
        word = (key << 1 | CGROUP_HOST) & (1 << 64) - 1
        if self._cgroups[place] != word:
            self._cgroups[place] = word

    def counters(self) -> dict[str, int]:
        """Totals over all CPUs since the program was loaded, by the counter's name in lower case."""
        rows = self._stats.tolist()
        totals = {stat.name.lower(): sum(rows[stat::STAT_COUNT]) for stat in Stat}
        totals["missed"] = self.missed()
        totals["failed_lost"] += sum(self._refusals(chain.first) for chain in CHAINS)
        return totals

    def missed(self) -> int:
        """Runs the kernel skipped because a program was already running on that CPU."""
        return sum(self._refusals(name) for name in ("on_exec", "on_fork", "on_exit"))

    def _refusals(self, program: str) -> int:
        fd = self._descriptors.get(f"prog:{program}")
        return 0 if fd is None else _fdinfo(fd, "recursion_misses") or 0

    def detached(self) -> list[str]:
        """The programs whose attachment is gone: its descriptor is closed, or another's by now.

        A descriptor is all that holds one, and no privilege is needed to look at one's own.
        """
        return [name for name, (fd, link) in self._links.items() if not _is_link(fd, link)]

    def close(self) -> None:
        for fd in self._descriptors.values():
            with suppress(OSError):  # somebody closed it already: that is what `detached` tells
                os.close(fd)
        self._descriptors.clear()

    def _read_recorders(self, start: int, length: int) -> bytes:
        with self._part("sn_recorders", start, length) as (memory, at):
            return memory[at : at + length]

    @contextmanager
    def _part(self, name: str, start: int, length: int) -> Iterator[tuple[mmap.mmap, int]]:
        """A part of a map for a while: memory, and where in it the part begins."""
        first = start - start % mmap.ALLOCATIONGRANULARITY
        try:
            memory = self._map(name, start - first + length, first)
        except OSError as exc:
            raise ProbeError(f"{name} cannot be mapped: {exc.strerror}") from exc
        with memory:
            yield memory, start - first

    def _map(self, name: str, size: int, first: int = 0) -> mmap.mmap:
        return mmap.mmap(
            self._descriptors[name],
            _rounded(size, mmap.PAGESIZE),
            mmap.MAP_SHARED,
            mmap.PROT_READ | mmap.PROT_WRITE,
            offset=first,
        )


def _last_words(child: subprocess.Popen[bytes]) -> str:
    """Ends the loader and returns what killed it, if something did, and the end of what it printed."""
    killer = ""
    try:
        _, noise = child.communicate(timeout=_END_S)
    except subprocess.TimeoutExpired:
        child.kill()
        _, noise = child.communicate()
    else:
        if child.returncode < 0:
            killer = f" (killed by {signal.Signals(-child.returncode).name})"
    said = noise.decode(errors="backslashreplace").splitlines()[-12:]
    return "\n".join([killer, *said])


def _rounded(size: int, to: int = 8) -> int:
    return (size + to - 1) // to * to


def _is_link(fd: int, link_id: int | None) -> bool:
    """Whether the descriptor still is this link; None is a kernel that does not tell the number."""
    try:
        target = os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return False
    except OSError:
        return True  # not to be looked at is not gone
    if not target.startswith("anon_inode:bpf"):
        return False
    now = _fdinfo(fd, "link_id")
    return link_id is None or now is None or now == link_id


def _fdinfo(fd: int, key: str) -> int | None:
    """A number from the kernel's description of a descriptor; it needs no privilege."""
    try:
        lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name == key:
            return int(value)
    return None
