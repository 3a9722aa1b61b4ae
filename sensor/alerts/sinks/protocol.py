"""The seam between the dispatcher and a sink: what is handed over, and how a sink answers."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from sensor.alerts.encode import encode
from sensor.errors import SensorError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sensor.alerts.redaction.document import Redactor


class SinkError(SensorError):
    """None of a batch arrived and all of it may be tried again.

    The message is for the log: it holds no secret and nothing of an attacker's. `retry_after` is the
    receiver's own wish in seconds.
    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class SinkClosedError(SensorError):
    """The sink is gone for good, such as a pipe whose reader has ended."""


class Outgoing:
    """A document on its way out.

    `payload` is the document as one line of JSON without a line break.
    """

    __slots__ = (
        "_has_no_secrets",
        "_lock",
        "_redacted",
        "_submitted",
        "is_alert",
        "payload",
        "severity",
        "shown",
    )

    def __init__(
        self,
        *,
        payload: bytes,
        severity: int,
        is_alert: bool = True,
        submitted: dict[str, Any] | None = None,
    ) -> None:
        self.payload = payload
        self.severity = severity
        self.is_alert = is_alert
        # Whether the sinks that need no spool have it already: the journal's business.
        self.shown = False
        self._submitted = submitted
        self._has_no_secrets = False
        self._redacted: Outgoing | None = None
        self._lock = threading.Lock()

    @property
    def document(self) -> dict[str, Any]:
        """The document as a receiver of the payload has it, always well-formed text.

        Decoded each time: it takes many times the payload's memory, and items wait in queues.
        """
        decoded: dict[str, Any] = msgspec.json.decode(self.payload, type=dict[str, Any])
        return decoded

    @property
    def submitted(self) -> dict[str, Any]:
        """The document as it was submitted, where it still is, with bytes that are no UTF-8."""
        return self.document if self._submitted is None else self._submitted

    def redacted(self, redactor: Redactor) -> Outgoing:
        """The same without secrets; found out once for all sinks that ask, at the same time or not."""
        # All sinks get a document at once: those that look for the same beside each other take
        # twice the time, for all of them.
        with self._lock:
            if self._redacted is None and not self._has_no_secrets:
                self._look_for_secrets(redactor)
        return self._redacted or self

    def _look_for_secrets(self, redactor: Redactor) -> None:
        whole = self.document
        document = redactor.document(whole)
        if document is whole:
            # Not as a reference to itself: that would leave each alert to the collector.
            self._has_no_secrets = True
            return
        self._redacted = Outgoing(
            payload=encode(document),
            severity=self.severity,
            is_alert=self.is_alert,
            submitted=None if self._submitted is None else redactor.document(self._submitted),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a receiver said about a batch: `refused` for good, with its reason, and `retry` later.

    What is in neither has arrived.
    """

    refused: Sequence[tuple[Outgoing, str]] = field(default=())
    retry: Sequence[Outgoing] = field(default=())
    retry_after: float | None = None


DELIVERED = Outcome()


class Sink(Protocol):
    """One receiver of documents. Each sink is driven by one thread of its own.

    `deliver` may block, but not for ever: it has time limits of its own. It raises SinkError when
    nothing arrived, and SinkClosedError when nothing ever will again.
    """

    @property
    def name(self) -> str:
        """The sink's name in the log and the counters."""

    @property
    def durable(self) -> bool:
        """Whether what is on its way to this sink outlives the sensor, where there is a spool."""

    @property
    def rendered(self) -> bool:
        """Whether it wants `Outgoing.submitted`, with the bytes that are no UTF-8."""

    @property
    def batch_size(self) -> int:
        """The most documents one call of `deliver` takes."""

    def accepts(self, severity: int, *, is_alert: bool) -> bool:
        """Whether the sink wants documents of this severity and kind."""

    def deliver(self, batch: Sequence[Outgoing]) -> Outcome:
        """Hand the documents over, in order."""

    def close(self) -> None:
        """Let go of files and connections."""
