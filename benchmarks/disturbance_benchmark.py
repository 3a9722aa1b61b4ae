"""How long an alert takes while what surrounds the sensor is in trouble, and whether it names its container.

    sudo .venv/bin/python benchmarks/disturbance_benchmark.py [--alerts 300] [--rounds 2]

In: root, a C compiler, dockerd (one of its own is started). Out: a Markdown table. A container searches
for a key again and again; a sensor alerts on each. From the exec in the kernel to the alert in the
reader's hands it takes so many milliseconds: undisturbed; with a second engine's socket that hangs,
answers garbage or with 10 MB of labels; with such a socket alone, so that the container cannot be
named; while dockerd is killed and started again under a load of short containers; with a sink that
never answers. All cases run in turn, round after round; ratios are to the undisturbed case of the
same round. A full queue is in delivery_benchmark.py.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import datetime
from pathlib import Path

from docker.errors import DockerException
from docker.models.containers import Container
from loads import Sensor, percentile
from requests import RequestException

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/live"))

import images
from docker_engine import DockerEngine

SEARCH = (
    "i=0; while :; do i=$((i+1)); /bin/grep aws_session_token no-$i 2>/dev/null; sleep 0.02; done"
)
LABELS = b'"' + b"x" * 100 + b'":"' + b"y" * 900 + b'",'


def hang(_: socket.socket) -> None:
    """The connection stays open, and nothing comes."""


def garbage(connection: socket.socket) -> None:
    connection.recv(1 << 16)
    connection.sendall(os.urandom(1 << 16))
    connection.close()


def labels(connection: socket.socket) -> None:
    """An engine by its version; whatever else it is asked for has 10 MB of labels."""
    while request := connection.recv(1 << 16):
        if b"/version" in request:
            body = b'{"ApiVersion": "1.44", "Version": "1", "Components": []}'
        else:
            body = b'{"Id": "x", "Config": {"Labels": {' + LABELS * 10_000 + b'"z": ""}}}'
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)


class LivingOn(DockerEngine):
    """An engine that leaves its containers alone when it starts again."""

    def _options(self) -> list[str]:
        return [*super()._options(), "--live-restore"]


Answer = Callable[[socket.socket], None]


@contextmanager
def engine_that(answer: Answer, folder: Path) -> Iterator[Path]:
    """A socket on which every connection is answered like this, in a process of its own."""
    path = folder / f"{answer.__name__}.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen(64)
        pid = os.fork()
        if pid == 0:
            held = []
            while True:
                connection, _ = listener.accept()
                held.append(connection)
                with suppress(OSError):
                    answer(connection)
    try:
        yield path
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        path.unlink()


@contextmanager
def churn(engine: DockerEngine) -> Iterator[None]:
    """Short containers, whenever there is a daemon to ask for them."""
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            with suppress(DockerException, RequestException):
                client = engine.client()
                client.containers.run(images.BUSYBOX, ["true"], network_mode="none", remove=True)
                client.close()
            stop.wait(0.05)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def deaf() -> Iterator[int]:
    """A port that takes connections and never reads or answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


class Case:
    """One set-up: the engines' sockets, a sink, or restarts of dockerd."""

    def __init__(
        self, *answers: Answer, real: bool = True, restarts: bool = False, sink: bool = False
    ) -> None:
        self.answers, self.real, self.restarts, self.sink = answers, real, restarts, sink

    def measure(
        self, engine: DockerEngine, container: Container, folder: Path, alerts: int
    ) -> tuple[list[float], list[bool]]:
        """Milliseconds of each alert, and whether it named the container."""
        with ExitStack() as stack:
            sockets = [f"docker:{engine.socket}"] if self.real else []
            sockets += [
                f"docker:{stack.enter_context(engine_that(answer, folder))}"
                for answer in self.answers
            ]
            config = f"containers: {{sockets: {json.dumps(sockets)}}}\n"
            if self.sink:
                url = f"http://127.0.0.1:{stack.enter_context(deaf())}/"
                config += f"sinks: [{{type: http, url: '{url}', timeout: 0.5}}]\n"
            path = folder / "sensor.yaml"
            path.write_text(config)
            sensor = Sensor("--config", str(path))
            stack.callback(sensor.stop)
            drain = threading.Thread(target=sensor.drain)
            drain.start()
            stack.callback(drain.join)
            stack.callback(sensor.process.terminate)
            sensor.wait_for(30)
            first = len(sensor.lines)
            if self.restarts:
                stack.enter_context(churn(engine))
                # On this thread: dockerd ends with the thread that started it.
                while len(sensor.lines) < first + alerts:
                    with suppress(DockerException, RequestException, ProcessLookupError):
                        engine.crash()
                        engine.start()
                    sensor.wait_for(first + alerts, 2)
            sensor.wait_for(first + alerts, 600)
            lines = sensor.lines[first : first + alerts]
        delays, named = [], []
        for arrived, line in lines:
            alert = json.loads(line)
            if alert.get("container", {}).get("id") == container.id:
                stamp = datetime.fromisoformat(alert["@timestamp"]).timestamp()
                delays.append((arrived / 1e9 - stamp) * 1000)
                named.append(alert["container"].get("name") == container.name)
        return delays, named


# Compared with the first.
CASES = {
    "undisturbed": Case(),
    "another socket hangs": Case(hang),
    "another socket answers garbage": Case(garbage),
    "another socket answers 10 MB of labels": Case(labels),
    "dockerd restarts under load": Case(restarts=True),
    # What of that is the machine's work, for the sensor here has nothing to do with dockerd.
    "the same, and the sensor has no socket": Case(real=False, restarts=True),
    "a sink never answers": Case(sink=True),
    "the only socket hangs": Case(hang, real=False),
    "the only socket answers garbage": Case(garbage, real=False),
    "the only socket answers 10 MB of labels": Case(labels, real=False),
    "no socket": Case(real=False),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--alerts", type=int, default=300, help="of each case and round")
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("this needs root: sudo make bench")
    rows: dict[str, list[tuple[float, ...]]] = {name: [] for name in CASES}
    with tempfile.TemporaryDirectory(dir="/var/tmp") as scratch, LivingOn() as engine:
        folder = Path(scratch)
        folder.chmod(0o755)
        client = engine.client()
        tree = images.busybox_tree(images.compile_programs(folder))
        images.import_image(client, images.BUSYBOX, tree)
        container = client.containers.run(
            images.BUSYBOX, ["sh", "-c", SEARCH], detach=True, network_mode="none"
        )
        for _ in range(options.rounds):
            base = (1.0, 1.0)
            for name, case in CASES.items():
                delays, named = case.measure(engine, container, folder, options.alerts)
                if not delays:
                    sys.exit(f"{name}: no alert of the container came")
                at = percentile(delays, 0.5), percentile(delays, 0.99)
                base = at if name == "undisturbed" else base
                share = sum(named) / len(named)
                rows[name].append((*at, at[0] / base[0], at[1] / base[1], max(delays), share))
        client.close()
    print("| case | p50, ms | p99, ms | p50, ratio | p99, ratio | longest, ms | named |")
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, measured in rows.items():
        *numbers, share = (statistics.median(column) for column in zip(*measured, strict=True))
        cells = " | ".join(f"{number:.2f}" for number in numbers)
        print(f"| {name} | {cells} | {share:.1%} |")


if __name__ == "__main__":
    main()
