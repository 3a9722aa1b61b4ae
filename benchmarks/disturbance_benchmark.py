"""How long an alert takes while what surrounds the sensor is in trouble, and whether it names its container.

    sudo .venv/bin/python benchmarks/disturbance_benchmark.py [--alerts 100] [--rounds 3] [--only WORD]

In: root, a C compiler, dockerd and containerd (ones of its own are started). Out: a Markdown table. A
container searches for a key again and again; a sensor alerts on each. From the exec in the kernel to
the alert in the reader's hands it takes so many milliseconds: with sinks and a spool in trouble; with
the engine stopped, its socket removed, or killed and started again under a load of short containers;
with a second engine's socket that hangs, answers garbage or 10 MB of labels; with such a socket alone,
so that the container cannot be named. Right before each case a sensor runs undisturbed, and the ratio is
to that; what is shown is of all rounds together.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from delivery_benchmark import webhook
from docker.errors import DockerException
from loads import Sensor, compiled, container_cgroup, percentile, storm
from requests import RequestException
from troubles import (
    Answer,
    Place,
    churn,
    closed_port,
    containerd_place,
    deaf,
    docker_place,
    engine_that,
    garbage,
    hang,
    labels,
    stopped,
    without_socket,
)

WARM_UP = 20
SILENCE_S = 20  # with a search every few milliseconds, something is broken
BETWEEN_RESTARTS_S = 1.5
FILLING_S = 60


class Watched:
    """A running sensor, of whose alerts those of one container are taken."""

    def __init__(self, sensor: Sensor, place: Place, case: str) -> None:
        self._sensor, self._place, self._case = sensor, place, case
        self._ours: list[tuple[int, str]] = []
        self._looked_at = 0

    def alerts(self) -> list[tuple[int, str]]:
        """All so far: when each was read, in ns since the epoch, and its line."""
        new = self._sensor.lines[self._looked_at :]
        self._looked_at += len(new)
        # The id is in what others tell of it, too, but not as that of an alert's own container.
        wanted = f'"id":"{self._place.container_id}"'
        self._ours += [each for each in new if wanted in each[1]]
        return self._ours

    def await_alerts(self, count: int, within_s: float = float("inf")) -> None:
        """Until there are so many, or the time is up; ends the benchmark when they stay away."""
        seen, since = -1, time.monotonic()
        until = since + within_s
        while (number := len(self.alerts())) < count and (now := time.monotonic()) < until:
            if number > seen:
                seen, since = number, now
            if now - since > SILENCE_S or self._sensor.process.poll() is not None:
                self._give_up(f"{number} of {count} alerts came, and none for {now - since:.0f} s")
            time.sleep(0.02)

    def await_fresh(self) -> int:
        """The number of the first alert of an exec from now on: what was queued before is through."""
        now = time.time()
        while True:
            alerts = self.alerts()
            if alerts and stamp(json.loads(alerts[-1][1])) > now:
                return len(alerts) - 1
            self.await_alerts(len(alerts) + 1)

    def await_line(self, text: str, within_s: float, meanwhile: Callable[[], object]) -> None:
        """Until some line has this text."""
        deadline, looked_at = time.monotonic() + within_s, 0
        while True:
            new = self._sensor.lines[looked_at:]
            looked_at += len(new)
            if any(text in line for _, line in new):
                return
            if time.monotonic() > deadline:
                self._give_up(f"no line with {text!r} came in {within_s:.0f} s")
            meanwhile()

    def _give_up(self, why: str) -> None:
        said = "".join(self._sensor.said[-10:])
        code = self._sensor.process.poll()
        state = "runs" if code is None else f"ended with {code}"
        sys.exit(f"{self._case}: {why}. The sensor {state}; it said:\n{said}")


Trouble = Callable[[Place], AbstractContextManager[None]]
Config = Callable[[ExitStack, Path], dict[str, Any]]


def nothing(_stack: ExitStack, _folder: Path) -> dict[str, Any]:
    return {}


def sink(url: str) -> dict[str, Any]:
    return {"type": "http", "url": url, "format": "ndjson", "timeout": 0.5}


def sink_deaf(stack: ExitStack, _folder: Path) -> dict[str, Any]:
    return {"sinks": [sink(f"http://127.0.0.1:{stack.enter_context(deaf())}/")]}


def sink_down(_stack: ExitStack, _folder: Path) -> dict[str, Any]:
    return {"sinks": [sink(f"http://127.0.0.1:{closed_port()}/")]}


def spooled(sinks: list[dict[str, Any]], folder: Path, **options: Any) -> dict[str, Any]:
    spool = Path(tempfile.mkdtemp(dir=folder))
    os.chown(spool, pwd.getpwnam("nobody").pw_uid, -1)
    return {"sinks": sinks, "spool": {"directory": str(spool), **options}}


def spool_well(stack: ExitStack, folder: Path) -> dict[str, Any]:
    return spooled([sink(stack.enter_context(webhook()))], folder)


def spool_and_deaf(stack: ExitStack, folder: Path) -> dict[str, Any]:
    return spooled([sink(f"http://127.0.0.1:{stack.enter_context(deaf())}/")], folder)


def spool_full(_stack: ExitStack, folder: Path) -> dict[str, Any]:
    return spooled([sink(f"http://127.0.0.1:{closed_port()}/")], folder, max_bytes=1 << 20)


@dataclass(frozen=True, kw_only=True)
class Case:
    """One set-up: the engine, sockets beside it, sinks, and what happens while it is measured.

    `before` begins before the sensor does, `during` once it has alerted for a while.
    """

    engine: str = "docker"
    real: bool = True
    answers: tuple[Answer, ...] = ()
    config: Config = nothing
    before: Trouble | None = None
    during: Trouble | None = None
    filled: bool = False
    restarts: bool = False


CASES = {
    # The first shows how far apart two runs of the same are.
    "nothing": Case(),
    "a sink never answers": Case(config=sink_deaf),
    "a sink is down": Case(config=sink_down),
    "a sink's queue is full": Case(config=sink_deaf, filled=True),
    "a spool, and a sink that answers": Case(config=spool_well),
    "a spool, and a sink that never answers": Case(config=spool_and_deaf),
    "a spool that is full and drops": Case(config=spool_full, filled=True),
    "dockerd is stopped": Case(during=stopped),
    "dockerd was stopped before": Case(before=stopped),
    "dockerd's socket is removed": Case(during=without_socket),
    "dockerd restarts under load": Case(restarts=True),
    # What of that is the machine's work, for the sensor here has nothing to do with dockerd.
    "the same, and the sensor has no socket": Case(real=False, restarts=True),
    "containerd is stopped": Case(engine="containerd", during=stopped),
    "containerd restarts under load": Case(engine="containerd", restarts=True),
    "another socket hangs": Case(answers=(hang,)),
    "another socket answers garbage": Case(answers=(garbage,)),
    "another socket answers 10 MB of labels": Case(answers=(labels,)),
    "the only socket hangs": Case(answers=(hang,), real=False),
    "the only socket answers garbage": Case(answers=(garbage,), real=False),
    "the only socket answers 10 MB of labels": Case(answers=(labels,), real=False),
    "no socket": Case(real=False),
}


@dataclass
class Bench:
    """What all cases share."""

    folder: Path
    places: dict[str, Place]
    load: Callable[[], AbstractContextManager[None]]
    alerts: int

    def measure(self, name: str, case: Case) -> tuple[list[float], list[bool]]:
        """Milliseconds of each alert, and whether it named the container."""
        place = self.places[case.engine]
        with ExitStack() as stack:
            sockets = [place.address] if case.real else []
            sockets += [
                f"docker:{stack.enter_context(engine_that(answer, self.folder))}"
                for answer in case.answers
            ]
            config = {"containers": {"sockets": sockets}, **case.config(stack, self.folder)}
            path = self.folder / "sensor.yaml"
            path.write_text(json.dumps(config))
            if case.before is not None:
                stack.enter_context(case.before(place))
            sensor = stack.enter_context(running("--config", str(path)))
            watched = Watched(sensor, place, name)
            watched.await_alerts(WARM_UP)
            if case.filled:
                self._fill(watched)
            if case.during is not None:
                stack.enter_context(case.during(place))
            if case.restarts:
                stack.enter_context(self.load())
            first = watched.await_fresh()
            enough = first + self.alerts
            while case.restarts and len(watched.alerts()) < enough:
                restart(place)
                watched.await_alerts(enough, BETWEEN_RESTARTS_S)
            watched.await_alerts(enough)
            return judged(watched.alerts()[first:enough], place)

    def _fill(self, watched: Watched) -> None:
        """More alerts of another container than a queue holds; the sensor says when it is full."""
        program = compiled(self.folder)
        with container_cgroup() as cgroup:
            watched.await_line(
                '"delivery_loss"', FILLING_S, lambda: storm(program, cgroup, 1000, every=1)
            )
        watched.await_fresh()  # those of the storm are through; what came meanwhile is not yet


def restart(place: Place) -> None:
    """Kill the daemon and start it; a daemon may be away when it is asked what is to live on."""
    with suppress(DockerException, RequestException, ProcessLookupError):
        place.kill()
    place.start()


@contextmanager
def running(*arguments: str) -> Iterator[Sensor]:
    """A sensor, whose messages are read all the time."""
    sensor = Sensor(*arguments)
    drain = threading.Thread(target=sensor.drain)
    drain.start()
    try:
        yield sensor
    finally:
        sensor.process.terminate()
        with suppress(Exception):
            sensor.process.wait(20)
        sensor.process.kill()
        drain.join()
        sensor.stop()


def stamp(alert: dict[str, Any]) -> float:
    return datetime.fromisoformat(alert["@timestamp"]).timestamp()


def judged(lines: list[tuple[int, str]], place: Place) -> tuple[list[float], list[bool]]:
    delays, named = [], []
    for arrived, line in lines:
        alert = json.loads(line)
        container = alert["container"]
        if container["id"] != place.container_id:
            sys.exit(f"an alert of another container: {line}")
        delays.append((arrived / 1e9 - stamp(alert)) * 1000)
        named.append(container.get("name") == place.container_name)
    return delays, named


@dataclass
class Row:
    """All rounds of one case, in milliseconds."""

    base: list[float] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)
    named: list[bool] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)  # of the medians, one a round

    def add(self, base: list[float], delays: list[float], named: list[bool]) -> None:
        self.base += base
        self.delays += delays
        self.named += named
        self.ratios.append(percentile(delays, 0.5) / percentile(base, 0.5))

    def cells(self) -> list[str]:
        base, delays = (
            [percentile(each, q) for q in (0.5, 0.99)] for each in (self.base, self.delays)
        )
        return [
            f"{delays[0]:.2f}",
            f"{delays[1]:.2f}",
            f"{delays[0] / base[0]:.2f}",
            f"{min(self.ratios):.2f} to {max(self.ratios):.2f}",
            f"{delays[1] / base[1]:.2f}",
            f"{max(self.delays):.1f}",
            f"{statistics.mean(self.named):.1%}",
        ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--alerts", type=int, default=100, help="of each case and round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", metavar="WORD", help="cases with this in their name")
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("this needs root: sudo make bench")
    rows = {name: Row() for name in CASES if options.only in name}
    if not rows:
        sys.exit(f"no case has {options.only!r} in its name: {', '.join(CASES)}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir="/var/tmp")))
        folder.chmod(0o755)
        docker, engine = stack.enter_context(docker_place(folder))
        places = {"docker": docker}
        if any(CASES[name].engine == "containerd" for name in rows):
            places["containerd"] = stack.enter_context(containerd_place(engine))
        bench = Bench(folder, places, lambda: churn(engine), options.alerts)
        for _ in range(options.rounds):
            for name, row in rows.items():
                base, _ = bench.measure(f"before {name!r}", Case(engine=CASES[name].engine))
                row.add(base, *bench.measure(name, CASES[name]))
                print(name, *row.cells(), sep="  ", file=sys.stderr)
    print(
        "| in trouble | p50, ms | p99, ms | p50, ratio | in the rounds | p99, ratio | longest, ms | named |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|--:|")
    for name, row in rows.items():
        print(f"| {name} | {' | '.join(row.cells())} |")


if __name__ == "__main__":
    main()
