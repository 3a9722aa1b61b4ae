"""Being watched from outside: `/metrics` for Prometheus and `/healthz/*` for probes.

In: a `State` that says what to tell. Out: HTTP on one address, on threads of its own. Only read-only
questions are answered; nothing of an alert's content is told.
"""

from __future__ import annotations

import json
import logging
import platform
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from sensor import __version__
from sensor.canary import Canary
from sensor.errors import ConfigurationError, SensorError

_log = logging.getLogger(__name__)

# The loop turns at least four times a second; a probe comes every few seconds.
_STALLED_S: Final = 10.0
# A peer that connects and says nothing must not keep its thread.
_REQUEST_TIMEOUT_S: Final = 5.0
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

    `counters` are those of kernel and pipeline; the mappings count by rule's id, by exception, by
    source and by sink. `turned_at` is when the loop last turned, on the monotonic clock.
    """

    counters: Callable[[], Mapping[str, int]]
    losses: Mapping[str, str]
    alerts: Callable[[], Mapping[str, int]]
    hidden: Callable[[], Mapping[str, int]]
    resolutions: Callable[[], Mapping[str, int]]
    sinks: Callable[[], Mapping[str, Mapping[str, Any]]]
    rules: Callable[[], Mapping[str, int]]
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


class _Collector:
    """Makes the metrics when they are asked for, from what is counted anyway."""

    def __init__(self, state: State) -> None:
        self._state = state

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import (  # noqa: PLC0415 - only where metrics are served
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        state, counts = self._state, self._state.counters()

        def counter(name: str, text: str, values: Mapping[Any, float], *labels: str) -> Any:
            family = CounterMetricFamily(f"sensor_{name}", text, labels=labels)
            for label, value in values.items():
                family.add_metric(label if isinstance(label, tuple) else (label,), value)
            return family

        def gauge(name: str, text: str, value: float) -> Any:
            return GaugeMetricFamily(f"sensor_{name}", text, value=value)

        for name, text in (
            ("execs", "Execs the kernel side has seen"),
            ("filtered", "Execs that no rule could match, kept in the kernel"),
            ("sent", "Execs sent to user space"),
            ("truncated", "Execs whose argv was over the limit"),
            ("shed", "Execs no rule could match that found no room in their ring"),
        ):
            yield CounterMetricFamily(f"sensor_{name}", text, value=counts.get(name, 0))
        losses = {name: counts.get(name, 0) for name in state.losses}
        yield counter("losses", "What was not judged, by the stage that lost it", losses, "stage")
        yield counter("alerts", "Matches that became alerts", state.alerts(), "rule_id")
        yield counter("hidden", "Matches hidden by an exception", state.hidden(), "rule_id")
        yield counter(
            "container_resolutions", "Look-ups of containers", state.resolutions(), "result"
        )
        sinks = {
            (sink, name): value
            for sink, numbers in state.sinks().items()
            for name, value in numbers.items()
            if isinstance(value, int) and not isinstance(value, bool) and name != "queued"
        }
        yield counter("sink_documents", "Documents by sink and result", sinks, "sink", "result")
        queued = GaugeMetricFamily(
            "sensor_sink_queue_documents", "Documents that wait for a sink", labels=("sink",)
        )
        for sink, numbers in state.sinks().items():
            queued.add_metric((sink,), numbers.get("queued", 0))
        yield queued
        rules = GaugeMetricFamily("sensor_rules", "Rules by state", labels=("state",))
        for name, number in state.rules().items():
            rules.add_metric((name,), number)
        yield rules
        yield gauge(
            "blind", "1 while an exec of the sensor's own does not come through", state.blind
        )
        yield gauge("last_canary_timestamp_seconds", "When one last came", state.canary.seen_at)
        latency = HistogramMetricFamily(
            "sensor_alert_latency_seconds", "From the exec to the alert's hand-over to the sinks"
        )
        latency.add_metric((), _cumulated(state.latency.counts), state.latency.sum)
        yield latency
        info = GaugeMetricFamily(
            "sensor_build_info", "Always 1", labels=("version", "python", "kernel")
        )
        info.add_metric((__version__, platform.python_version(), platform.release()), 1)
        yield info


def _cumulated(counts: list[int]) -> list[tuple[str, float]]:
    total, buckets = 0, []
    for bound, count in zip((*map(str, LATENCY_BUCKETS), "+Inf"), counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return buckets


class Server:
    """Serves until it is closed. Opens its port at once: a privileged one needs root."""

    def __init__(self, listen: str, state: State) -> None:
        from prometheus_client import CollectorRegistry, exposition  # noqa: PLC0415 - as above

        registry = CollectorRegistry()
        registry.register(_Collector(state))

        class Handler(BaseHTTPRequestHandler):
            server_version = f"sensor/{__version__}"
            timeout = _REQUEST_TIMEOUT_S

            def do_GET(self) -> None:
                path = self.path.split("?", 1)[0]
                kind = path.removeprefix("/healthz/")
                if path == "/metrics":
                    encoder, content_type = exposition.choose_encoder(
                        self.headers.get("Accept", "")
                    )
                    self._answer(200, content_type, encoder(registry))
                elif path.startswith("/healthz/") and kind in ("startup", "live", "ready"):
                    well, facts = state.health(kind)
                    body = json.dumps(facts).encode() + b"\n"
                    self._answer(200 if well else 503, "application/json", body)
                else:
                    self._answer(404, "text/plain", b"/metrics, /healthz/{startup,live,ready}\n")

            def _answer(self, status: int, content_type: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
                _log.debug(format, *args)

        host, port = _address(listen)

        class Listener(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        try:
            self._server = Listener((host, port), Handler)
        except OSError as exc:
            raise SensorError(f"metrics.listen: {listen}: {exc.strerror}") from exc
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="telemetry", daemon=True
        )

    @property
    def port(self) -> int:
        return self._server.server_port

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ConfigurationError(f"metrics.listen: {listen!r} is not HOST:PORT")
    return host.strip("[]"), int(port)
