"""The running sensor: starts everything in order, turns the loop, ends with a summary.

The order matters: what needs privileges (the program, the rings, the sockets' owners) comes first,
then they are dropped, then the threads start, for capabilities belong to threads.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sensor.alerts.collapse import Collapser
from sensor.alerts.dispatch import Dispatcher
from sensor.alerts.limits import Limiter
from sensor.alerts.notice import notice
from sensor.canary import Canary
from sensor.config import Config
from sensor.containers.discovery import SourcesConfig, find_sources
from sensor.containers.resolver import Resolver
from sensor.delivery import make_dispatcher, make_sinks
from sensor.ecs import Document, Host
from sensor.errors import ConfigurationError, PrivilegeError, ProbeError
from sensor.kernel import privileges
from sensor.kernel.decode import Decoder
from sensor.kernel.layout import Mode
from sensor.kernel.probe import Probe
from sensor.kernel.ring import Rings
from sensor.outlet import AlertOutlet
from sensor.pipeline import Pipeline
from sensor.reload import Refused, Reloader, RuleSet, load_rule_set
from sensor.rules.load import LoadResult
from sensor.telemetry import Latency, Server, State
from sensor.watch import LOSSES, Watch

if TYPE_CHECKING:
    from sensor.containers.source import Source

_log = logging.getLogger(__name__)

_POLL_S = 0.25  # the loop's longest sleep: signals and the clock are looked at this often
_POLL_WAITING_S = 0.002  # while an event waits for its container
_CANARY_TIMEOUT_S = 5.0
_CLOSE_TIMEOUT_S = 0.7
_ERRORS_TOLD, _ERROR_LENGTH = 20, 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a run came to, all numbers since its start."""

    execs: int
    filtered: int
    alerts: int
    hidden: int
    losses: dict[str, int]

    def __str__(self) -> str:
        lost = ", ".join(f"{name}={count}" for name, count in self.losses.items()) or "none"
        return (
            f"sensor ended: execs={self.execs} filtered={self.filtered} hidden={self.hidden} "
            f"alerts={self.alerts} losses: {lost}"
        )


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def run(
    config: Config,
    *,
    duration_s: float | None = None,
    observer: Callable[[Document], None] | None = None,
    say: Callable[[str], None] = _to_stderr,
    reread: Callable[[], Config] | None = None,
) -> Summary:
    """Runs until SIGINT, SIGTERM or the end of the duration.

    `reread` gives the configuration as it is when a reload is asked for; None: it does not change.

    Raises `ConfigurationError` for what the user wrote, `ProbeError` for what the kernel refuses.
    """
    if os.geteuid() != 0:
        raise PrivilegeError(
            "the sensor starts as root (it drops to an unprivileged user): use sudo"
        )
    with ExitStack() as stack:
        sensor = _start(config, observer, stack, say, reread)
        stop = stack.enter_context(_signals(sensor.reloader.request))
        if not sensor.pipeline.canary.await_(sensor.pump, _CANARY_TIMEOUT_S):
            raise ProbeError(
                "the program is attached, but an exec of our own did not come through: "
                f"{dict(sensor.watch.counters())}"
            )
        sensor.state.ready = True
        say(sensor.ready_line)
        deadline = None if duration_s is None else time.monotonic() + duration_s
        sensor.loop(stop, deadline)
        summary = sensor.finish()
    say(str(summary))
    return summary


@dataclass(slots=True)
class _Sensor:
    probe: Probe
    rings: Rings
    pipeline: Pipeline
    outlet: AlertOutlet
    dispatcher: Dispatcher
    reloader: Reloader
    watch: Watch
    common: Mapping[str, Any]
    state: State
    ready_line: str
    next_tick: float = 0.0

    def pump(self, timeout_s: float) -> None:
        """One turn of the loop."""
        pipeline = self.pipeline
        for ring, record in self.rings.poll(timeout_s):
            pipeline.record(ring, record)
        pipeline.turn()

    def loop(self, stop: threading.Event, deadline: float | None) -> None:
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
            if now >= self.next_tick:
                self.next_tick = now + 1.0
                self.pipeline.expire(time.time_ns())
                self.outlet.tick()
                for document in self.watch.tick(now):
                    self.dispatcher.submit(document, document["event"]["severity"])
                self.state.blind = self.watch.blind
            if self.dispatcher.closed_sinks():
                _log.warning("standard output is closed: the sensor ends")
                return

    def reload(self) -> None:
        """Puts in force what was loaded meanwhile, and says what is wrong with it to every sink."""
        before = self.reloader.config
        result = self.reloader.take()
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

    def put_in_force(self, rules: RuleSet, before: Config) -> None:
        """What is in the rings was let through by the old filter: the old rules judge it first."""
        self.pump(0)
        self.probe.set_filter(rules.prefilter.automaton)
        self.pipeline.engine = rules.engine
        self.outlet.exceptions = rules.exceptions
        config = rules.config
        self.pipeline.wait_s = config.containers.wait_ms / 1000
        self.pipeline.cluster_name = config.containers.cluster_name
        self.watch.canary_interval_s = config.canary_interval_s
        if _held_by(config) != _held_by(before):
            self.outlet.replace(*_holding(config))
        _log.warning(
            "rules reloaded: %d in force, filter %s", len(rules.loaded.rules), rules.prefilter
        )

    def notice(self, code: str, message: str, details: Mapping[str, Any]) -> None:
        """Says something of the sensor itself to every sink."""
        document = notice(
            code, message, severity="medium", time=time.time(), details=details, common=self.common
        )
        self.dispatcher.submit(document, document["event"]["severity"])

    def finish(self) -> Summary:
        """Takes what is left in the rings, lets the waiting go, and delivers."""
        self.pump(0)
        self.pipeline.flush()
        self.outlet.flush()
        counts = self.watch.counters()
        if not self.dispatcher.close(_CLOSE_TIMEOUT_S):
            _log.error("not every alert could be delivered: %s", self.dispatcher.counters())
        return Summary(
            execs=counts["execs"],
            filtered=counts["filtered"],
            alerts=self.outlet.alerts.total(),
            hidden=self.outlet.hidden.total(),
            losses=self.watch.losses(),
        )


def _start(
    config: Config,
    observer: Callable[[Document], None] | None,
    stack: ExitStack,
    say: Callable[[str], None],
    reread: Callable[[], Config] | None,
) -> _Sensor:
    started = time.monotonic()
    canary = Canary()
    loading = _InBackground(lambda: load_rule_set(config, canary.literal))
    sources = find_sources(
        SourcesConfig(
            sockets=None if config.containers.sockets is None else tuple(config.containers.sockets),
            kubernetes=config.containers.kubernetes,
        )
    )
    probe = Probe.load(
        ring_bytes=config.kernel.ring_bytes,
        others_ring_bytes=config.kernel.ring_bytes if config.kernel.capture == "all" else 4096,
        processes_max=config.kernel.processes_max,
        proc_root=config.kernel.proc_root,
    )
    stack.callback(probe.close)
    rings = Rings(*probe.ring_fds)
    stack.callback(rings.close)
    rules = loading.result()
    _report(rules.loaded if isinstance(rules, RuleSet) else rules, say)
    if not isinstance(rules, RuleSet):
        raise ConfigurationError(f"{len(rules.errors)} errors in the rule files")
    probe.set_filter(rules.prefilter.automaton)
    probe.set_mode(Mode.ALL if config.kernel.capture == "all" else Mode.MATCHING)
    sinks = make_sinks(config)
    user = _drop(config, sources)

    realtime_offset_ns = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    decoders = tuple(
        Decoder(
            realtime_offset_ns=realtime_offset_ns,
            host_pid_ns=probe.loaded.host_pid_ns,
            host_mnt_ns=probe.loaded.host_mnt_ns,
        )
        for _ in probe.ring_fds
    )
    resolver = Resolver(sources)
    resolver.start()
    stack.callback(resolver.stop)
    host = Host.read(realtime_offset_ns)
    common = {"host": host.fields()}
    dispatcher = make_dispatcher(config, sinks, common)
    dispatcher.start()
    outlet = AlertOutlet(dispatcher, rules.exceptions, *_holding(config))
    pipeline = Pipeline(
        decoders=decoders,
        host=host,
        resolver=resolver,
        engine=rules.engine,
        outlet=outlet,
        canary=canary,
        wait_s=config.containers.wait_ms / 1000,
        cluster_name=config.containers.cluster_name,
        observer=observer,
        recorder=probe.recorder,
    )

    def counters() -> dict[str, int]:
        counts = probe.counters() | dict(pipeline.counts)
        counts["incomplete"] = sum(decoder.incomplete for decoder in decoders)
        return counts

    latency = Latency()
    outlet.latency = latency
    reloader = Reloader(rules, canary.literal, lambda loaded: _report(loaded, say), say, reread)
    state = State(
        counters=counters,
        losses=LOSSES,
        alerts=lambda: dict(outlet.alerts),
        hidden=lambda: dict(outlet.hidden),
        resolutions=resolver.counters,
        sinks=lambda: dispatcher.counters()["sinks"],
        rules=lambda: reloader.counts,
        latency=latency,
        canary=canary,
    )
    if config.metrics.listen is not None:
        server = Server(config.metrics.listen, state)
        server.start()
        stack.callback(server.close)
    names = ", ".join(source.name for source in sources) or "the kernel alone (no socket)"
    return _Sensor(
        probe=probe,
        rings=rings,
        pipeline=pipeline,
        outlet=outlet,
        dispatcher=dispatcher,
        watch=Watch(
            counters=counters,
            canary=canary,
            common=common,
            canary_interval_s=config.canary_interval_s,
        ),
        reloader=reloader,
        common=common,
        state=state,
        ready_line=(
            f"sensor ready: kernel {host.kernel}, {len(rules.loaded.rules)} rules, "
            f"containers from {names}, filter {rules.prefilter}, running as {user}, "
            f"after {time.monotonic() - started:.2f} s"
        ),
    )


def _held_by(config: Config) -> tuple[float, bool]:
    return config.alerts.collapse_window_s, config.alerts.limit


def _holding(config: Config) -> tuple[Collapser, Limiter | None]:
    """What counts alerts together, and what holds them back."""
    window, limited = _held_by(config)
    return Collapser(window=window), Limiter() if limited else None


def _report(loaded: LoadResult, say: Callable[[str], None]) -> None:
    """Says what is wrong with the rules."""
    for error in loaded.errors:
        say(f"error: {error}")
    for rule in loaded.inactive:
        say(f"inactive: {rule.name}: {rule.inactive_reason}")
    for remark in loaded.notices:
        say(f"notice: {remark}")


def _warn_of_closed_sockets(sources: list[Source], user: str) -> None:
    """Says now what would be a riddle later: a source whose socket this user may not open."""
    for source in sources:
        for path in source.socket_paths():
            if not os.access(path, os.W_OK, effective_ids=True):
                _log.warning(
                    "%s: permission denied for user %s, so %s tells nothing of containers: "
                    "give the socket a group (chgrp, chmod g+rw)",
                    path,
                    user,
                    source.name,
                )


def _drop(config: Config, sources: list[Source]) -> str:
    """Drops privileges, unless told to keep them; says as whom the sensor runs on."""
    if config.keep_privileges:
        return "root (privileges kept)"
    sockets = [path for source in sources for path in source.socket_paths()]
    left = privileges.drop(config.user, sockets)
    _warn_of_closed_sockets(sources, config.user)
    groups = f", groups {', '.join(map(str, left.groups))}" if left.groups else ""
    return f"{config.user} without capabilities{groups}"


@contextmanager
def _signals(reload: Callable[[], None]) -> Iterator[threading.Event]:
    """SIGINT and SIGTERM set the event, SIGHUP asks for a reload; the loop looks at both."""
    stop = threading.Event()

    def handle(number: int, _frame: Any) -> None:
        if number == signal.SIGHUP:
            reload()
        else:
            stop.set()

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    previous = {number: signal.signal(number, handle) for number in numbers}
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class _InBackground:
    """A call on a thread of its own that ends before privileges are dropped."""

    def __init__(self, call: Callable[[], LoadResult | RuleSet]) -> None:
        self._call = call
        self._result: LoadResult | RuleSet | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="rules")
        self._thread.start()

    def _run(self) -> None:
        try:
            self._result = self._call()
        except BaseException as exc:  # noqa: BLE001 - raised again where it is waited for
            self._error = exc

    def result(self) -> LoadResult | RuleSet:
        self._thread.join()
        if self._error is not None:
            raise self._error
        if self._result is None:
            raise RuntimeError("the thread ended without a result")
        return self._result
