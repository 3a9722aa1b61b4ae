"""What the sinks with options share: a name, and which documents they want."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sensor.alerts.sinks.options import Options


class ConfiguredSink:
    """A sink made from options. Its documents outlive the sensor, where there is a spool."""

    durable = True
    rendered = False

    def __init__(self, options: Options, *, kind: str, batch_size: int) -> None:
        self.name = options.name or kind
        self.batch_size = batch_size
        self._least = options.least
        self._events = options.events
        self.redact = options.redact

    def accepts(self, severity: int, *, is_alert: bool) -> bool:
        """Alerts from the least severity on; events where they are wanted at all."""
        return severity >= self._least if is_alert else self._events

    def trouble(self) -> str | None:
        """What will keep it from working and can be seen without a document, or None.

        To be asked by the user that it will run as.
        """
        return None
