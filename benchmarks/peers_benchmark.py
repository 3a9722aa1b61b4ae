"""What seeing every exec costs: the sensor, other tools that see execs, and nothing, in one run.

    sudo .venv/bin/python benchmarks/peers_benchmark.py [--execs 20000] [--rounds 3] [--tool NAME]…

In: root, a C compiler; of the other tools those that are installed (Debian: bpftrace, bpfcc-tools,
libbpf-tools, auditd). Out: Markdown, a table for each place and length of argv. A storm of execs that
no rule matches runs on all processors: once without any tool, at once again with one, in turn for all
tools and rounds. Ratios are of such pairs, numbers are medians over the rounds. A tool that cannot
run here is listed with the reason.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from pathlib import Path

from loads import (
    CPUS,
    bpf_stats,
    bpf_time,
    compiled,
    container_cgroup,
    cpu_s,
    map_mb,
    pss_mb,
    storm,
)
from peers import TOOLS, Tool, UnableError

COLUMNS = (
    ("time an exec, with to without", "{:.3f}"),
    ("BPF, µs an exec", "{:.2f}"),
    ("CPU of its process, s for 10,000 execs", "{:.4f}"),
    ("PSS, MB", "{:.1f}"),
    ("maps, MB", "{:.1f}"),
    ("lost, of all execs", "{:.2%}"),
)
Row = tuple[float, ...]


def measure(
    make: type[Tool], program: tuple[Path, Path], cgroup: Path | None, execs: int, *, long: bool
) -> Row:
    """One pair of storms. Raises `UnableError`."""
    bare = storm(program, cgroup, execs, long=long)["us_per_exec"]
    total = execs * CPUS
    tag = f"storm-{os.urandom(4).hex()}"
    with tempfile.TemporaryDirectory(dir="/var/tmp") as scratch, make(Path(scratch)) as tool:
        pid = tool.pid
        bpf, cpu = bpf_time(pid), cpu_s(pid)
        seen = storm(program, cgroup, execs, long=long, tag=tag)["us_per_exec"]
        tool.settle()
        bpf, cpu = bpf_time(pid) - bpf, cpu_s(pid) - cpu
        pss, maps = pss_mb(pid), map_mb(pid)
        lost = tool.lost(tag.encode(), total)
    return (
        seen / bare,
        bpf / total / 1000 if bpf else float("nan"),
        cpu / total * 10_000,
        pss,
        maps,
        lost / total,
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--execs", type=int, default=20_000, help="execs a CPU and storm")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tool", action="append", choices=[tool.name for tool in TOOLS])
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("this needs root: sudo make bench")
    tools = [tool for tool in TOOLS if options.tool is None or tool.name in options.tool]
    unable: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as scratch, container_cgroup() as container, bpf_stats():
        program = compiled(Path(scratch))
        for place, cgroup in (("host", None), ("container", container)):
            for length, long in (("short argv", False), ("8 KiB argv", True)):
                rows: dict[str, list[Row]] = {}
                for _ in range(options.rounds):
                    for tool in tools:
                        if tool.name in unable:
                            continue
                        try:
                            row = measure(tool, program, cgroup, options.execs, long=long)
                        except UnableError as reason:
                            unable[tool.name] = str(reason)
                        else:
                            rows.setdefault(tool.name, []).append(row)
                show(f"{length}, {place}", rows)
    for name, reason in unable.items():
        print(f"{name} cannot run here: {reason}")


def show(title: str, rows: dict[str, list[Row]]) -> None:
    print(f"\n| {title} | {' | '.join(name for name, _ in COLUMNS)} |")
    print(f"|---{'|---' * len(COLUMNS)}|")
    for name, rounds in rows.items():
        medians = (statistics.median(column) for column in zip(*rounds, strict=True))
        cells = (
            "-" if value != value else form.format(value)  # noqa: PLR0124 - not a number
            for value, (_, form) in zip(medians, COLUMNS, strict=True)
        )
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
