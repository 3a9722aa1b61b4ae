"""The pipeline: one exec in, the alerts it causes out to the dispatcher.

decode -> identity -> metadata -> document -> rules -> alerts. An event of a container whose
metadata is not known yet is put aside until it is, for a bounded time; the others overtake it, except
those of the same container, which keep their order behind it.
"""

from __future__ import annotations

import logging
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from sensor.canary import Canary
from sensor.containers.entry import entered_by_exec
from sensor.containers.fields import container_fields
from sensor.containers.identity import Identity, confirm, resolve_identity
from sensor.containers.resolver import Resolution, Resolver
from sensor.ecs import (
    Document,
    Host,
    ancestry,
    document_of,
    event_document,
    matching_view,
    recent_activity,
)
from sensor.errors import DecodeError, OutputError, ProbeError
from sensor.event import Cgroup, ExecEvent, RecentExec
from sensor.kernel.decode import Decoder
from sensor.rules.engine import Match, RuleEngine
from sensor.rules.rule import Rule

_log = logging.getLogger(__name__)

# What is held back at once, in bytes, roughly: events put aside, and alerts to be sent again. Beyond it
# events go on without metadata, and alerts stay as they were sent.
_WAITING_BYTES_MAX = 4 << 20
_UNFINISHED_BYTES_MAX = 8 << 20
# What an event, an alert and each argument take beside argv's characters.
_EVENT_BYTES = 4 << 10
_ALERT_BYTES = 24 << 10
_ARGUMENT_BYTES = 58


class Outlet(Protocol):
    """Where alerts go: limits, collapse and sinks lie behind it."""

    def alert(
        self, documents: tuple[Document, ...], rule: Rule, time_ns: int
    ) -> Document | None: ...
    def update(self, alert: Document, rule: Rule, place: Document) -> None: ...


class HostCgroups(Protocol):
    """The program in the kernel, which spares the host's execs where no rule wants them."""

    def know_the_host(self, sensor_tgid: int, pid_ns: int | None, mnt_ns: int | None) -> None: ...
    def note_host_cgroup(self, cgroups: tuple[Cgroup, ...]) -> None: ...


class Recorder(Protocol):
    """What a cgroup did before a time, in nanoseconds of CLOCK_BOOTTIME; `ProbeError` if not known."""

    def last(self, cgroup_id: int, *, before_ns: int) -> tuple[RecentExec, ...]: ...


@dataclass(slots=True)
class _Waiting:
    """An event put aside until its container is known."""

    event: ExecEvent
    identity: Identity
    deadline: float


@dataclass(slots=True)
class _Unfinished:
    """An alert that left before its container was known whole."""

    alert: Document
    rule: Rule
    identity: Identity
    bytes: int


@dataclass(slots=True)
class Pipeline:
    """For one thread. `wait_s` is how long an event waits for its container's metadata."""

    decoders: tuple[Decoder, ...]
    host: Host
    resolver: Resolver
    engine: RuleEngine
    outlet: Outlet
    canary: Canary
    wait_s: float
    cluster_name: str | None = None
    observer: Callable[[Document], None] | None = None
    recorder: Recorder | None = None
    kernel: HostCgroups | None = None
    clock: Callable[[], float] = time.monotonic
    counts: Counter[str] = field(default_factory=Counter)
    _sequence: int = 0
    _waiting: OrderedDict[str, deque[_Waiting]] = field(default_factory=OrderedDict)
    _waiting_bytes: int = 0
    _unfinished: dict[str, list[_Unfinished]] = field(default_factory=dict)
    _unfinished_bytes: int = 0
    _answered: deque[tuple[str, Resolution]] = field(default_factory=deque)
    _told_of_unknown_host: bool = False

    def record(self, ring: int, record: bytes) -> None:
        """Takes one record of a ring."""
        try:
            event = self.decoders[ring].feed(record)
        except DecodeError as exc:
            self.counts["decode_errors"] += 1
            _log.warning("a record from the kernel could not be decoded: %s", exc)
            return
        if event is None:
            return
        if self.canary.take(event):
            self._learn_host_namespaces(event)
            return
        self.counts["events"] += 1
        if event.failure is not None and event.args_read_error:
            self.counts["failed_args_error"] += 1
        try:
            self._event(event)
        except OutputError:
            raise  # the observer's, who needs no more events
        except Exception:  # noqa: BLE001
            # The stage boundary: one event that cannot be handled must not take the sensor down.
            self.counts["pipeline_errors"] += 1
            _log.exception("an event could not be handled")

    def turn(self) -> None:
        """Lets go the events whose container is known by now, or whose time is over.

        Alerts that left without their container's metadata are sent again once it is there.
        """
        while self._answered:
            self._finish(*self._answered.popleft())
        if not self._waiting:
            return
        now = self.clock()
        for container_id in list(self._waiting):
            queue = self._waiting[container_id]
            resolution = self.resolver.get(container_id)
            if _more_may_come(resolution) and queue[0].deadline > now:
                continue
            del self._waiting[container_id]
            for waiting in queue:
                self._waiting_bytes -= _EVENT_BYTES + _argv_bytes(waiting.event)
                self._judge(waiting.event, waiting.identity, resolution)

    @property
    def is_waiting(self) -> bool:
        return bool(self._waiting)

    def flush(self) -> None:
        """Lets all waiting events go, with what is known."""
        for queue in self._waiting.values():
            for waiting in queue:
                resolution = self.resolver.get(waiting.identity.container_id or "")
                self._judge(waiting.event, waiting.identity, resolution)
        self._waiting.clear()
        self._waiting_bytes = 0

    def expire(self, now_ns: int) -> None:
        """Lets sequences end that wait for an event which does not come. About once a second."""
        for match in self.engine.expire(now_ns):
            self.counts["matches"] += 1
            self._late(match, now_ns)

    def _late(self, match: Match, time_ns: int) -> None:
        self.outlet.alert(tuple(map(document_of, match.documents)), match.rule, time_ns)

    def _event(self, event: ExecEvent) -> None:
        identity = confirm(
            resolve_identity(event.cgroups, event.namespaces), self.resolver.lookup_known
        )
        self.counts[f"identity_{identity.state}"] += 1
        container_id = identity.container_id
        if container_id is None:
            if self.kernel is not None and identity.state == "host":
                self.kernel.note_host_cgroup(event.cgroups)
            self._judge(event, identity, None)
            return
        queue = self._waiting.get(container_id)
        resolution = self.resolver.get(container_id)
        if queue is None and not _more_may_come(resolution):
            self._judge(event, identity, resolution)
            return
        size = _EVENT_BYTES + _argv_bytes(event)
        if self.wait_s <= 0 or self._waiting_bytes + size > _WAITING_BYTES_MAX:
            self.counts["not_awaited"] += 1
            self._judge(event, identity, resolution)
            return
        if queue is None:
            queue = self._waiting[container_id] = deque()
            self.resolver.request(container_id, _ignore)
        queue.append(_Waiting(event, identity, self.clock() + self.wait_s))
        self._waiting_bytes += size

    def _judge(self, event: ExecEvent, identity: Identity, resolution: Resolution | None) -> None:
        self._sequence += 1
        place = self._place(identity, resolution)
        document = event_document(event, self.host, place, self._sequence)
        if resolution is not None:
            entered = entered_by_exec(event.process, event.ancestors, resolution.container)
            if entered is not None:
                document["sensor"]["entered_by_exec"] = entered
        if self.observer is not None:
            self.observer(document)
        view = matching_view(document)
        for match in self.engine.match(view, event.time_ns):
            self.counts["matches"] += 1
            if match.documents[-1] is not view:
                # A sequence that had only waited for something not to come: this exec is not in it.
                self._late(match, event.time_ns)
                continue
            # Rules saw the view with all names; the alert carries the document itself.
            before = tuple(map(document_of, match.documents[:-1]))
            alert = self.outlet.alert(
                (*before, self._with_past(document, event)), match.rule, event.time_ns
            )
            if alert is not None and resolution is not None and _more_may_come(resolution):
                size = _ALERT_BYTES + _argv_bytes(event)
                self._remember(_Unfinished(alert, match.rule, identity, size))

    def _place(self, identity: Identity, resolution: Resolution | None) -> Document:
        outer = next(filter(None, map(self.resolver.lookup_known, identity.outer_ids)), None)
        return container_fields(identity, resolution, outer=outer, cluster_name=self.cluster_name)

    def _remember(self, unfinished: _Unfinished) -> None:
        """The answer comes on the resolver's thread, and is taken up at the next turn."""
        container_id = unfinished.identity.container_id
        if container_id is None:
            return
        if self._unfinished_bytes + unfinished.bytes > _UNFINISHED_BYTES_MAX:
            self.counts["updates_left_out"] += 1
            return
        self._unfinished_bytes += unfinished.bytes
        known = self._unfinished.setdefault(container_id, [])
        known.append(unfinished)
        if len(known) == 1:
            self.resolver.request(
                container_id,
                lambda resolution: self._answered.append((container_id, resolution)),
            )

    def _finish(self, container_id: str, resolution: Resolution) -> None:
        for unfinished in self._unfinished.pop(container_id, ()):
            self._unfinished_bytes -= unfinished.bytes
            if resolution.container is not None:
                self.counts["updates"] += 1
                place = self._place(unfinished.identity, resolution)
                self.outlet.update(unfinished.alert, unfinished.rule, place)

    def _with_past(self, document: Document, event: ExecEvent) -> Document:
        """The document with its ancestors and what its cgroup did before, once an alert wants it."""
        cgroup_id = event.process.cgroup_id
        ours = document["sensor"]
        if event.ancestors and "ancestors" not in ours:
            ours["ancestors"] = ancestry(event, self.host)
        if self.recorder is not None and cgroup_id is not None and "recent_activity" not in ours:
            before_ns = event.time_ns - self.host.realtime_offset_ns
            try:
                recent = self.recorder.last(cgroup_id, before_ns=before_ns)
            except ProbeError as exc:
                # The alert is worth more than what was before it. Missing, it is not known.
                self.counts["recent_activity_errors"] += 1
                _log.warning("an alert lacks what was before it: %s", exc)
            else:
                ours["recent_activity"] = recent_activity(recent, self.host)
        return document

    def _learn_host_namespaces(self, event: ExecEvent) -> None:
        """The canary's ancestors may lead to the host's first process, whose namespaces are the host's.

        /proc/1/ns is out of reach in some containers and for some roots.
        """
        for ancestor in event.ancestors:
            if ancestor.pid == 1:
                for decoder in self.decoders:
                    decoder.host_pid_ns = ancestor.pid_ns
                    decoder.host_mnt_ns = ancestor.mnt_ns
        if self.decoders[0].host_mnt_ns is None and not self._told_of_unknown_host:
            self._told_of_unknown_host = True
            _log.warning(
                "which namespaces are the host's cannot be read: execs outside of containers are "
                "called unknown (with CAP_SYS_PTRACE and the host's /proc they are not)"
            )
        if self.kernel is not None:
            first = self.decoders[0]
            self.kernel.know_the_host(event.ppid, first.host_pid_ns, first.host_mnt_ns)


def _more_may_come(resolution: Resolution) -> bool:
    """Nothing is known yet, or only what the engine told when it made the container."""
    return resolution.state == "pending" or resolution.may_improve


def _argv_bytes(event: ExecEvent) -> int:
    """What argv takes, roughly: many short arguments take far more than their characters."""
    return event.args_bytes + _ARGUMENT_BYTES * len(event.args or ())


def _ignore(_resolution: Any) -> None:
    """The pipeline looks for itself: callbacks come on the resolver's thread."""
