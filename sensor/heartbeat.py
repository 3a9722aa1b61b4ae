"""Heartbeats: what the sensor counted, as a document at a set interval, so that silence is noticed.

In: the sensor's `State` and the clock. Out: documents with `event.kind: metric`, for the sinks that take
events. They are no alerts; a gap in `event.sequence`, or none in time, is what to alert on.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sensor import __version__
from sensor.alerts.notice import ECS_VERSION, timestamp
from sensor.ecs import Document
from sensor.state import State

DATASET = "sensor.heartbeat"


@dataclass(slots=True, kw_only=True)
class Heartbeat:
    """For the loop's thread; an `interval_s` of 0 is none. Times are of a clock that never goes back."""

    state: State
    common: Mapping[str, Any]
    interval_s: float
    started: float
    _next: float = 0.0
    _sequence: int = 0

    def tick(self, now: float) -> list[Document]:
        """The first at once, which says that the sensor started."""
        if not self.interval_s or now < self._next:
            return []
        self._next = now + self.interval_s
        return [self._document("blind" if self.state.blind else "running", now)]

    def last(self, now: float) -> list[Document]:
        """The one that says that the sensor ends."""
        return [self._document("ending", now)] if self.interval_s else []

    def _document(self, state: str, now: float) -> Document:
        self._sequence += 1
        figures = totals(self.state)
        losses = sum(figures["losses"].values())
        stamp = time.time()
        return {
            "@timestamp": timestamp(stamp),
            "ecs": {"version": ECS_VERSION},
            **self.common,
            "event": {
                "id": uuid.uuid4().hex,
                "kind": "metric",
                "category": ["host"],
                "type": ["info"],
                "action": "heartbeat",
                "module": "sensor",
                "dataset": DATASET,
                "sequence": self._sequence,
                "severity": 0,
            },
            "data_stream": {"type": "logs", "dataset": DATASET, "namespace": "default"},
            "message": (
                f"The sensor is {state}: {figures['execs']} execs seen, {figures['alerts']} alerts, "
                f"{losses or 'no'} losses"
            ),
            "sensor": {
                "heartbeat": {
                    "state": state,
                    "interval_s": self.interval_s,
                    "uptime_s": round(now - self.started, 1),
                    "version": __version__,
                    **figures,
                }
            },
        }


def totals(state: State) -> dict[str, Any]:
    """The counters since the start that say how the sensor does; losses without zeros."""
    counts = state.counters()
    seen_at = state.canary.seen_at
    return {
        "execs": counts.get("execs", 0),
        "filtered": counts.get("filtered", 0),
        "sent": counts.get("sent", 0),
        "truncated": counts.get("truncated", 0),
        "matches": sum(state.matches().values()),
        "hidden": sum(state.hidden().values()),
        "collapsed": sum(state.collapsed().values()),
        "held_back": sum(state.held_back().values()),
        "alerts": sum(state.alerts().values()),
        "losses": {name: counts[name] for name in state.losses if counts.get(name)},
        "rules": dict(state.rules()),
        "sinks": {
            name: {key: value for key, value in numbers.items() if isinstance(value, int)}
            for name, numbers in state.sinks().items()
        },
        "last_canary": timestamp(seen_at) if seen_at else None,
    }
