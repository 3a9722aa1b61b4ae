"""What the sensor costs and how fast it is, on the machine at hand, against the same load without it.

In: root, a C compiler. Out: a table for docs/operations.md. Loads run in a cgroup named like a
container's, so that no engine is needed; every number with a ratio was measured in alternating rounds
of one run. Where bpftrace is installed, a one-liner that prints argv at exec runs in the same rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SENSOR = HERE.parent / ".venv/bin/sensor"
CGROUPS = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")
BPFTRACE_ARGV = "tracepoint:syscalls:sys_enter_execve { join(args->argv); }"
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
STATS = Path("/proc/sys/kernel/bpf_stats_enabled")


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


def in_cgroup(cgroup: Path, command: list[str]) -> str:
    def enter() -> None:
        (cgroup / "cgroup.procs").write_text(str(os.getpid()))

    return subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        preexec_fn=enter,
    ).stdout


class Sensor:
    """The running sensor; alert lines are stamped as they are read."""

    def __init__(self, *arguments: str) -> None:
        started = time.monotonic()
        self.process = subprocess.Popen(
            [SENSOR, "run", "--output", "json", "--no-limit", "--no-collapse", *arguments],
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

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def pss_mb(self) -> float:
        return pss_mb(self.process.pid)

    def bpf(self) -> tuple[int, int]:
        return bpf_time(self.process.pid)

    def stop(self) -> str:
        self.process.terminate()
        assert self.process.stderr is not None
        rest = self.process.stderr.read()
        self.process.wait()
        self._reader.join()
        return rest.strip().rpartition("\n")[2]


def pss_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return float("nan")


def bpf_time(pid: int) -> tuple[int, int]:
    """Nanoseconds and runs of all programs a process holds, each program once."""
    seen: dict[str, tuple[int, int]] = {}
    for info in Path(f"/proc/{pid}/fdinfo").iterdir():
        try:
            lines = dict(
                line.split(":", 1) for line in info.read_text().splitlines() if ":" in line
            )
        except OSError:
            continue
        if "run_time_ns" in lines:
            seen[lines["prog_id"]] = (int(lines["run_time_ns"]), int(lines["run_cnt"]))
    return sum(time for time, _ in seen.values()), max((n for _, n in seen.values()), default=0)


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def latency(sensor: Sensor, cgroup: Path, program: Path, count: int) -> list[float]:
    """Milliseconds from the exec in the kernel to the line in the reader's hands."""
    grep = program.with_name("grep")
    shutil.copy(program, grep)
    before = len(sensor.lines)
    for number in range(count):
        in_cgroup(cgroup, [str(grep), "-r", "aws_access_key_id", str(number)])
        sensor.wait_for(before + number + 1, 5)
    delays = []
    for arrived, line in sensor.lines[before:]:
        stamp = json.loads(line)["@timestamp"]
        delays.append((arrived / 1e9 - datetime.fromisoformat(stamp).timestamp()) * 1000)
    return delays


def storm(
    program: tuple[Path, Path], cgroup: Path, execs: int, *, long: bool = False, every: int = 0
) -> dict[str, Any]:
    extra, size = ("8", "1000") if long else ("0", "0")
    command = [
        str(program[0]),
        str(os.cpu_count()),
        str(execs),
        extra,
        size,
        str(every),
        "storm",
        str(program[1]),
    ]
    result: dict[str, Any] = json.loads(in_cgroup(cgroup, command))
    return result


@contextmanager
def bpf_stats() -> Iterator[None]:
    before = STATS.read_text()
    STATS.write_text("1")
    try:
        yield
    finally:
        STATS.write_text(before)


@contextmanager
def bpftrace() -> Iterator[subprocess.Popen[bytes] | None]:
    """The one-liner that prints argv, once it is attached; None where it is not installed."""
    if shutil.which("bpftrace") is None:
        yield None
        return
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            ["bpftrace", "-e", BPFTRACE_ARGV], stdout=output, stderr=subprocess.DEVNULL
        )
        deadline = time.monotonic() + 20
        while bpf_time_or_none(process.pid) is None and time.monotonic() < deadline:
            time.sleep(0.1)
        yield process
        process.terminate()
        process.wait()


def bpf_time_or_none(pid: int) -> tuple[int, int] | None:
    total = bpf_time(pid)
    return total if any(total) or total[1] else None


def measure_storms(
    program: tuple[Path, Path], cgroup: Path, execs: int, rounds: int, *, long: bool
) -> dict[str, float]:
    """Alternating rounds: nothing, the sensor, and the one-liner where there is one."""
    bare: list[float] = []
    ours: list[float] = []
    theirs: list[float] = []
    cpu: list[float] = []
    kernel: list[float] = []
    kernel_theirs: list[float] = []
    total = execs * (os.cpu_count() or 1)
    with bpf_stats():
        for _ in range(rounds):
            bare.append(storm(program, cgroup, execs, long=long)["us_per_exec"])
            sensor = Sensor()
            cpu_before, bpf_before = sensor.cpu_s(), sensor.bpf()[0]
            ours.append(storm(program, cgroup, execs, long=long)["us_per_exec"])
            kernel.append((sensor.bpf()[0] - bpf_before) / total / 1000)
            cpu.append((sensor.cpu_s() - cpu_before) / total * 10_000)
            sensor.stop()
            with bpftrace() as process:
                if process is not None:
                    theirs.append(storm(program, cgroup, execs, long=long)["us_per_exec"])
                    kernel_theirs.append(bpf_time(process.pid)[0] / total / 1000)
    median = statistics.median
    result = {
        "without": median(bare),
        "with": median(ours),
        "ratio": median(o / b for o, b in zip(ours, bare, strict=True)),
        "bpf_us": median(kernel),
        "cpu_s_per_10k": median(cpu),
    }
    if theirs:
        result |= {
            "bpftrace_ratio": median(t / b for t, b in zip(theirs, bare, strict=True)),
            "bpftrace_bpf_us": median(kernel_theirs),
            "bpf_share_of_bpftrace": median(kernel) / median(kernel_theirs),
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--execs", type=int, default=20_000, help="execs a CPU and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--alerts", type=int, default=300)
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("this needs root: sudo make bench")
    rows: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as scratch, container_cgroup() as cgroup:
        program = compiled(Path(scratch))
        ready = []
        for _ in range(options.rounds):
            sensor = Sensor()
            ready.append(sensor.ready_s)
            sensor.stop()
        rows.append(("start to ready, s (median)", f"{statistics.median(ready):.2f}"))

        sensor = Sensor()
        rows.append(("memory at rest, MB PSS", f"{sensor.pss_mb():.1f}"))
        delays = latency(sensor, cgroup, program[1], options.alerts)
        rows.append(("exec to alert line, ms p50", f"{percentile(delays, 0.5):.2f}"))
        rows.append(("exec to alert line, ms p99", f"{percentile(delays, 0.99):.2f}"))
        before = len(sensor.lines)
        result = storm(program, cgroup, options.execs, every=1000)
        needles = -(-options.execs // 1000) * (os.cpu_count() or 1)
        sensor.wait_for(before + needles)
        rows.append(
            (
                "storm, one needle in 1,000: alerts / needles",
                f"{len(sensor.lines) - before} / {needles} at {1e6 / result['us_per_exec']:,.0f} exec/s",
            )
        )
        rows.append(("memory after the storm, MB PSS", f"{sensor.pss_mb():.1f}"))
        rows.append(("the sensor's own summary", sensor.stop()))
        for name, long in (("short argv", False), ("8 KiB argv", True)):
            found = measure_storms(program, cgroup, options.execs, options.rounds, long=long)
            rows.extend((f"{name}: {key}", f"{value:.4g}") for key, value in found.items())
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        sys.stdout.write(f"| {name:{width}} | {value} |\n")


if __name__ == "__main__":
    main()
