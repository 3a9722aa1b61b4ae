"""Heartbeats: when one is due, what it counts, and that it is no alert."""

from __future__ import annotations

import time

from sensor.canary import Canary
from sensor.heartbeat import Heartbeat
from sensor.state import Latency, State


def heartbeat(interval_s: float) -> Heartbeat:
    state = State(
        counters=lambda: {"execs": 10, "filtered": 7, "sent": 3, "ring_full": 2},
        losses={"ring_full": "", "args_lost": ""},
        matches=lambda: {"a-rule": 10, "another": 1},
        alerts=lambda: {("a-rule", "high"): 3, ("another", "low"): 1},
        collapsed=lambda: {"a-rule": 1},
        held_back=lambda: {"a-rule": 1},
        hidden=lambda: {("a-rule", "audit"): 5},
        resolutions=dict,
        sinks=lambda: {"stdout": {"delivered": 3, "queued": 2, "last_error": "no"}},
        delivery=dict,
        rules=lambda: {"loaded": 2},
        reloads=lambda: {"done": 4, "refused": 1},
        latency=Latency(),
        canary=Canary(),
        turned_at=time.monotonic(),
    )
    return Heartbeat(state=state, common={"host": {"name": "h"}}, interval_s=interval_s, started=90)


def test_it_comes_at_once_and_then_at_its_interval() -> None:
    subject = heartbeat(10)
    times = [now for now in range(100, 131) if subject.tick(float(now))]
    assert times == [100, 110, 120, 130]


def test_it_says_what_was_counted_and_is_no_alert() -> None:
    subject = heartbeat(10)
    (first,) = subject.tick(100.0)
    assert (first["event"]["kind"], first["event"]["sequence"]) == ("metric", 1)
    assert first["host"] == {"name": "h"}
    assert first["message"] == "The sensor is running: 10 execs seen, 4 alerts, 2 losses"
    told = first["sensor"]["heartbeat"]
    assert (told["alerts"], told["hidden"], told["losses"]) == (4, 5, {"ring_full": 2})
    assert (told["uptime_s"], told["last_canary"]) == (10.0, None)
    assert told["sinks"] == {"stdout": {"delivered": 3, "queued": 2}}


def test_one_that_is_blind_says_so_and_the_last_one_too() -> None:
    subject = heartbeat(10)
    subject.state.blind = True
    said = [*subject.tick(100.0), *subject.last(101.0)]
    assert [each["sensor"]["heartbeat"]["state"] for each in said] == ["blind", "ending"]
    assert [each["event"]["sequence"] for each in said] == [1, 2]


def test_an_interval_of_zero_is_none() -> None:
    subject = heartbeat(0)
    assert subject.tick(100.0) + subject.last(200.0) == []
