"""Delivery: documents in, each sink's own queue out; the caller never waits.

Without a spool a document goes straight to the queue of each sink. With one it is written to disk
first and shown after that, so that nothing that was shown can be missing from a sink that was down.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from sensor.alerts.encode import encode
from sensor.alerts.notice import notice
from sensor.alerts.sinks.protocol import Outgoing
from sensor.alerts.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sensor.alerts.journal import Journal
    from sensor.alerts.redaction.document import Redactor
    from sensor.alerts.sinks.protocol import Sink
    from sensor.alerts.spool import Spool
    from sensor.alerts.worker import Backoff

log = logging.getLogger(__name__)

_NOTICE_INTERVAL = 60.0
_BATCH_S = 1.0  # for what a worker has in hand when the time of the end is over


class Dispatcher:
    """Hands documents to sinks, one worker thread each.

    `common` is what every document of this host carries, for the dispatcher's own words. With a
    `spool`, which belongs to the dispatcher from then on, sinks that are durable lose nothing that was
    submitted, whatever ends the process. With a `redactor` only those sinks see secrets that say so.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        *,
        spool: Spool | None = None,
        clock: Callable[[], float] = time.time,
        backoff: Backoff | None = None,
        common: Mapping[str, Any] | None = None,
        redactor: Redactor | None = None,
    ) -> None:
        self._clock = clock
        self._common = common
        self._workers = [
            Worker(sink, backlog=spool, backoff=backoff, redactor=redactor) for sink in sinks
        ]
        self._spool = spool
        self._journal: Journal | None = None
        if spool is not None:
            from sensor.alerts.journal import Journal  # noqa: PLC0415 - only with a spool

            self._journal = Journal(spool, self._workers)
        self._rendered = any(sink.rendered for sink in sinks)
        self._submitted = 0
        self._unencodable = 0
        self._lost_told = 0
        self._next_notice = 0.0

    def start(self) -> None:
        """Start the workers."""
        for worker in self._workers:
            worker.start()
        if self._journal is not None:
            self._journal.start()

    def submit(self, document: dict[str, Any], severity: int) -> None:
        """Queue a document for every sink that wants it. Never blocks, never raises.

        `severity` is 0 to 100; in a queue that is full the least severe goes first. The document is
        not to be changed afterwards.
        """
        self._submitted += 1
        try:
            payload = encode(document)
        except (TypeError, ValueError, RecursionError):
            # Not what any stage makes; one document must not end detection.
            self._unencodable += 1
            log.exception("a document that is no JSON was dropped")
            return
        event = document.get("event")
        item = Outgoing(
            payload=payload,
            severity=severity,
            is_alert=isinstance(event, dict) and event.get("kind") == "alert",
            # Of many that wait, the dicts would take several times the memory of the lines.
            submitted=document if self._rendered else None,
        )
        if self._journal is not None:
            self._journal.put(item)
            return
        for worker in self._workers:
            worker.offer(item)

    def tick(self, now: float | None = None) -> None:
        """Say in the alert stream what was lost. To be called about once a second."""
        now = self._clock() if now is None else now
        if self._journal is not None:
            self._journal.rescue()
        lost = self._lost()
        total = sum(lost.values())
        if total == self._lost_told or now < self._next_notice:
            return
        count = total - self._lost_told
        self._lost_told = total
        self._next_notice = now + _NOTICE_INTERVAL
        where = ", ".join(f"{name} {number}" for name, number in lost.items() if number)
        document = notice(
            "delivery_loss",
            f"{count} documents were lost on their way to a sink (in all: {where})",
            severity="high",
            time=now,
            details={
                "count": count,
                "total": {where: total for where, total in lost.items() if total},
            },
            common=self._common,
        )
        self.submit(document, document["event"]["severity"])

    def closed_sinks(self) -> list[str]:
        """Names of the sinks that are gone for good, such as a pipe whose reader has ended."""
        return [worker.sink.name for worker in self._workers if worker.closed]

    def counters(self) -> dict[str, Any]:
        """Count documents since the start: `submitted`, `unencodable`, `sinks`, and the delivery's."""
        return {
            "submitted": self._submitted,
            "unencodable": self._unencodable,
            "sinks": self.sink_counters(),
            **self.delivery_counters(),
        }

    def sink_counters(self) -> dict[str, dict[str, Any]]:
        """What each sink's worker counted."""
        return {worker.sink.name: worker.counters() for worker in self._workers}

    def delivery_counters(self) -> dict[str, dict[str, Any]]:
        """`lost` by stage, zeros too; `journal` and `spool` where there is one. Reads the disk."""
        counters: dict[str, dict[str, Any]] = {"lost": self._lost()}
        if self._journal is not None and self._spool is not None:
            counters["journal"] = self._journal.counters()
            counters["spool"] = self._spool.counters()
        return counters

    def close(self, timeout: float) -> bool:
        """Deliver what is queued, within the time in seconds; what is in the spool may stay there.

        False when something in memory could not be delivered; the counters say how much.
        """
        deadline = time.monotonic() + timeout
        if self._journal is not None:
            self._journal.close(deadline)
        for worker in self._workers:
            worker.stop(deadline)
        # Past the deadline a worker ends with the batch at hand. It gets the time for that: a thread that
        # the interpreter's end finds inside of RE2 makes the process abort.
        last = deadline + _BATCH_S
        ended = [worker.join(last - time.monotonic()) for worker in self._workers]
        whole = all(ended) and not any(worker.dropped for worker in self._workers)
        if self._journal is not None and self._spool is not None:
            whole = whole and self._journal.ended() and not self._journal.dropped
            # A thread that a sink or a disk holds may still use it; it ends with the process.
            if all(ended) and self._journal.ended():
                self._spool.close()
        return whole

    def _lost(self) -> dict[str, int]:
        """How many documents were lost so far, by where: a sink's name, or a stage before it."""
        lost = {worker.sink.name: worker.dropped for worker in self._workers}
        lost["encoding"] = self._unencodable
        if self._journal is not None and self._spool is not None:
            lost["journal"] = self._journal.dropped
            lost["spool"] = self._spool.lost
        return lost
