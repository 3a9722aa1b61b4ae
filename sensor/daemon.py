"""The running sensor: starts everything in order, turns the loop, ends in order.

The order matters: what needs privileges (the program, the rings, the sockets' owners) comes first,
then they are dropped, then the threads start, for capabilities belong to threads.
"""

from __future__ import annotations

import logging
import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from sensor import memory
from sensor.canary import Canary
from sensor.config import Config, Kernel
from sensor.containers.discovery import SourcesConfig, find_sources
from sensor.containers.resolver import Resolver
from sensor.delivery import make_dispatcher, make_sinks
from sensor.ecs import Document, Host
from sensor.errors import ConfigurationError, PrivilegeError, ProbeError, SightLostError
from sensor.heartbeat import Heartbeat
from sensor.kernel import privileges
from sensor.kernel.decode import Decoder
from sensor.kernel.layout import Mode
from sensor.kernel.probe import Probe
from sensor.kernel.ring import Rings
from sensor.loop import Loop, Summary, holding
from sensor.outlet import AlertOutlet
from sensor.pipeline import Pipeline
from sensor.reload import Reloader, RuleSet, load_rule_set
from sensor.rules.load import LoadResult
from sensor.state import Latency, State
from sensor.systemd import Manager
from sensor.watch import LOSSES, Watch

if TYPE_CHECKING:
    from sensor.containers.source import Source
    from sensor.prefilter import Prefilter

_log = logging.getLogger(__name__)

_CANARY_TIMEOUT_S = 5.0
_MODES = {"matching": Mode.MATCHING, "containers": Mode.CONTAINERS, "all": Mode.ALL}


_AT_EVERY_CALL = (
    "notice: this kernel attaches no program to a function's return: failed execs are looked for at the "
    "end of every system call of this machine, each of which takes a little longer"
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

    Raises `ConfigurationError` for what the user wrote, `ProbeError` for what the kernel refuses,
    `SightLostError` after the end when the program was detached or the ring lost meanwhile.
    """
    if os.geteuid() != 0:
        raise PrivilegeError(
            "the sensor starts as root (it drops to an unprivileged user): use sudo"
        )
    memory.use_one_arena()
    manager = Manager(os.environ)
    with ExitStack() as stack:
        stack.callback(manager.close)
        sensor = _start(config, observer, stack, say, reread, manager)
        stop = stack.enter_context(_signals(sensor.reloader.request))
        if not sensor.pipeline.canary.await_(sensor.pump, _CANARY_TIMEOUT_S):
            raise ProbeError(
                "the program is attached, but an exec of our own did not come through: "
                f"{dict(sensor.watch.counters())}"
            )
        memory.settle()
        sensor.state.ready = True
        say(sensor.ready_line)
        manager.ready(sensor.ready_line)
        deadline = None if duration_s is None else time.monotonic() + duration_s
        sensor.run(stop, deadline)
        summary = sensor.finish()
    say(str(summary))
    if sensor.watch.lost is not None:
        raise SightLostError(f"the sensor saw no more and ended: {sensor.watch.lost}")
    return summary


def _start(
    config: Config,
    observer: Callable[[Document], None] | None,
    stack: ExitStack,
    say: Callable[[str], None],
    reread: Callable[[], Config] | None,
    manager: Manager,
) -> Loop:
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
        others_ring_bytes=4096 if config.kernel.capture == "matching" else config.kernel.ring_bytes,
        failed_ring_bytes=_failed_ring_bytes(config.kernel),
        processes_max=config.kernel.processes_max,
        proc_root=config.kernel.proc_root,
    )
    stack.callback(probe.close)
    if probe.loaded.may_miss:
        say(
            "warning: this kernel may preempt the program and skip it for another exec, which is then "
            f"counted as missed; what would prevent it was refused: {probe.loaded.may_miss}"
        )
    if probe.loaded.at_every_call:
        say(_AT_EVERY_CALL)
    rings = Rings(*probe.ring_fds, apart=probe.failed_ring_fd)
    stack.callback(rings.close)
    rules = loading.result()
    _report(rules.loaded if isinstance(rules, RuleSet) else rules, say)
    if isinstance(rules, RuleSet) and not rules.loaded.rules and observer is None:
        say("warning: no rule is in force, so there will be no alert")
    if not isinstance(rules, RuleSet):
        raise ConfigurationError(f"{len(rules.errors)} errors in the rule files")
    probe.set_filter(rules.prefilter.filter)
    probe.set_mode(_MODES[config.kernel.capture])
    sinks = make_sinks(config)
    user = _drop(config, sources)

    realtime_offset_ns = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    decoders = tuple(
        Decoder(
            realtime_offset_ns=realtime_offset_ns,
            host_pid_ns=probe.loaded.host_pid_ns,
            host_mnt_ns=probe.loaded.host_mnt_ns,
        )
        for _ in range(rings.count)
    )
    resolver = Resolver(sources)
    resolver.start()
    stack.callback(resolver.stop)
    host = Host.read(realtime_offset_ns)
    common = {"host": host.fields()}
    dispatcher = make_dispatcher(config, sinks, common, sources)
    dispatcher.start()
    rules.exceptions.common = common
    outlet = AlertOutlet(dispatcher, rules.exceptions, *holding(config, common))
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
        kernel=probe,
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
        matches=lambda: dict(outlet.matches),
        alerts=lambda: dict(outlet.alerts),
        collapsed=lambda: dict(outlet.collapsed),
        held_back=lambda: dict(outlet.held_back),
        hidden=lambda: dict(outlet.hidden),
        resolutions=resolver.counters,
        sinks=dispatcher.sink_counters,
        delivery=dispatcher.delivery_counters,
        rules=lambda: reloader.counts,
        reloads=lambda: {"done": reloader.done, "refused": reloader.failed},
        latency=latency,
        canary=canary,
    )
    if config.metrics.listen is not None:
        from sensor.telemetry import Server  # noqa: PLC0415 - brings an HTTP server

        server = Server(config.metrics.listen, state)
        server.start()
        stack.callback(server.close)
    names = ", ".join(source.name for source in sources) or "the kernel alone (no socket)"
    return Loop(
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
            detached=probe.detached,
        ),
        heartbeat=Heartbeat(
            state=state, common=common, interval_s=config.heartbeat_interval_s, started=started
        ),
        reloader=reloader,
        manager=manager,
        common=common,
        state=state,
        ready_line=(
            f"sensor ready: kernel {host.kernel}, {len(rules.loaded.rules)} rules, "
            f"containers from {names}, {_captured(config.kernel.capture, rules.prefilter)}, "
            f"running as {user}, "
            f"after {time.monotonic() - started:.2f} s"
        ),
    )


def _captured(capture: str, prefilter: Prefilter) -> str:
    """What leaves the kernel."""
    if capture == "all":
        return "every exec captured"
    beside = "every exec in containers captured, beside that " if capture == "containers" else ""
    return f"{beside}filter {prefilter}"


def _failed_ring_bytes(kernel: Kernel) -> int:
    """Room for execs that failed: less than for the others, which there are more of."""
    return max(kernel.ring_bytes // 4, mmap.PAGESIZE) if kernel.failed_execs else 0


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
