"""Loads and meters that the benchmarks share: storms of execs, the running sensor, what a process costs.

A load runs on the host, or in a cgroup named like a container's, so that no engine is needed.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SENSOR = HERE.parent / ".venv/bin/sensor"
CGROUPS = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")
STATS = Path("/proc/sys/kernel/bpf_stats_enabled")
CPUS = os.cpu_count() or 1
_MAPPING = re.compile(r"([0-9a-f]+)-[0-9a-f]+ \S{4} \S+ \S+ \S+ *(.*)")
_ARENA = 64 << 20
# Ends at once: no C library, so that the storm is made of execs and of little else.
NOOP = b"""
void _start(void)
{
#if defined(__x86_64__)
    __asm__ volatile("syscall" : : "a"(231), "D"(0));
#elif defined(__aarch64__)
    register long number __asm__("x8") = 94, code __asm__("x0") = 0;
    __asm__ volatile("svc 0" : : "r"(number), "r"(code));
#endif
    for (;;)
        ;
}
"""


def compiled(directory: Path) -> tuple[Path, Path]:
    """The storm, and the smallest program it can start."""
    storm, noop = directory / "execstorm", directory / "noop"
    subprocess.run(["cc", "-O2", "-static", "-o", storm, HERE / "execstorm.c"], check=True)
    subprocess.run(
        ["cc", "-O2", "-static", "-nostdlib", "-x", "c", "-o", noop, "-"],
        input=NOOP,
        check=True,
    )
    return storm, noop


@contextmanager
def container_cgroup() -> Iterator[Path]:
    """A cgroup that looks like a Docker container's."""
    root = next(Path(p) for p in CGROUPS if Path(p, "cgroup.controllers").exists())
    docker = root / "docker"
    made = not docker.exists()
    leaf = docker / os.urandom(32).hex()
    leaf.mkdir(parents=True)
    try:
        yield leaf
    finally:
        leaf.rmdir()
        if made:
            docker.rmdir()


def run_in(cgroup: Path | None, command: list[str]) -> str:
    """What the command printed; with None it ran where we are."""

    def enter() -> None:
        if cgroup is not None:
            (cgroup / "cgroup.procs").write_text(str(os.getpid()))

    return subprocess.run(
        command, check=True, capture_output=True, text=True, preexec_fn=enter
    ).stdout


class Sensor:
    """The running sensor; alert lines are stamped as they are read. By default it sends every alert."""

    def __init__(self, *arguments: str, every_alert: bool = True) -> None:
        started = time.monotonic()
        if every_alert:
            arguments = ("--no-limit", "--no-collapse", *arguments)
        self.process = subprocess.Popen(
            [SENSOR, "run", "--output", "json", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stderr is not None
        self.said: list[str] = []
        for line in self.process.stderr:
            self.said.append(line)
            if line.startswith("sensor ready"):
                break
        else:
            sys.exit("the sensor did not start:\n" + "".join(self.said))
        self.ready_s = time.monotonic() - started
        self.lines: list[tuple[int, str]] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append((time.time_ns(), line))

    def wait_for(self, count: int, timeout_s: float = 20) -> None:
        deadline = time.monotonic() + timeout_s
        while len(self.lines) < count and time.monotonic() < deadline:
            time.sleep(0.005)

    def drain(self) -> None:
        """Reads its messages until it ends, where there are more than a pipe holds."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said[:] = [*self.said[-99:], line]

    def stop(self) -> str:
        """Ends it; returns its last line, the summary."""
        self.process.terminate()
        self.drain()
        self.process.wait()
        self._reader.join()
        return self.said[-1].strip()


def pss_mb(pid: int) -> float:
    """Its share of memory: what others map as well is divided among them, so it moves with them."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return float("nan")


@dataclass(slots=True)
class Memory:
    """What a process takes, in MB, by cause. `pss` is all of it, `anonymous` what is its alone.

    Of the anonymous memory `heap` is the C library's main heap and `arenas` its further ones, which
    threads get; `objects` are the interpreter's own arenas, with the threads' stacks; `libraries` what
    programs and libraries have written to of their data. Beside it `maps` are BPF maps that are mapped,
    which the kernel counts once more as its own.
    """

    pss: float = 0.0
    anonymous: float = 0.0
    heap: float = 0.0
    arenas: float = 0.0
    objects: float = 0.0
    libraries: float = 0.0
    maps: float = 0.0


def memory_of(pid: int) -> Memory:
    found = Memory()
    kind = "objects"
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if mapping := _MAPPING.match(line):
            kind = _kind_of(int(mapping[1], 16), mapping[2])
        elif line.startswith(("Pss:", "Anonymous:")):
            name, size = line.split()[0], int(line.split()[1]) / 1024
            if name == "Pss:":
                found.pss += size
                found.maps += size * (kind == "maps")
            else:
                found.anonymous += size
                if kind != "maps":
                    setattr(found, kind, getattr(found, kind) + size)
    return found


def _kind_of(start: int, name: str) -> str:
    if name == "[heap]":
        return "heap"
    if name.startswith("anon_inode:bpf"):
        return "maps"
    if name.startswith("/"):
        return "libraries"
    # glibc's arenas other than the first begin at multiples of this.
    return "arenas" if not name and start % _ARENA == 0 else "objects"


def cpu_s(pid: int) -> float:
    """What all threads of a process had of processors, in user space and in the kernel."""
    total = 0
    for thread in Path(f"/proc/{pid}/task").iterdir():
        with suppress(OSError):  # ended meanwhile
            total += int((thread / "schedstat").read_text().split()[0])
    return total / 1e9


def bpf_time(pid: int) -> int:
    """Nanoseconds that all programs a process holds have run; needs `bpf_stats`."""
    return sum(int(info["run_time_ns"]) for info in _descriptors(pid, "prog_id").values())


def map_mb(pid: int) -> float:
    """Memory of all maps a process holds, as the kernel accounts for it."""
    maps = _descriptors(pid, "map_id").values()
    return sum(int(info["memlock"]) for info in maps) / (1 << 20)


def _descriptors(pid: int, key: str) -> dict[str, dict[str, str]]:
    """What /proc says of a process's BPF descriptors, each program and each map once."""
    found = {}
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        with suppress(OSError):
            lines = dict(
                line.split(":", 1) for line in info.read_text().splitlines() if ":" in line
            )
            # A link names its program, too; only the program itself has a time.
            if key in lines and ("run_time_ns" in lines or "memlock" in lines):
                found[lines[key]] = lines
    return found


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def storm(
    program: tuple[Path, Path],
    cgroup: Path | None,
    execs: int | str,
    *,
    long: bool = False,
    every: int = 0,
    tag: str = "storm",
) -> dict[str, Any]:
    """One worker a processor; `execs` of each, or seconds like "60s". What execstorm.c tells."""
    extra, size = ("8", "1000") if long else ("0", "0")
    arguments = [str(CPUS), str(execs), extra, size, str(every), tag, str(program[1])]
    result: dict[str, Any] = json.loads(run_in(cgroup, [str(program[0]), *arguments]))
    return result


@contextmanager
def bpf_stats() -> Iterator[None]:
    before = STATS.read_text()
    STATS.write_text("1")
    try:
        yield
    finally:
        STATS.write_text(before)
