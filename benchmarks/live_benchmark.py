"""How fast the sensor is on the machine at hand: start, memory, from the exec to the alert.

In: root, a C compiler. Out: a table for docs/operations.md. Loads run in a cgroup named like a
container's, so that no engine is needed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
from datetime import datetime
from pathlib import Path

from loads import CPUS, Sensor, compiled, container_cgroup, percentile, pss_mb, run_in, storm


def latency(sensor: Sensor, cgroup: Path, program: Path, count: int) -> list[float]:
    """Milliseconds from the exec in the kernel to the line in the reader's hands."""
    grep = program.with_name("grep")
    shutil.copy(program, grep)
    before = len(sensor.lines)
    for number in range(count):
        run_in(cgroup, [str(grep), "-r", "aws_access_key_id", str(number)])
        sensor.wait_for(before + number + 1, 5)
    delays = []
    for arrived, line in sensor.lines[before:]:
        stamp = json.loads(line)["@timestamp"]
        delays.append((arrived / 1e9 - datetime.fromisoformat(stamp).timestamp()) * 1000)
    return delays


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
        rows.append(("memory at rest, MB PSS", f"{pss_mb(sensor.process.pid):.1f}"))
        delays = latency(sensor, cgroup, program[1], options.alerts)
        rows.append(("exec to alert line, ms p50", f"{percentile(delays, 0.5):.2f}"))
        rows.append(("exec to alert line, ms p99", f"{percentile(delays, 0.99):.2f}"))
        before = len(sensor.lines)
        result = storm(program, cgroup, options.execs, every=1000)
        needles = -(-options.execs // 1000) * CPUS
        sensor.wait_for(before + needles)
        rows.append(
            (
                "storm, one needle in 1,000: alerts / needles",
                f"{len(sensor.lines) - before} / {needles} at {1e6 / result['us_per_exec']:,.0f} exec/s",
            )
        )
        rows.append(("memory after the storm, MB PSS", f"{pss_mb(sensor.process.pid):.1f}"))
        rows.append(("the sensor's own summary", sensor.stop()))
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        sys.stdout.write(f"| {name:{width}} | {value} |\n")


if __name__ == "__main__":
    main()
