"""From the caller to the spool: documents in, written to disk, and only then on to the sinks.

What is shown on standard output was written down before, so that after a crash no other sink lacks
it. A disk that does not answer must not silence the sensor: then documents are shown first, and a
disk that is full sends them to the sinks from memory.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from sensor.alerts.outbox import Outbox
from sensor.alerts.worker import BacklogError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sensor.alerts.sinks.protocol import Outgoing
    from sensor.alerts.spool import Spool
    from sensor.alerts.worker import Worker

log = logging.getLogger(__name__)

_BATCH = 256
_STUCK_SECONDS = 1.0
_MAINTENANCE_SECONDS = 1.0


class Journal:
    """One thread that writes documents down, and one that keeps the spool in order."""

    def __init__(self, spool: Spool, workers: Sequence[Worker]) -> None:
        self._spool = spool
        self._durable = [worker for worker in workers if worker.durable]
        self._others = [worker for worker in workers if not worker.durable]
        self._inbox = Outbox()
        self._writing: list[Outgoing] = []
        self._busy_since: float | None = None
        self._show_lock = threading.Lock()
        self._handover = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="spool", daemon=True)
        self._keeper = threading.Thread(target=self._keep, name="spool-upkeep", daemon=True)
        self._failing = False
        self.dropped = 0
        self.unspooled = 0
        self.shown_first = 0

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()
        self._keeper.start()

    def put(self, item: Outgoing) -> None:
        """Take a document; never blocks."""
        dropped = self._inbox.put(item)
        self.dropped += len(dropped)
        if self._is_stuck():
            self._show_first(item)

    def rescue(self) -> None:
        """Show what waits for a disk that does not answer. To be called about once a second."""
        if not self._is_stuck():
            return
        with self._handover:
            waiting = [*self._writing, *self._inbox.peek()]
        for item in waiting:
            self._show_first(item)

    def counters(self) -> dict[str, Any]:
        """Count documents.

        `unspooled` went to the sinks from memory, since the disk refused them; `shown_first` were
        shown before they were written down.
        """
        return {
            "queued": len(self._inbox) + len(self._writing),
            "dropped": self.dropped,
            "unspooled": self.unspooled,
            "shown_first": self.shown_first,
            "stuck": self._is_stuck(),
        }

    def close(self, deadline: float) -> None:
        """Write down what was taken, by the deadline, a `time.monotonic()`."""
        self._stop.set()
        self._inbox.wake()
        if self._thread.ident is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))
            self._keeper.join(max(0.0, deadline - time.monotonic()))
        self.rescue()

    def ended(self) -> bool:
        """Whether both threads are gone, and the spool can be closed."""
        return not self._thread.is_alive() and not self._keeper.is_alive()

    def _is_stuck(self) -> bool:
        since = self._busy_since
        return since is not None and time.monotonic() - since > _STUCK_SECONDS

    def _run(self) -> None:
        while True:
            self._inbox.wait(None, self._stop.is_set)
            # Under a lock, so that `rescue` sees each item in one place or the other.
            with self._handover:
                self._writing = self._inbox.take(_BATCH)
            if self._writing:
                self._write(self._writing)
                self._writing = []
            elif self._stop.is_set():
                return

    def _write(self, items: list[Outgoing]) -> None:
        self._busy_since = time.monotonic()
        try:
            if kept := [item for item in items if self._is_wanted(item)]:
                self._spool.append(kept)
        except Exception as error:  # noqa: BLE001 - the alerts must go on; counted as unspooled
            self._refused(items, error)
        else:
            if self._failing:
                self._failing = False
                log.warning("spool: works again")
        finally:
            self._busy_since = None
        # First to those who were waiting for the disk: the others read what they want from it, and would
        # be in the way with it.
        for item in items:
            self._show(item)
        for worker in self._durable:
            worker.notify()

    def _is_wanted(self, item: Outgoing) -> bool:
        """Whether any sink that outlives a crash takes it: events and heartbeats mostly are for none."""
        return any(
            worker.sink.accepts(item.severity, is_alert=item.is_alert) for worker in self._durable
        )

    def _refused(self, items: list[Outgoing], error: Exception) -> None:
        self.unspooled += len(items)
        if not self._failing:
            self._failing = True
            expected = isinstance(error, BacklogError)
            log.error("%s; alerts go to the sinks from memory", error, exc_info=not expected)
        for item in items:
            for worker in self._durable:
                worker.offer(item)

    def _show_first(self, item: Outgoing) -> None:
        if self._show(item):
            self.shown_first += 1

    def _show(self, item: Outgoing) -> bool:
        with self._show_lock:
            if item.shown:
                return False
            item.shown = True
        for worker in self._others:
            worker.offer(item)
        return True

    def _keep(self) -> None:
        failing = False
        while not self._stop.wait(_MAINTENANCE_SECONDS):
            try:
                self._spool.maintain()
                failing = False
            except BacklogError as error:
                if not failing:
                    log.error("%s", error)  # noqa: TRY400 - a full disk needs no traceback
                failing = True
