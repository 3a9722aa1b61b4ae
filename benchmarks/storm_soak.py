"""Whole minutes of execs on all processors: what is lost, what alerts, what the sensor itself uses.

    sudo .venv/bin/python benchmarks/storm_soak.py [--seconds 60]

In: root, a C compiler. Out: a Markdown table, a line for each storm: on the host and in a container's
cgroup, short argv and 8 KiB, without needles (the built-in rules) and with one in 1,000 (a rule that
holds for the host, too; no limits). Exit code 1 where an exec was lost, or a needle did not alert
exactly once.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from loads import Sensor, compiled, container_cgroup, cpu_s, pss_mb, storm

EVERY = 1000
RULE = """\
name: A needle of the storm, wherever it is
id: 2f9b1f0e-0c1b-4ee3-a6f0-6ad5f1b0f3c2
description: made for a measurement
severity: low
risk_score: 21
query: process where process.args == "grep" and process.args == "aws_secret_access_key"
"""


def needles(result: dict[str, Any], tag: str) -> Counter[str]:
    """The second argument of each exec that has to alert."""
    return Counter(
        f"{tag}.{worker}.{number}"
        for worker, count in enumerate(result["per_worker"])
        for number in range(0, count, EVERY)
    )


def told(sensor: Sensor, tag: str) -> Counter[str]:
    """The same of the alerts that came."""
    found = []
    for _, line in sensor.lines:
        if tag in line:
            args = json.loads(line)["process"]["args"]
            found += [argument for argument in args if argument.startswith(f"{tag}.")]
    return Counter(found)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=60, help="of each of the eight storms")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("this needs root: sudo make bench-long")
    good = True
    print("| storm | execs a second | alerts / needles | losses | CPU, % of a core | PSS, MB |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch, container_cgroup() as container:
        program = compiled(Path(scratch))
        rule = Path(scratch) / "needle.yml"
        rule.write_text(RULE)
        for place, cgroup in (("host", None), ("container", container)):
            for length, long in (("short", False), ("8 KiB", True)):
                for every in (0, EVERY):
                    tag = f"storm-{os.urandom(6).hex()}"
                    sensor = Sensor(*(("--no-builtin", "--rules", str(rule)) if every else ()))
                    pid = sensor.process.pid
                    before = cpu_s(pid)
                    result = storm(
                        program, cgroup, f"{options.seconds}s", long=long, every=every, tag=tag
                    )
                    used = (cpu_s(pid) - before) / result["seconds"]
                    pss = pss_mb(pid)
                    # Records come in order: what ends after the storm's last is told, or lost.
                    said = sensor.stop().partition("losses: ")[2]
                    wanted = needles(result, tag) if every else Counter()
                    came = told(sensor, tag)
                    good = good and came == wanted and said == "none" and not result["failed"]
                    name = f"{place}, {length}, {'one needle in 1,000' if every else 'no needles'}"
                    print(
                        f"| {name} | {1e6 / result['us_per_exec']:,.0f} "
                        f"| {came.total():,} / {wanted.total():,} | {said} "
                        f"| {used:.2%} | {pss:.1f} |",
                        flush=True,
                    )
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
