"""Whether the sensor's memory stays flat: minutes of execs, alerts, reloads and containers come and gone.

    sudo .venv/bin/python benchmarks/memory_soak.py [--minutes 15] [--defaults]

In: root, a C compiler, dockerd (one of its own is started). Out: memory of the sensor by cause, its
descriptors and threads over time, what the load came to, the medians of each third, and a verdict. PSS
moves with what else the machine runs, so flatness is judged by anonymous memory, which is the
sensor's alone: the verdict is no, and the exit code 1, where it grew by more than 1 MB from the
second third to the last, or an exec was lost. The sensor sends every alert; with `--defaults` it
collapses and limits them as it does by itself.

The load, at once: bursts of execs on all processors with one needle in 100, in a cgroup of its own each;
short Docker containers, each with a search that alerts; a reload every few seconds, of a rule file
that changes; shells that fork.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from loads import Memory, Sensor, compiled, container_cgroup, memory_of, storm

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/live"))

import images
from docker_engine import DockerEngine

GROWTH_MB = 1.0
SAMPLE_S = 5
Sample = tuple[float, Memory, int, int]
RULE = """\
name: A word that changes
id: 6f6f2a3a-1d3b-4c53-9d0e-000000000001
description: made for a measurement
severity: low
risk_score: 21
query: process where process.args == "word-{number}"
"""
FORKS = "for i in $(seq 500); do ( : ); done"


class Load:
    """Threads that each repeat one thing with a pause behind it, and how often they did."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []

    def repeat(self, name: str, pause_s: float, what: Callable[[int], Any]) -> None:
        def run() -> None:
            while not self._stop.is_set():
                self.counts[name] += what(self.counts[name]) or 1
                self._stop.wait(pause_s)

        thread = threading.Thread(target=run, name=name)
        thread.start()
        self._threads.append(thread)

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()


def bursts(program: tuple[Path, Path]) -> Callable[[int], int]:
    def burst(number: int) -> int:
        with container_cgroup() as cgroup:
            long = number % 2 == 1
            return int(storm(program, cgroup, 1001, long=long, every=100)["execs"])

    return burst


def containers(engine: DockerEngine) -> Callable[[int], None]:
    client = engine.client()

    def one(number: int) -> None:
        container = client.containers.create(
            images.BUSYBOX,
            ["grep", "aws_session_token", f"no-{number}"],
            labels={f"com.example.label-{i}": f"{number}-{i}" * 5 for i in range(10)},
            network_mode="none",
        )
        container.start()
        container.wait()
        container.remove(force=True)

    return one


def reloads(sensor: Sensor, rule: Path) -> Callable[[int], None]:
    def reload(number: int) -> None:
        draft = rule.with_suffix(".draft")
        draft.write_text(RULE.format(number=number))
        draft.rename(rule)
        sensor.process.send_signal(signal.SIGHUP)

    return reload


def sampled(sensor: Sensor, seconds: float) -> list[Sample]:
    """(seconds, memory, descriptors, threads), one every SAMPLE_S."""
    pid, started, samples = sensor.process.pid, time.monotonic(), []
    while (at := time.monotonic() - started) < seconds and sensor.process.poll() is None:
        folders = (Path(f"/proc/{pid}/{folder}") for folder in ("fd", "task"))
        fds, threads = (sum(1 for _ in folder.iterdir()) for folder in folders)
        samples.append((at, memory_of(pid), fds, threads))
        sensor.lines.clear()
        time.sleep(SAMPLE_S)
    return samples


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--defaults", action="store_true")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("this needs root: sudo make bench-long")
    # Not the default folder for scratch: the sensor that is not root reads rules again.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as scratch, DockerEngine() as engine:
        folder = Path(scratch)
        folder.chmod(0o755)
        program = compiled(folder)
        client = engine.client()
        tree = images.busybox_tree(images.compile_programs(folder))
        images.import_image(client, images.BUSYBOX, tree)
        client.close()
        rule = folder / "rule.yml"
        rule.write_text(RULE.format(number=0))
        config = folder / "sensor.yaml"
        config.write_text(f"containers: {{sockets: ['docker:{engine.socket}']}}\n")
        sensor = Sensor(
            "--config", str(config), "--rules", str(rule), every_alert=not options.defaults
        )
        errors = threading.Thread(target=sensor.drain)
        errors.start()
        load = Load()
        load.repeat("execs of storms", 0.5, bursts(program))
        load.repeat("containers", 0.05, containers(engine))
        load.repeat("reloads", 5, reloads(sensor, rule))
        load.repeat(
            "shells that fork 500 times",
            1,
            lambda _: subprocess.run(["sh", "-c", FORKS], check=True) and None,
        )
        try:
            samples = sampled(sensor, options.minutes * 60)
        finally:
            load.stop()
        sensor.process.terminate()
        errors.join()
        said = sensor.stop()
    report(samples, load.counts, said)


def report(samples: list[Sample], counts: Counter[str], said: str) -> None:
    causes = [field.name for field in fields(Memory)]
    print(f"| minute | {' | '.join(causes)} | descriptors | threads |")
    print("|---" * (len(causes) + 3) + "|")
    for at, memory, fds, threads in samples[:: max(1, len(samples) // 15)]:
        sizes = " | ".join(f"{getattr(memory, cause):.1f}" for cause in causes)
        print(f"| {at / 60:.1f} | {sizes} | {fds} | {threads} |")
    third = len(samples) // 3
    if third == 0:
        sys.exit(f"no: the sensor ended at once: {said}")
    thirds = samples[:third], samples[third : 2 * third], samples[2 * third :]
    print("\n| over all of it | |\n|---|---|")
    for name, count in counts.items():
        print(f"| {name} | {count:,} |")
    growths = {}
    for cause in causes:
        medians = [statistics.median(getattr(s[1], cause) for s in part) for part in thirds]
        growths[cause] = medians[2] - medians[1]
        texts = ", ".join(f"{median:.2f}" for median in medians)
        print(
            f"| {cause}: median of each third, MB, and growth of the last | {texts}, {growths[cause]:+.2f} |"
        )
    print(f"| the sensor's own summary | {said} |\n")
    failures = []
    if growths["anonymous"] > GROWTH_MB:
        failures.append(f"anonymous memory grew by more than {GROWTH_MB:g} MB")
    if not said.endswith("losses: none"):
        failures.append("there were losses")
    print(f"no: {', '.join(failures)}" if failures else "yes: it stays flat, and nothing was lost")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
