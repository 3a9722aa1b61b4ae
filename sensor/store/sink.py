"""The store as a sink: delivered to by a worker like the others, and looked after by a thread of its own."""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sensor.alerts.sinks.protocol import DELIVERED, Outcome, Outgoing, SinkError
from sensor.store.errors import StoreError
from sensor.store.writer import StoreWriter

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logging.getLogger(__name__)

_UPKEEP_S: Final = 60.0


class StoreSink:
    """Takes every document; events that no exception has hidden are left out by the writer.

    To be made by the user that will go on: the files are opened again and again. Raises
    ConfigurationError for a place that cannot be used. A disk that fails is tried again with the first
    alert.
    """

    durable = True
    rendered = False
    redact = False  # what an analyst on the machine itself needs whole
    batch_size = 256

    def __init__(self, path: Path, *, name: str, max_bytes: int, max_age_s: float) -> None:
        self.name = name
        self._writer = StoreWriter(path, max_bytes=max_bytes, max_age_s=max_age_s)
        try:
            self._writer.open()
        except StoreError as error:
            _log.error("the store cannot be used for now: %s", error)
        self._ended = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="store-upkeep", daemon=True)
        self._keeper.start()

    def accepts(self, severity: int, *, is_alert: bool) -> bool:  # noqa: ARG002
        """Everything: what is hidden is an event."""
        return True

    def deliver(self, batch: Sequence[Outgoing]) -> Outcome:
        """Write the batch, whole or not at all."""
        try:
            self._writer.write(batch)
        except StoreError as error:
            raise SinkError(str(error)) from error
        return DELIVERED

    def counters(self) -> dict[str, Any]:
        """What the writer counts."""
        return self._writer.counters()

    def close(self) -> None:
        """Let go of the files."""
        self._ended.set()
        self._keeper.join()
        self._writer.close()

    def _keep(self) -> None:
        failing = False
        while True:
            try:
                self._writer.maintain()
                failing = False
            except StoreError as error:
                if not failing:
                    _log.error("store: %s", error)
                failing = True
            if self._ended.wait(_UPKEEP_S):
                return
