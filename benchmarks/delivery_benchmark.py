"""How long an alert takes to standard output, undisturbed and while other sinks are in trouble.

    python benchmarks/delivery_benchmark.py [--alerts 300] [--rounds 5] [--only WORD]

Each case submits alerts at a steady pace to a dispatcher whose standard output is a pipe that another
process reads, and reports the time of the call itself and the time until the reader had the line. Right
before each the same set-up runs with nothing in trouble, and the ratio is to that; what is shown is of
all rounds together. The whole way from the exec on, with engines in trouble too, is in
disturbance_benchmark.py.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from troubles import closed_port, deaf

from sensor.alerts.dispatch import Dispatcher
from sensor.alerts.encode import encode
from sensor.alerts.sinks.options import build_sinks
from sensor.alerts.sinks.protocol import Outgoing, Sink
from sensor.alerts.sinks.stdout import StdoutSink
from sensor.alerts.spool import Spool

PACE_S = 0.002

# How long an alert that was submitted may take until it is missing, for the reader and for its end.
LONG_S = 30

READER = """
import json, sys, time
taken = []
for line in sys.stdin.buffer:
    now = time.monotonic_ns()
    sent = json.loads(line).get("sent")  # the dispatcher's own words have none
    if sent is not None:
        taken.append(now - sent)
print(json.dumps(taken))
"""

ALERT: dict[str, Any] = {
    "@timestamp": "2026-08-21T12:00:00.123456Z",
    "event": {"kind": "alert", "severity": 47, "category": ["process"], "type": ["start"]},
    "rule": {"id": "keys-searched", "name": "Keys searched"},
    "process": {
        "pid": 4321,
        "name": "grep",
        "executable": "/usr/bin/grep",
        "args": ["grep", "-r", "aws_secret_access_key", "/srv", *["x" * 50] * 20],
        "parent": {"pid": 4300, "name": "bash", "args": ["bash"]},
    },
    "container": {"id": "5f" * 32, "name": "web", "labels": {"com.example.team": "shop"}},
}


@contextmanager
def webhook() -> Iterator[str]:
    """A receiver that answers at once, in a process of its own."""
    code = "import delivery_benchmark; delivery_benchmark.serve()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=Path(__file__).parent
    ) as process:
        assert process.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}/"
        finally:
            process.kill()


def serve() -> None:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


class Blocked(StdoutSink):
    """Another output, whose reader does not read."""

    name = "blocked"

    def close(self) -> None:
        os.close(self._fd)


def undisturbed(_: ExitStack) -> tuple[list[Sink], Spool | None]:
    return [], None


def with_spool(stack: ExitStack, sinks: list[Sink], **options: Any) -> tuple[list[Sink], Spool]:
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    return sinks, Spool(Path(folder), sinks, **options)


def http_well(stack: ExitStack) -> tuple[list[Sink], Spool | None]:
    sinks = build_sinks(
        [{"type": "http", "url": stack.enter_context(webhook()), "format": "ndjson"}]
    )
    return with_spool(stack, sinks)


def http_deaf(stack: ExitStack) -> tuple[list[Sink], Spool | None]:
    url = f"http://127.0.0.1:{stack.enter_context(deaf())}/"
    return with_spool(stack, build_sinks([{"type": "http", "url": url, "timeout": 0.5}]))


def http_refused(stack: ExitStack) -> tuple[list[Sink], Spool | None]:
    url = f"http://127.0.0.1:{closed_port()}/"
    return with_spool(stack, build_sinks([{"type": "http", "url": url}]))


def syslog_deaf(stack: ExitStack) -> tuple[list[Sink], Spool | None]:
    address = f"127.0.0.1:{stack.enter_context(deaf())}"
    sink = {"type": "syslog", "transport": "tcp", "address": address, "timeout": 0.5}
    return with_spool(stack, build_sinks([sink]))


def spool_full(stack: ExitStack) -> tuple[list[Sink], Spool | None]:
    sinks, _ = http_refused(stack)
    return with_spool(stack, sinks, max_bytes=100_000)


def disk_full(stack: ExitStack) -> tuple[list[Sink], Spool | None]:
    url = f"http://127.0.0.1:{closed_port()}/"
    sinks, spool = with_spool(stack, build_sinks([{"type": "http", "url": url}]))
    database = spool._writer  # noqa: SLF001 - the one way to a full disk without root
    (pages,) = database.execute("PRAGMA page_count").fetchone()
    database.execute(f"PRAGMA max_page_count = {pages}")
    return sinks, spool


def queue_full(stack: ExitStack) -> tuple[list[Sink], Spool | None]:
    reader, writer = os.pipe()
    # Not the writer: the sink's thread may be about to write on, and the next to open a file would get
    # the number, and with it what the thread writes. It ends with the sink, once there is no reader.
    stack.callback(os.close, reader)
    return [Blocked(fd=writer)], None


Case = Callable[[ExitStack], tuple[list[Sink], Spool | None]]
# What each is compared with comes second.
CASES: dict[str, tuple[Case, Case]] = {
    "standard output alone": (undisturbed, undisturbed),
    "another output's queue is full": (queue_full, undisturbed),
    "a spool and a webhook that answers": (http_well, undisturbed),
    "a spool, and the webhook never answers": (http_deaf, http_well),
    "a spool, and the webhook is down": (http_refused, http_well),
    "a spool, and a syslog receiver never reads": (syslog_deaf, http_well),
    "a spool that is full and drops": (spool_full, http_well),
    "a spool, and the disk is full": (disk_full, http_well),
}


def measure(case: Case, alerts: int) -> tuple[list[int], list[int]]:
    """Times in nanoseconds: of the calls, and until the reader had each line."""
    with ExitStack() as stack:
        # A process of its own: a thread here would hold up what is measured.
        reader = subprocess.Popen(
            [sys.executable, "-c", READER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert reader.stdin is not None
        assert reader.stdout is not None
        sinks, spool = case(stack)
        dispatcher = Dispatcher([StdoutSink(fd=reader.stdin.fileno()), *sinks], spool=spool)
        dispatcher.start()
        if case is queue_full:
            blocked = dispatcher._workers[1]  # noqa: SLF001 - filled past its bound at once
            for number in range(12_000):
                blocked.offer(Outgoing(payload=encode(ALERT | {"n": number}), severity=47))
        calls: list[int] = []
        pause = threading.Event()
        for number in range(alerts):
            document = ALERT | {"event": ALERT["event"] | {"id": str(number)}}
            document["sent"] = start = time.monotonic_ns()
            dispatcher.submit(document, 47)
            calls.append(time.monotonic_ns() - start)
            pause.wait(PACE_S)
        shown = dispatcher.sink_counters
        deadline = time.monotonic() + LONG_S
        while shown()["stdout"]["delivered"] < alerts and time.monotonic() < deadline:
            pause.wait(PACE_S)
        dispatcher.close(0.2)
        try:
            output, _ = reader.communicate(timeout=LONG_S)
        except subprocess.TimeoutExpired:
            reader.kill()
            output = b""
        taken = json.loads(output or b"[]")
    if len(taken) != alerts:
        sys.exit(
            f"{len(taken)} of {alerts} alerts came to standard output in {LONG_S} s; "
            f"the dispatcher counted {dispatcher.counters()}"
        )
    return calls, taken


def quantiles(values: list[int]) -> tuple[float, float]:
    """The median and the 99th percentile, in microseconds."""
    cuts = statistics.quantiles(values, n=100)
    return cuts[49] / 1000, cuts[98] / 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--alerts", type=int, default=300, help="of each case and round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", metavar="WORD", help="cases with this in their name")
    options = parser.parse_args()
    times: dict[str, tuple[list[int], list[int], list[int]]] = {
        name: ([], [], []) for name in CASES if options.only in name
    }
    for _ in range(options.rounds):
        for name, (calls, lines, undisturbed_lines) in times.items():
            case, base = CASES[name]
            gc.collect()
            undisturbed_lines.extend(measure(base, options.alerts)[1])
            gc.collect()
            its_calls, its_lines = measure(case, options.alerts)
            calls.extend(its_calls)
            lines.extend(its_lines)
    print(
        "| case | call p50 µs | call p99 µs | line p50 µs | line p99 µs | p50 ratio | p99 ratio |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|")
    for name, (calls, lines, undisturbed_lines) in times.items():
        numbers = [*quantiles(calls), *quantiles(lines)]
        cells = [f"{number:.0f}" for number in numbers]
        base_numbers = quantiles(undisturbed_lines)
        cells += [f"{a / b:.2f}" for a, b in zip(numbers[2:], base_numbers, strict=True)]
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
