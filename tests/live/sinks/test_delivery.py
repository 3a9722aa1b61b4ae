"""Nothing that was shown is lost: not to SIGKILL, not to a full disk."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sensor.alerts.dispatch import Dispatcher
from sensor.alerts.sinks.options import build_sinks
from sensor.alerts.sinks.stdout import StdoutSink
from sensor.alerts.spool import Spool
from sensor.alerts.worker import Backoff

FAST = Backoff(first=0.01, longest=0.1)

CHILD = """
import sys, time
from pathlib import Path
from sensor.alerts.dispatch import Dispatcher
from sensor.alerts.sinks.options import build_sinks
from sensor.alerts.sinks.stdout import StdoutSink
from sensor.alerts.spool import Spool
from sensor.alerts.worker import Backoff
folder, url, number = sys.argv[1], sys.argv[2], int(sys.argv[3])
sinks = build_sinks([{"type": "http", "url": url, "timeout": 2}])
spool = Spool(Path(folder), sinks)
dispatcher = Dispatcher([StdoutSink(), *sinks], spool=spool, backoff=Backoff(first=0.01, longest=0.1))
dispatcher.start()
while True:
    number += 1
    document = {"event": {"id": str(number), "kind": "alert", "severity": 47}}
    dispatcher.submit(document, 47)
    if dispatcher.counters()["journal"]["queued"] > 50:
        time.sleep(0.001)
"""


@pytest.fixture
def receiver():
    """A webhook that is up and down by turns, and keeps the ids it answered for."""
    received = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            up = random.random() < 0.99
            if up:
                received.append(json.loads(body)["event"]["id"])
            self.send_response(200 if up else 503)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_):
            """A sender that was killed in the middle of a request."""

    server = Server(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/", received
    server.shutdown()
    server.server_close()


def test_kill_9_at_fifty_random_points(receiver, tmp_path, eventually):
    url, received = receiver
    shown = []
    for run in range(50):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), url, str(run * 1_000_000)],
            stdout=subprocess.PIPE,
        )
        lines = [child.stdout.readline() for _ in range(random.randint(1, 300))]
        shown += [json.loads(line)["event"]["id"] for line in lines]
        child.kill()
        rest, _ = child.communicate()
        shown += [json.loads(line)["event"]["id"] for line in rest.split(b"\n")[:-1]]

    sinks = build_sinks([{"type": "http", "url": url}])
    dispatcher = Dispatcher(sinks, spool=Spool(tmp_path, sinks), backoff=FAST)
    dispatcher.start()
    eventually(lambda: not dispatcher.counters()["spool"]["behind"]["http"], 120)
    assert dispatcher.close(20)

    assert len(shown) > 3000
    assert set(shown) - set(received) == set()
    # What was being sent when the process died is sent again, under the same id: one a run.
    assert len(received) - len(set(received)) <= 50


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, check=False
    )  # fmt: skip
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(path):
    with path.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(b"x" * 4096)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def test_a_full_disk_stops_neither_detection_nor_the_other_sinks(
    small_disk, receiver, alert, eventually
):
    """The spool and a file sink are on a disk that is full; then there is room again."""
    url, received = receiver
    reader, writer = os.pipe()
    sinks = build_sinks(
        [{"type": "http", "url": url}, {"type": "file", "path": str(small_disk / "alerts.json")}]
    )
    spool = Spool(small_disk, sinks)
    dispatcher = Dispatcher([StdoutSink(fd=writer), *sinks], spool=spool, backoff=FAST)
    dispatcher.start()
    ballast = small_disk / "ballast"
    fill(ballast)
    sent = []
    with os.fdopen(reader, "rb") as shown:
        for number in range(20):
            document = alert(number, "grep", "x" * 20_000)
            sent.append(document["event"]["id"])
            dispatcher.submit(document, 73)
            assert json.loads(shown.readline())["event"]["id"] == sent[-1]
        eventually(lambda: set(received) == set(sent))
        assert dispatcher.counters()["journal"]["unspooled"] > 0
        assert dispatcher.counters()["sinks"]["file"]["delivered"] < 20

        ballast.unlink()
        eventually(lambda: dispatcher.counters()["sinks"]["file"]["delivered"] == 20)
        dispatcher.submit(alert(20), 73)
        eventually(lambda: dispatcher.counters()["sinks"]["file"]["delivered"] == 21)
        assert dispatcher.close(10)
    os.close(writer)

    lines = [json.loads(line) for line in (small_disk / "alerts.json").read_text().splitlines()]
    assert sorted(each["event"]["id"] for each in lines[:20]) == sorted(sent)
