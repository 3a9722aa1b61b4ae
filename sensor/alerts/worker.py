"""One thread per sink: takes documents from a queue, or from the spool, and delivers them with retries.

A sink that is slow, down or broken costs its own worker time and nobody else's. What a worker could
not deliver is counted where it happens.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from sensor.alerts.outbox import Outbox
from sensor.alerts.sinks.protocol import Outcome, SinkClosedError, SinkError
from sensor.errors import SensorError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sensor.alerts.redaction.document import Redactor
    from sensor.alerts.sinks.protocol import Outgoing, Sink

log = logging.getLogger(__name__)

_LOG_INTERVAL = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """How long to wait between tries, in seconds: doubling from `first` to `longest`."""

    first: float = 0.5
    longest: float = 30.0

    def delay(self, attempt: int) -> float:
        """The wait after so many failed tries in a row.

        Partly by chance, so that many sensors do not come back to a receiver in step.
        """
        whole = min(self.longest, self.first * 2.0 ** min(attempt - 1, 32))
        return whole * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret


class BacklogError(SensorError):
    """What outlives the sensor cannot be read or written just now."""


class Backlog(Protocol):
    """Where a worker finds what outlives the sensor: the spool, as one sink sees it."""

    def read(self, sink: str, limit: int) -> tuple[list[Outgoing], int]:
        """Give the next documents for a sink, and the position of the last; 0 where there is none.

        Raises BacklogError.
        """

    def done(self, sink: str, position: int) -> None:
        """All of a sink's documents up to the position are dealt with. Raises BacklogError."""


class Worker:
    """Drives one sink."""

    def __init__(
        self,
        sink: Sink,
        *,
        backlog: Backlog | None = None,
        outbox: Outbox | None = None,
        backoff: Backoff | None = None,
        redactor: Redactor | None = None,
    ) -> None:
        self.sink = sink
        # A sink that says nothing of it gets no secrets.
        self._redactor = redactor if getattr(sink, "redact", True) else None
        self.durable = sink.durable and backlog is not None
        self._backlog = backlog if self.durable else None
        self._outbox = outbox or Outbox()
        self._backoff = backoff or Backoff()
        self._stop = threading.Event()
        self._deadline = float("inf")
        self._more = threading.Event()
        self._more.set()  # what an earlier run left behind
        self._thread = threading.Thread(target=self._run, name=f"sink-{sink.name}", daemon=True)
        self.closed = False
        self.delivered = 0
        self.refused = 0
        self.dropped = 0
        self.retries = 0
        self.errors = 0
        self.last_error = ""
        self._failing_since: float | None = None
        self._told = False
        self._quiet_until = 0.0
        self._quiet_refusals_until = 0.0

    def start(self) -> None:
        """Begin to deliver."""
        self._thread.start()

    def offer(self, item: Outgoing) -> None:
        """Queue a document in memory; never blocks."""
        if not self.sink.accepts(item.severity, is_alert=item.is_alert):
            return
        if self.closed:
            self.dropped += 1
            return
        self.dropped += len(self._outbox.put(item))

    def notify(self) -> None:
        """There is something new in the backlog."""
        self._more.set()
        self._outbox.wake()

    def stop(self, deadline: float) -> None:
        """Finish what is queued by the deadline, a `time.monotonic()`; then the thread ends."""
        self._deadline = deadline
        self._stop.set()
        self._outbox.wake()

    def join(self, timeout: float) -> bool:
        """Wait for the thread to end. False when the sink still holds it."""
        if self._thread.ident is not None:
            self._thread.join(max(timeout, 0.0))
        return not self._thread.is_alive()

    def counters(self) -> dict[str, Any]:
        """What happened so far; counts are of documents, `retries` and `errors` of calls.

        `own` is what the sink itself counts.
        """
        since = self._failing_since
        # What a sink counts itself, if it does: a store, what went for want of room.
        own: dict[str, int] = getattr(self.sink, "counters", dict)()
        return {
            "own": own,
            "delivered": self.delivered,
            "refused": self.refused,
            "dropped": self.dropped,
            "retries": self.retries,
            "errors": self.errors,
            "queued": len(self._outbox),
            "closed": self.closed,
            "failing_seconds": time.monotonic() - since if since is not None else 0.0,
            "last_error": self.last_error,
        }

    def _run(self) -> None:
        try:
            while not self.closed:
                if batch := self._outbox.take(self.sink.batch_size):
                    self._deliver(batch)
                elif self._backlog is not None and self._more.is_set():
                    self._more.clear()
                    self._drain(self._backlog)
                elif self._stop.is_set():
                    break
                else:
                    self._outbox.wait(None, self._has_work)
                if self._stop.is_set() and time.monotonic() > self._deadline:
                    break
        finally:
            # What is still queued in memory ends with this thread.
            self.dropped += len(self._outbox.take(len(self._outbox)))
            self.sink.close()

    def _has_work(self) -> bool:
        return self._stop.is_set() or (self._backlog is not None and self._more.is_set())

    def _drain(self, backlog: Backlog) -> None:
        """Deliver one batch of the backlog, and come back for more."""
        try:
            batch, position = backlog.read(self.sink.name, self.sink.batch_size)
            if batch and not self._deliver(batch):
                return  # not dealt with: it stays, for the next run of the sensor
            if position:
                backlog.done(self.sink.name, position)
                self._more.set()
        except BacklogError as error:
            # The disk, that is; the sink itself is well.
            self._failed(str(error))
            if not self._stop.wait(self._backoff.delay(1)):
                self._more.set()

    def _deliver(self, batch: Sequence[Outgoing]) -> bool:
        """Deliver until nothing is left to retry.

        False when the sensor ended or the sink closed before that.
        """
        attempt = 0
        if self._redactor is not None:
            batch = [item.redacted(self._redactor) for item in batch]
        while batch:
            outcome = self._try(batch)
            if self.closed:
                self.dropped += 0 if self._backlog is not None else len(batch)
                return False
            self.delivered += len(batch) - len(outcome.refused) - len(outcome.retry)
            self.refused += len(outcome.refused)
            for _, reason in outcome.refused[:1]:
                self._complain("refused", reason, len(outcome.refused))
            if len(outcome.retry) < len(batch):
                attempt = 0
            batch = outcome.retry
            if not batch:
                break
            attempt += 1
            self.retries += 1
            if not self._pause(attempt, outcome.retry_after):
                self.dropped += 0 if self._backlog is not None else len(batch)
                return False
        self._recovered()
        return True

    def _try(self, batch: Sequence[Outgoing]) -> Outcome:
        try:
            return self.sink.deliver(batch)
        except SinkClosedError as error:
            self.closed = True
            self._failed(str(error))
            return Outcome(retry=batch)
        except SinkError as error:
            self._failed(str(error))
            return Outcome(retry=batch, retry_after=error.retry_after)
        except Exception as error:  # a sink's fault must not end its worker; counted
            self.errors += 1
            self._failed(f"{type(error).__name__} in the sink")
            log.debug("sink=%s unexpected", self.sink.name, exc_info=True)
            if len(batch) == 1:
                return Outcome(refused=[(batch[0], type(error).__name__)])
            return self._try_alone(batch)

    def _try_alone(self, batch: Sequence[Outgoing]) -> Outcome:
        """Find the one document that the sink cannot bear; the others go through."""
        refused: list[tuple[Outgoing, str]] = []
        retry: list[Outgoing] = []
        retry_after: float | None = None
        for item in batch:
            outcome = self._try([item])
            refused.extend(outcome.refused)
            retry.extend(outcome.retry)
            retry_after = outcome.retry_after or retry_after
        return Outcome(refused=refused, retry=retry, retry_after=retry_after)

    def _pause(self, attempt: int, retry_after: float | None) -> bool:
        """Wait before the next try. False when the sensor ends and there is no time for one."""
        delay = self._backoff.delay(attempt)
        if retry_after is not None:
            delay = min(max(delay, retry_after), 10 * self._backoff.longest)
        if not self._stop.wait(delay):
            return True
        if self._backlog is not None:
            return False
        left = self._deadline - time.monotonic()
        time.sleep(max(0.0, min(delay, 0.05, left)))
        return left > 0

    def _failed(self, reason: str) -> None:
        self.last_error = reason
        if self._failing_since is not None:
            return
        self._failing_since = time.monotonic()
        # A receiver that fails every now and then must not fill the log.
        if self._failing_since >= self._quiet_until:
            self._told = True
            self._quiet_until = self._failing_since + _LOG_INTERVAL
            log.warning("sink=%s failing: %s", self.sink.name, reason)

    def _recovered(self) -> None:
        if self._failing_since is not None:
            seconds = time.monotonic() - self._failing_since
            self._failing_since = None
            if self._told:
                self._told = False
                log.warning("sink=%s works again after %.1f s", self.sink.name, seconds)

    def _complain(self, what: str, reason: str, count: int) -> None:
        self.last_error = reason
        now = time.monotonic()
        if now >= self._quiet_refusals_until:
            self._quiet_refusals_until = now + _LOG_INTERVAL
            log.warning("sink=%s %s=%d first reason: %s", self.sink.name, what, count, reason)
