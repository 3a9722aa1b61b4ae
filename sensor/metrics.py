"""The metrics: a sensor's `State` in, Prometheus' metric families out, made when they are asked for.

Nothing is counted here. Labels are the ids of rules and exceptions, names of sinks, and words of the
sensor's own: what an attacker writes becomes none.
"""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Any

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)

from sensor import __version__
from sensor.state import LATENCY_BUCKETS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sensor.state import State

# Of a sink's counters, those that count documents by what became of them.
_RESULTS = ("delivered", "refused", "dropped")
# What became of an exec that failed.
_FAILED = ("sent", "filtered", "lost", "shed")
_PLACES = ("container", "host", "unknown")
# Of the look-ups' counters, those that go up and down.
_LEVELS = {
    "pending": ("containers_pending", "Containers that somebody was asked about and waits for"),
    "store.containers": ("containers_known", "Containers whose metadata is known"),
}


class Collector:
    """What `prometheus_client` asks for metrics."""

    def __init__(self, state: State) -> None:
        self._state = state

    def collect(self) -> Iterator[Any]:
        yield from self._execs()
        yield from self._matches()
        yield from self._containers()
        yield from self._sinks()
        yield from self._delivery()
        yield from self._sensor()

    def _execs(self) -> Iterator[Any]:
        counts = self._state.counters()
        for name, text in (
            ("execs", "Execs the kernel side has seen"),
            ("filtered", "Execs that no rule could match, kept in the kernel"),
            ("sent", "Execs sent to user space"),
            ("truncated", "Execs whose argv was over the limit"),
            ("shed", "Execs no rule could match that found no room in their ring"),
        ):
            yield counter(name, text, {(): counts.get(name, 0)})
        failed = {name: counts.get(f"failed_{name}", 0) for name in _FAILED}
        yield counter("failed_execs", "Execs that failed, where they are told", failed, "result")
        yield counter(
            "failed_args_error",
            "Execs that failed whose argv could not be read whole",
            {(): counts.get("failed_args_error", 0)},
        )
        places = {place: counts.get(f"identity_{place}", 0) for place in _PLACES}
        yield counter("judged", "Execs that rules judged, by where they ran", places, "place")
        losses = {name: counts.get(name, 0) for name in self._state.losses}
        yield counter("losses", "What was not judged, by the stage that lost it", losses, "stage")

    def _matches(self) -> Iterator[Any]:
        state = self._state
        yield counter(
            "matches", "Execs and sequences that a rule matched", state.matches(), "rule_id"
        )
        yield counter(
            "alerts", "Matches that were sent as alerts", state.alerts(), "rule_id", "severity"
        )
        yield counter(
            "collapsed",
            "Matches counted into an earlier alert of their action",
            state.collapsed(),
            "rule_id",
        )
        yield counter(
            "held_back", "Matches beyond their rule's limit", state.held_back(), "rule_id"
        )
        yield counter(
            "hidden", "Matches hidden by an exception", state.hidden(), "rule_id", "exception_id"
        )
        latency = HistogramMetricFamily(
            "sensor_alert_latency_seconds", "From the exec to the alert's hand-over to the sinks"
        )
        latency.add_metric((), _cumulated(state.latency.counts), state.latency.sum)
        yield latency

    def _containers(self) -> Iterator[Any]:
        numbers = dict(self._state.resolutions())
        for key, (name, text) in _LEVELS.items():
            yield gauge(name, text, {(): numbers.pop(key, 0)})
        results = {}
        for key, number in numbers.items():
            source, _, result = key.partition(".")
            results[source, result] = number
        yield counter(
            "container_resolutions",
            "Look-ups of containers, by engine, and how the waiting for them was settled",
            results,
            "source",
            "result",
        )

    def _sinks(self) -> Iterator[Any]:
        sinks = self._state.sinks()
        results = {
            (sink, result): numbers.get(result, 0)
            for sink, numbers in sinks.items()
            for result in _RESULTS
        }
        yield counter("sink_documents", "Documents by sink and result", results, "sink", "result")
        for kind, name, key, text in (
            (counter, "sink_retries", "retries", "Deliveries tried again"),
            (counter, "sink_errors", "errors", "Faults in the sink itself"),
            (gauge, "sink_queue_documents", "queued", "Documents in memory that wait for a sink"),
            (
                gauge,
                "sink_failing_seconds",
                "failing_seconds",
                "For how long a sink has not taken anything; 0 while it works",
            ),
        ):
            values = {sink: numbers.get(key, 0) for sink, numbers in sinks.items()}
            yield kind(name, text, values, "sink")

        for numbers in sinks.values():
            if own := numbers.get("own"):
                yield counter(
                    "store_alerts",
                    "Alerts in the local store: written, updated, gone for want of room or of age",
                    own,
                    "result",
                )

    def _delivery(self) -> Iterator[Any]:
        delivery = self._state.delivery()
        yield counter(
            "delivery_losses",
            "Documents lost on their way: to a sink, or by the journal, the spool, the encoding",
            delivery.get("lost", {}),
            "stage",
        )
        if (journal := delivery.get("journal")) is not None:
            yield gauge(
                "journal_queue_documents",
                "Documents that wait to be written to the spool",
                {(): journal["queued"]},
            )
            yield counter(
                "journal_documents",
                "Documents that were shown before they were written, or never were written",
                {"shown_first": journal["shown_first"], "unspooled": journal["unspooled"]},
                "result",
            )
        if (spool := delivery.get("spool")) is not None:
            yield gauge("spool_documents", "Documents in the spool", {(): spool["documents"]})
            yield gauge("spool_bytes", "Size of the documents in the spool", {(): spool["bytes"]})
            yield gauge(
                "spool_behind_documents",
                "Documents in the spool that a sink has not had",
                spool["behind"],
                "sink",
            )
            yield counter(
                "spool_discarded",
                "Documents that left the spool before every sink had them",
                {"full": spool["evicted"], "old": spool["expired"]},
                "reason",
            )

    def _sensor(self) -> Iterator[Any]:
        state = self._state
        yield gauge("rules", "Rules by state", state.rules(), "state")
        yield counter("reloads", "Reloads that were asked for", state.reloads(), "result")
        yield gauge(
            "blind",
            "1 while an exec of the sensor's own does not come through",
            {(): int(state.blind)},
        )
        yield gauge(
            "last_canary_timestamp_seconds", "When one last came", {(): state.canary.seen_at}
        )
        built = {(__version__, platform.python_version(), platform.release()): 1}
        yield gauge("build_info", "Always 1", built, "version", "python", "kernel")


def counter(name: str, text: str, values: Mapping[Any, float], *labels: str) -> Any:
    """A family of counters; `values` by the label's value, or by a tuple of several."""
    return _filled(CounterMetricFamily(f"sensor_{name}", text, labels=labels), values)


def gauge(name: str, text: str, values: Mapping[Any, float], *labels: str) -> Any:
    """The same, of gauges."""
    return _filled(GaugeMetricFamily(f"sensor_{name}", text, labels=labels), values)


def _filled(family: Any, values: Mapping[Any, float]) -> Any:
    for label, value in values.items():
        family.add_metric(label if isinstance(label, tuple) else (label,), value)
    return family


def _cumulated(counts: list[int]) -> list[tuple[str, float]]:
    total, buckets = 0, []
    for bound, count in zip((*map(str, LATENCY_BUCKETS), "+Inf"), counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets
