"""The loop of the running sensor: turns the pipeline, keeps the clock, puts reloads in force, ends.

In: what `daemon` started. Out: a `Summary`. One thread; nothing here needs a privilege.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sensor import memory
from sensor.alerts.collapse import Collapser
from sensor.alerts.dispatch import Dispatcher
from sensor.alerts.limits import Limit, Limiter
from sensor.alerts.notice import notice
from sensor.config import Config
from sensor.ecs import Document
from sensor.errors import ProbeError
from sensor.heartbeat import Heartbeat, totals
from sensor.kernel.probe import Probe
from sensor.kernel.ring import Rings, by_time
from sensor.outlet import AlertOutlet
from sensor.pipeline import Pipeline
from sensor.reload import Refused, Reloader, RuleSet
from sensor.state import State
from sensor.systemd import Manager
from sensor.watch import Watch

_log = logging.getLogger(__name__)

_POLL_S = 0.25  # the loop's longest sleep: signals and the clock are looked at this often
_POLL_WAITING_S = 0.002  # while an event waits for its container
_TRIM_EVERY_S = 60.0
_CLOSE_TIMEOUT_S = 0.7
_LAST_WORDS_S = 5.0  # to deliver that the sensor gives up: worth more than a quick end
_ERRORS_TOLD, _ERROR_LENGTH = 20, 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a run came to, all numbers since its start.

    `failed` are the execs that failed, None where they are not told. Of the matches, some were `hidden` by an exception, `collapsed` into the count of an earlier alert, or
    `held_back` by a rule's limit; the others are the `alerts`.
    """

    execs: int
    filtered: int
    hidden: int
    collapsed: int
    held_back: int
    alerts: int
    losses: dict[str, int]
    failed: int | None = None

    def __str__(self) -> str:
        failed = "" if self.failed is None else f"failed={self.failed} "
        lost = ", ".join(f"{name}={count}" for name, count in self.losses.items()) or "none"
        return (
            f"sensor ended: execs={self.execs} filtered={self.filtered} {failed}"
            f"hidden={self.hidden} "
            f"collapsed={self.collapsed} held_back={self.held_back} "
            f"alerts={self.alerts} losses: {lost}"
        )


@dataclass(slots=True)
class Loop:
    probe: Probe
    rings: Rings
    pipeline: Pipeline
    outlet: AlertOutlet
    dispatcher: Dispatcher
    reloader: Reloader
    manager: Manager
    watch: Watch
    heartbeat: Heartbeat
    common: Mapping[str, Any]
    state: State
    ready_line: str
    next_tick: float = 0.0
    next_trim: float = 0.0
    reloading: bool = False

    def pump(self, timeout_s: float) -> None:
        """One turn of the loop."""
        pipeline = self.pipeline
        batch = self.rings.poll(timeout_s)
        self.watch.drained += self.rings.drained
        # A rule may want to know what a process failed in before it succeeded. What it failed in is
        # there when its success is read, for the ring of failures is read last.
        if self.probe.failed_ring_fd is not None:
            batch = by_time(batch)
        for ring, record in batch:
            pipeline.record(ring, record)
        pipeline.turn()

    def run(self, stop: threading.Event, deadline: float | None) -> None:
        """Turns until the event, the deadline, or the loss of sight: then `watch.lost` says why."""
        try:
            self._turn(stop, deadline)
        except ProbeError as exc:
            self.watch.lost = str(exc)
            self._submit([self.watch.last_words(str(exc))])

    def _turn(self, stop: threading.Event, deadline: float | None) -> None:
        while not stop.is_set():
            self.state.turned_at = time.monotonic()
            timeout_s = _POLL_WAITING_S if self.pipeline.is_waiting else _POLL_S
            now = time.monotonic()
            if deadline is not None:
                if now >= deadline:
                    return
                timeout_s = min(timeout_s, deadline - now)
            self.pump(timeout_s)
            self.reload()
            self.manager.turn(now, self.status)
            if now >= self.next_tick:
                self.next_tick = now + 1.0
                self.pipeline.expire(time.time_ns())
                self.outlet.tick()
                self._submit(self.watch.tick(now))
                self.state.blind = self.watch.blind
                self._submit(self.heartbeat.tick(now))
                if self.watch.lost is not None:
                    return
                if now >= self.next_trim:
                    self.next_trim = now + _TRIM_EVERY_S
                    memory.trim()
            if self.dispatcher.closed_sinks():
                _log.warning("standard output is closed: the sensor ends")
                return

    def reload(self) -> None:
        """Puts in force what was loaded meanwhile, and says what is wrong with it to every sink."""
        before = self.reloader.config
        result = self.reloader.take()
        if self.reloader.busy != self.reloading:
            self.reloading = self.reloader.busy
            if self.reloading:
                self.manager.reloading()
        if isinstance(result, RuleSet):
            self.put_in_force(result, before)
            if result.loaded.errors:
                details = [
                    str(error).splitlines()[0][:_ERROR_LENGTH]
                    for error in result.loaded.errors[:_ERRORS_TOLD]
                ]
                self.notice(
                    "reload_incomplete",
                    f"{len(result.loaded.errors)} errors in the files of rules and exceptions: what is "
                    "broken stays as it was, the rest was reloaded",
                    {"errors": details},
                )
        elif isinstance(result, Refused):
            _log.error(
                "the rules cannot be reloaded, the old ones stay in force: %s", result.reason
            )
            self.notice(
                "reload_failed",
                "The rules could not be reloaded, the old ones stay in force",
                {"reason": result.reason[:1000]},
            )
        if result is not None and not self.reloading:
            self.manager.ready(self.status())

    def status(self) -> str:
        """One line of how the sensor does."""
        figures = totals(self.state)
        lost = ", ".join(f"{name}={count}" for name, count in figures["losses"].items())
        return (
            f"{'blind' if self.state.blind else 'seeing'}: {figures['execs']} execs, "
            f"{figures['filtered']} filtered, {figures['alerts']} alerts, losses: {lost or 'none'}"
        )

    def put_in_force(self, rules: RuleSet, before: Config) -> None:
        """What is in the rings was let through by the old filter: the old rules judge it first."""
        self.pump(0)
        self.probe.set_filter(rules.prefilter.filter)
        self.pipeline.engine = rules.engine
        rules.exceptions.succeed(self.outlet.exceptions)
        self.outlet.exceptions = rules.exceptions
        config = rules.config
        self.pipeline.wait_s = config.containers.wait_ms / 1000
        self.pipeline.cluster_name = config.containers.cluster_name
        self.watch.canary_interval_s = config.canary_interval_s
        self.heartbeat.interval_s = config.heartbeat_interval_s
        if _held_by(config) != _held_by(before):
            self.outlet.replace(*holding(config, self.common))
        memory.settle()
        _log.warning(
            "rules reloaded: %d in force, filter %s", len(rules.loaded.rules), rules.prefilter
        )

    def notice(self, code: str, message: str, details: Mapping[str, Any]) -> None:
        """Says something of the sensor itself to every sink."""
        self._submit(
            [
                notice(
                    code,
                    message,
                    severity="medium",
                    time=time.time(),
                    details=details,
                    common=self.common,
                )
            ]
        )

    def _submit(self, documents: Iterable[Document]) -> None:
        for document in documents:
            self.dispatcher.submit(document, document["event"]["severity"])

    def finish(self) -> Summary:
        """Takes what is left in the rings, lets the waiting go, and delivers."""
        self.manager.stopping(self.watch.lost or self.status())
        try:
            self.pump(0)
        except ProbeError as exc:
            _log.error("what was left in the ring is lost: %s", exc)
        self.pipeline.flush()
        self.outlet.flush()
        self._submit(self.heartbeat.last(time.monotonic()))
        counts = self.watch.counters()
        timeout_s = _CLOSE_TIMEOUT_S if self.watch.lost is None else _LAST_WORDS_S
        if not self.dispatcher.close(timeout_s):
            _log.error("not every alert could be delivered: %s", self.dispatcher.counters())
        return Summary(
            execs=counts["execs"],
            filtered=counts["filtered"],
            hidden=self.outlet.hidden.total(),
            collapsed=self.outlet.collapsed.total(),
            held_back=self.outlet.held_back.total(),
            alerts=self.outlet.alerts.total(),
            losses=self.watch.losses(),
            failed=counts["failed"] if self.probe.failed_ring_fd is not None else None,
        )


def _held_by(config: Config) -> tuple[Any, ...]:
    own = config.alerts
    return (
        own.collapse_window_s,
        own.limit,
        own.max_alerts,
        own.interval_s,
        own.reserve,
        own.limits,
    )


def holding(config: Config, common: Mapping[str, Any]) -> tuple[Collapser, Limiter | None]:
    """What counts alerts together, and what holds them back; `common` is for what it says of that."""
    own = config.alerts
    limiter = Limiter(
        everywhere=Limit(interval=own.interval_s, max_alerts=own.max_alerts, reserve=own.reserve),
        per_rule={
            each.rule: Limit(
                interval=each.interval_s, max_alerts=each.max_alerts, reserve=each.reserve
            )
            for each in own.limits
        },
        common=common,
    )
    return Collapser(window=own.collapse_window_s), limiter if own.limit else None
