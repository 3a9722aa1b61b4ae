"""Container ids in, what is known about them out, without ever making the event thread wait long.

The store is filled ahead by what the sources tell; only what is not in it is asked for, on the
sources' own threads. An answer that comes too late for the alert goes to a callback. What nobody
knows is remembered shortly, so that a storm of one unknown container is one question.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final, Literal

from sensor.containers.container import Container, disagreements, merge
from sensor.containers.discovery import SourcesConfig, find_sources
from sensor.containers.feed import Feed, Outcome
from sensor.containers.store import Store

if TYPE_CHECKING:
    from sensor.containers.source import Change, Source

__all__ = ["Resolution", "Resolver", "SourcesConfig", "find_sources"]

log = logging.getLogger(__name__)

ResolutionState = Literal["resolved", "pending", "not_found", "unavailable"]

MAX_PENDING: Final = 10_000
MAX_REMEMBERED: Final = 4096
# A container may start before its engine can be asked about it, and a daemon may just restart.
RETRY_AFTER_S: Final = (0.05, 0.2, 1.0, 3.0)
RETRIES_IF_ABSENT: Final = 1
NEGATIVE_FOR_S: Final = 5.0
SLOW_AFTER_S: Final = 0.25
SWEEP_EVERY_S: Final = 1.0
STOP_WITHIN_S: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolution:
    """What is known about one container id at one moment.

    "resolved" has a `container`; if that is not complete, `reason` says what it was made from.
    "pending": asked for, or never asked. "not_found": every source answered and none knows it.
    "unavailable": no source, or one that might know does not answer. `may_improve`: an answer that
    says more is on its way, or would be if it were asked for, so that a short wait is worth it.
    `elapsed_ms` is the time since it was first asked for. `disagreement`: one text for each field
    about which sources differ.
    """

    state: ResolutionState
    container: Container | None = None
    source: str | None = None
    reason: str | None = None
    may_improve: bool = False
    elapsed_ms: float = 0.0
    disagreement: tuple[str, ...] = ()


Callback = Callable[[Resolution], None]


@dataclass(slots=True)
class _Pending:
    """One id that is being asked for."""

    since: float
    open: set[str]  # sources that have not answered this attempt
    failures: dict[str, str] = field(default_factory=dict)
    attempt: int = 0
    callbacks: list[Callback] = field(default_factory=list)


class Resolver:
    """Answers for container ids from any number of sources; safe from any thread.

    `clock` gives seconds and never goes back. Nothing is read or asked before `start`.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        *,
        clock: Callable[[], float] = time.monotonic,
        max_containers: int = 10_000,
        grace_s: float = 60.0,
    ) -> None:
        self._clock = clock
        self._store = Store(max_containers=max_containers, grace_s=grace_s, clock=clock)
        self._feeds = {
            source.name: Feed(
                source,
                clock=clock,
                slow_after_s=SLOW_AFTER_S,
                on_change=self._changed,
                on_found=self._store.put,
                on_answer=self._answered,
            )
            for source in sources
        }
        if len(self._feeds) != len(sources):
            raise ValueError("two sources have the same name")
        self._lock = threading.Lock()
        self._wake = threading.Condition(self._lock)
        self._pending: OrderedDict[str, _Pending] = OrderedDict()
        self._negative: OrderedDict[str, tuple[float, Resolution]] = OrderedDict()
        self._retries: list[tuple[float, int, str]] = []
        self._calls: list[tuple[Callback, Resolution]] = []
        self._order = itertools.count()
        self._counts: Counter[str] = Counter()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="resolver", daemon=True)

    def start(self) -> None:
        """Begin to listen to the sources; returns at once, whether or not they answer."""
        self._thread.start()
        for feed in self._feeds.values():
            feed.start()

    def stop(self) -> None:
        """End all threads within about a second each; what hangs in a source is left behind."""
        with self._wake:
            self._stopping = True
            self._wake.notify_all()
        for feed in self._feeds.values():
            feed.stop(STOP_WITHIN_S)
        if self._thread.is_alive():
            self._thread.join(STOP_WITHIN_S)

    def get(self, container_id: str) -> Resolution:
        """Return what is known now; asks nobody and never blocks."""
        known = self._known(container_id)
        if known is not None:
            return known
        with self._lock:
            return self._unknown(container_id)

    def resolve(self, container_id: str, *, timeout_s: float) -> Resolution:
        """Return what is known, having asked and waited for at most `timeout_s`.

        Does not wait at all for sources that are already known not to answer. The question goes on
        after the timeout; `request` hands its answer over.
        """
        done = threading.Event()
        waiting = self._ask(container_id, lambda _: done.set())
        if waiting and self._an_answer_may_come():
            done.wait(timeout_s)
        resolution = self.get(container_id)
        self._count(f"resolve.{resolution.state}")
        return resolution

    def request(self, container_id: str, callback: Callback) -> None:
        """Call `callback` once, on the resolver's thread, when it is known or given up.

        An exception of the callback is counted and goes no further.
        """
        if not self._ask(container_id, callback):
            resolution = self.get(container_id)
            with self._wake:
                self._calls.append((callback, resolution))
                self._wake.notify()

    def containers(self) -> list[Container]:
        """Return all that is known now, merged over the sources."""
        return self._store.all()

    def lookup_known(self, container_id: str) -> Container | None:
        """Return what is known now without counting or asking: for `identity.confirm`."""
        return merge(self._store.get(container_id))

    def counters(self) -> dict[str, int]:
        """Return counts by source and result, as `docker.lookup.found` or `resolve.pending`."""
        with self._lock:
            counts = dict(self._counts)
            counts["pending"] = len(self._pending)
        counts["store.containers"] = len(self._store)
        counts["store.evicted"] = self._store.evicted
        for feed in self._feeds.values():
            counts.update({f"{feed.name}.{what}": n for what, n in feed.counts().items()})
        return counts

    def troubles(self) -> dict[str, str]:
        """Return, for each source that does not answer now, why."""
        said = ((name, feed.trouble()) for name, feed in self._feeds.items())
        return {name: trouble for name, trouble in said if trouble is not None}

    # -- asking ---------------------------------------------------------------------------------

    def _ask(self, container_id: str, callback: Callback) -> bool:
        """Queue the question and the callback; False if there is nothing to wait for."""
        known = self._known(container_id)
        if known is not None and known.container is not None and known.container.complete:
            return False
        with self._wake:
            if self._stopping or not self._feeds or self._remembered(container_id) is not None:
                return False
            pending = self._pending.get(container_id)
            if pending is None:
                pending = _Pending(since=self._clock(), open=set(self._feeds))
                self._pending[container_id] = pending
                if len(self._pending) > MAX_PENDING:
                    self._give_up(*self._pending.popitem(last=False))
            pending.callbacks.append(callback)
            is_new = len(pending.callbacks) == 1
        if is_new:
            self._ask_sources(container_id, pending)
        return True

    def _ask_sources(self, container_id: str, pending: _Pending) -> None:
        for name, feed in self._feeds.items():
            if name in pending.open and not feed.ask(container_id, urgent=True):
                self._answered(feed, container_id, "failed", None, f"{name}: too many look-ups")

    def _an_answer_may_come(self) -> bool:
        return any(feed.trouble() is None for feed in self._feeds.values())

    # -- what is known --------------------------------------------------------------------------

    def _known(self, container_id: str) -> Resolution | None:
        told = self._store.get(container_id)
        container = merge(told)
        if container is None:
            return None
        pending = self._pending.get(container_id)
        return Resolution(
            state="resolved",
            container=container,
            source="+".join(said.source for said in told),
            reason=None if container.complete else "not_inspected",
            may_improve=not container.complete and self._is_asking(container_id),
            elapsed_ms=self._elapsed_ms(pending),
            disagreement=disagreements(told) if len(told) > 1 else (),
        )

    def _unknown(self, container_id: str) -> Resolution:
        if not self._feeds:
            return Resolution(state="unavailable", reason="no_source")
        remembered = self._remembered(container_id)
        if remembered is not None:
            return remembered
        pending = self._pending.get(container_id)
        if pending is None:
            return Resolution(state="pending", reason="not_asked", may_improve=True)
        failures = dict(pending.failures)
        for name in pending.open:
            trouble = self._feeds[name].trouble()
            if trouble is not None:
                failures[name] = trouble
        state: ResolutionState = "unavailable" if failures else "pending"
        reason = "; ".join(failures.values()) or "look_up_under_way"
        return Resolution(
            state=state,
            reason=reason,
            may_improve=not failures,
            elapsed_ms=self._elapsed_ms(pending),
        )

    def _is_asking(self, container_id: str) -> bool:
        return any(feed.is_asking(container_id) for feed in self._feeds.values())

    def _remembered(self, container_id: str) -> Resolution | None:
        negative = self._negative.get(container_id)
        if negative is None:
            return None
        if negative[0] <= self._clock():
            del self._negative[container_id]
            return None
        return negative[1]

    def _elapsed_ms(self, pending: _Pending | None) -> float:
        return 0.0 if pending is None else round((self._clock() - pending.since) * 1000, 3)

    # -- what the sources say, on their threads ---------------------------------------------------

    def _changed(self, feed: Feed, change: Change) -> None:
        self._store.apply(feed.name, change)
        new = [container.id for container in change.containers if not self._is_whole(container)]
        if change.kind in ("start", "update"):
            new.append(change.container_id)
        for container_id in new:
            feed.ask(container_id, urgent=False)
        with self._wake:
            for container in change.containers:
                self._negative.pop(container.id, None)
                if container.complete:
                    self._settle(container.id)

    def _is_whole(self, container: Container) -> bool:
        told = self._store.get(container.id)
        # One that was looked up before its first process ran does not have that one's number.
        return any(
            known.complete and known.source == container.source and known.pid != 0 for known in told
        )

    def _answered(
        self,
        feed: Feed,
        container_id: str,
        outcome: Outcome,
        container: Container | None,
        reason: str,
    ) -> None:
        with self._wake:
            pending = self._pending.get(container_id)
            if pending is None:
                return
            pending.open.discard(feed.name)
            if outcome == "failed":
                pending.failures[feed.name] = reason
            else:
                pending.failures.pop(feed.name, None)
            if container is not None and container.complete:
                self._settle(container_id)
            elif not pending.open:
                self._end_attempt(container_id, pending)

    def _end_attempt(self, container_id: str, pending: _Pending) -> None:
        """All have answered, none with a whole container: try again shortly, or give up."""
        has_some = bool(self._store.get(container_id))
        retries = len(RETRY_AFTER_S) if pending.failures else RETRIES_IF_ABSENT
        if (has_some and not pending.failures) or pending.attempt >= retries:
            del self._pending[container_id]
            self._give_up(container_id, pending)
            return
        due = self._clock() + RETRY_AFTER_S[pending.attempt]
        pending.attempt += 1
        heapq.heappush(self._retries, (due, next(self._order), container_id))
        self._wake.notify()

    def _settle(self, container_id: str) -> None:
        pending = self._pending.pop(container_id, None)
        if pending is not None:
            self._counts["settled.resolved"] += 1
            self._call_back(container_id, pending)

    def _give_up(self, container_id: str, pending: _Pending) -> None:
        if not self._store.get(container_id):
            failed = bool(pending.failures)
            resolution = Resolution(
                state="unavailable" if failed else "not_found",
                reason="; ".join(pending.failures.values()) or "no_source_knows_it",
                elapsed_ms=self._elapsed_ms(pending),
            )
            self._negative[container_id] = (self._clock() + NEGATIVE_FOR_S, resolution)
            if len(self._negative) > MAX_REMEMBERED:
                self._negative.popitem(last=False)
            self._counts[f"settled.{resolution.state}"] += 1
        else:
            self._counts["settled.incomplete"] += 1
        self._call_back(container_id, pending)

    def _call_back(self, container_id: str, pending: _Pending) -> None:
        resolution = self._known(container_id) or self._unknown(container_id)
        elapsed_ms = self._elapsed_ms(pending)
        resolution = replace(resolution, may_improve=False, elapsed_ms=elapsed_ms)
        self._calls.extend((callback, resolution) for callback in pending.callbacks)
        self._wake.notify()

    # -- the resolver's own thread ----------------------------------------------------------------

    def _run(self) -> None:
        next_sweep = self._clock() + SWEEP_EVERY_S
        while True:
            with self._wake:
                if not self._calls and not self._stopping:
                    due = min(next_sweep, self._retries[0][0] if self._retries else next_sweep)
                    self._wake.wait(max(0.0, due - self._clock()))
                if self._stopping:
                    while self._pending:  # nobody waits for an answer that cannot come any more
                        self._give_up(*self._pending.popitem())
                calls, self._calls = self._calls, []
                again = self._due()
            for callback, resolution in calls:
                self._call(callback, resolution)
            if self._stopping:
                return
            for container_id, pending in again:
                self._ask_sources(container_id, pending)
            if self._clock() >= next_sweep:
                self._store.sweep()
                next_sweep = self._clock() + SWEEP_EVERY_S

    def _due(self) -> list[tuple[str, _Pending]]:
        again = []
        while self._retries and self._retries[0][0] <= self._clock():
            _, _, container_id = heapq.heappop(self._retries)
            pending = self._pending.get(container_id)
            if pending is not None and not pending.open:
                pending.open = set(pending.failures) or set(self._feeds)
                again.append((container_id, pending))
        return again

    def _call(self, callback: Callback, resolution: Resolution) -> None:
        try:
            callback(resolution)
        except Exception:  # stage boundary: a caller's bug must not end the resolver's thread
            self._count("callback.crashed")
            log.exception("a callback of the resolver crashed")

    def _count(self, what: str) -> None:
        with self._lock:
            self._counts[what] += 1
