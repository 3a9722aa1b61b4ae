"""Heartbeats arrive at a sink that takes events, in order, the last one from the sensor's end."""

from __future__ import annotations

import json
import queue
import threading
import uuid
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from patience import patient
from sensor_process import Sensor

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def receiver() -> Iterator[tuple[str, queue.Queue[dict[str, Any]]]]:
    """An address, and what was posted there; not what others post to a port that was theirs."""
    path = f"/{uuid.uuid4().hex}"
    received: queue.Queue[dict[str, Any]] = queue.Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == path:
                received.put(json.loads(body))
            self.send_response(204 if self.path == path else 404)
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}{path}", received
        server.shutdown()
        thread.join()


def beats_in(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the alerts: something else on the machine may make some."""
    return [each for each in documents if each["event"]["kind"] == "metric"]


def test_heartbeats(tmp_path: Path, receiver: tuple[str, queue.Queue[dict[str, Any]]]) -> None:
    address, received = receiver
    config = tmp_path / "sensor.yaml"
    config.write_text(
        "heartbeat_interval_s: 1\ncontainers: {sockets: []}\n"
        f"sinks: [{{type: http, url: '{address}', events: true}}]\n"
    )
    with Sensor("--config", config) as sensor:
        arrived: list[dict[str, Any]] = []
        while len(beats_in(arrived)) < 2:
            arrived.append(received.get(timeout=patient(15)))
        assert sensor.stop() == 0
    while not received.empty():
        arrived.append(received.get())
    first, second, *_ = beats = beats_in(arrived)
    assert [each["event"]["sequence"] for each in beats] == list(range(1, len(beats) + 1))
    states = [each["sensor"]["heartbeat"]["state"] for each in beats]
    assert states == ["running"] * (len(beats) - 1) + ["ending"]
    assert second["sensor"]["heartbeat"]["execs"] >= first["sensor"]["heartbeat"]["execs"] > 0
    assert second["sensor"]["heartbeat"]["last_canary"]
    assert not [each for each in sensor.alerts if each["event"]["kind"] != "alert"]
