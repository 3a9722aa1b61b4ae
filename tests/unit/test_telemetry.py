"""Metrics and health as a scraper and a probe see them, over a real socket."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from sensor.canary import Canary
from sensor.errors import ConfigurationError
from sensor.state import Latency, State
from sensor.telemetry import Server


@pytest.fixture
def state() -> State:
    return State(
        counters=lambda: {"execs": 10, "filtered": 7, "ring_full": 2},
        losses={"ring_full": "", "args_lost": ""},
        matches=lambda: {"a-rule": 13},
        alerts=lambda: {("a-rule", "high"): 3},
        collapsed=lambda: {"a-rule": 7},
        held_back=lambda: {"a-rule": 1},
        hidden=lambda: {("a-rule", "audit"): 2},
        resolutions=lambda: {"docker.lookup.found": 4, "pending": 1, "store.containers": 5},
        sinks=lambda: {
            "stdout": {"delivered": 3, "queued": 2, "closed": False, "failing_seconds": 1.5},
            "store": {"delivered": 9, "own": {"written": 8, "evicted": 4}},
        },
        delivery=lambda: {
            "lost": {"stdout": 0, "spool": 6},
            "journal": {"queued": 3, "shown_first": 0, "unspooled": 2},
            "spool": {
                "documents": 9,
                "bytes": 900,
                "behind": {"http": 8},
                "evicted": 5,
                "expired": 1,
            },
        },
        rules=lambda: {"loaded": 2, "inactive": 1, "failed": 0},
        reloads=lambda: {"done": 4, "refused": 1},
        latency=Latency(),
        canary=Canary(),
        turned_at=time.monotonic(),
    )


@pytest.fixture
def server(state: State) -> Iterator[Server]:
    served = Server("127.0.0.1:0", state)
    served.start()
    yield served
    served.close()


def get(server: Server, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}{path}", timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_metrics_say_what_was_counted(server: Server, state: State) -> None:
    state.latency.add(0.002)
    state.latency.add(7)
    status, text = get(server, "/metrics")
    assert status == 200
    for line in (
        "sensor_execs_total 10.0",
        'sensor_reloads_total{result="refused"} 1.0',
        'sensor_losses_total{stage="ring_full"} 2.0',
        'sensor_losses_total{stage="args_lost"} 0.0',
        'sensor_matches_total{rule_id="a-rule"} 13.0',
        'sensor_alerts_total{rule_id="a-rule",severity="high"} 3.0',
        'sensor_collapsed_total{rule_id="a-rule"} 7.0',
        'sensor_held_back_total{rule_id="a-rule"} 1.0',
        'sensor_hidden_total{exception_id="audit",rule_id="a-rule"} 2.0',
        'sensor_container_resolutions_total{result="lookup.found",source="docker"} 4.0',
        "sensor_containers_pending 1.0",
        "sensor_containers_known 5.0",
        'sensor_sink_documents_total{result="delivered",sink="stdout"} 3.0',
        'sensor_sink_queue_documents{sink="stdout"} 2.0',
        'sensor_sink_failing_seconds{sink="stdout"} 1.5',
        'sensor_store_alerts_total{result="evicted"} 4.0',
        'sensor_delivery_losses_total{stage="spool"} 6.0',
        "sensor_journal_queue_documents 3.0",
        'sensor_journal_documents_total{result="unspooled"} 2.0',
        "sensor_spool_documents 9.0",
        "sensor_spool_bytes 900.0",
        'sensor_spool_behind_documents{sink="http"} 8.0',
        'sensor_spool_discarded_total{reason="full"} 5.0',
        'sensor_rules{state="inactive"} 1.0',
        'sensor_alert_latency_seconds_bucket{le="0.0025"} 1.0',
        'sensor_alert_latency_seconds_bucket{le="+Inf"} 2.0',
        "sensor_alert_latency_seconds_count 2.0",
    ):
        assert line in text.splitlines()


@pytest.mark.parametrize(
    ("fields", "healthy"),
    [
        ({}, {"live"}),
        ({"ready": True}, {"startup", "live", "ready"}),
        ({"ready": True, "blind": True}, {"startup", "live"}),
        ({"ready": True, "turned_at": -100.0}, {"startup"}),
    ],
)
def test_the_three_probes_differ(
    server: Server, state: State, fields: dict[str, Any], healthy: set[str]
) -> None:
    for name, value in fields.items():
        setattr(state, name, value)
    for kind in ("startup", "live", "ready"):
        status, body = get(server, f"/healthz/{kind}")
        assert (kind, status) == (kind, 200 if kind in healthy else 503)
        assert json.loads(body)["status"] == ("ok" if kind in healthy else "failing")


def test_a_peer_that_says_nothing_is_let_go(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sensor.telemetry._REQUEST_TIMEOUT_S", 0.1)
    served = Server("127.0.0.1:0", state)
    served.start()
    try:
        with socket.create_connection(("127.0.0.1", served.port), timeout=5) as peer:
            assert peer.recv(1) == b""
    finally:
        served.close()


def test_an_ipv6_address(state: State) -> None:
    served = Server("[::1]:0", state)
    served.start()
    try:
        with urllib.request.urlopen(f"http://[::1]:{served.port}/metrics", timeout=5) as answer:
            assert answer.status == 200
    finally:
        served.close()


def test_anything_else_is_not_found(server: Server) -> None:
    assert get(server, "/")[0] == 404
    assert get(server, "/healthz/other")[0] == 404


@pytest.mark.parametrize("listen", ["", "9000", "localhost:", "localhost:http", "h:99999"])
def test_an_address_that_is_none(listen: str, state: State) -> None:
    with pytest.raises(ConfigurationError, match=r"metrics\.listen"):
        Server(listen, state)
