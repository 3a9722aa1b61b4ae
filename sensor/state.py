"""What the sensor tells of itself: to metrics, probes and heartbeats."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from sensor.canary import Canary

# The loop turns at least four times a second; a probe comes every few seconds.
_STALLED_S: Final = 10.0
# Upper bounds in seconds of the time from an exec to its alert's hand-over.
LATENCY_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class Latency:
    """A histogram that the pipeline's thread fills: counts by bucket, the last one for the rest."""

    def __init__(self) -> None:
        self.counts = [0] * (len(LATENCY_BUCKETS) + 1)
        self.sum = 0.0

    def add(self, seconds: float) -> None:
        self.sum += seconds
        for index, bound in enumerate(LATENCY_BUCKETS):
            if seconds <= bound:
                self.counts[index] += 1
                return
        self.counts[-1] += 1


@dataclass(slots=True, kw_only=True)
class State:
    """What the sensor tells of itself; filled by the loop, read by other threads.

    `counters` are those of kernel and pipeline. Of matches, `matches`, `collapsed` and `held_back` count
    by the rule's id, `alerts` by rule and severity, `hidden` by rule and exception. `sinks` are the
    counters of each sink's worker, `delivery` the dispatcher's `lost` and, where there is a spool,
    `journal` and `spool`. `turned_at` is when the loop last turned, on the monotonic clock.
    """

    counters: Callable[[], Mapping[str, int]]
    losses: Mapping[str, str]
    matches: Callable[[], Mapping[str, int]]
    alerts: Callable[[], Mapping[tuple[str, str], int]]
    collapsed: Callable[[], Mapping[str, int]]
    held_back: Callable[[], Mapping[str, int]]
    hidden: Callable[[], Mapping[tuple[str, str], int]]
    resolutions: Callable[[], Mapping[str, int]]
    sinks: Callable[[], Mapping[str, Mapping[str, Any]]]
    delivery: Callable[[], Mapping[str, Mapping[str, Any]]]
    rules: Callable[[], Mapping[str, int]]
    reloads: Callable[[], Mapping[str, int]]
    latency: Latency
    canary: Canary
    ready: bool = False
    blind: bool = False
    turned_at: float = 0.0

    def health(self, kind: str) -> tuple[bool, dict[str, Any]]:
        """`startup`: the first canary came through. `live`: the loop turns. `ready`: it sees."""
        alive = time.monotonic() - self.turned_at < _STALLED_S
        facts = {"ready": self.ready, "loop_turns": alive, "blind": self.blind}
        well = {
            "startup": self.ready,
            "live": alive,
            "ready": self.ready and alive and not self.blind,
        }[kind]
        return well, {"status": "ok" if well else "failing", **facts}
