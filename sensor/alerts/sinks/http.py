"""Alerts to a webhook: ECS documents, lines of them, a chat's message, or falcosidekick's event."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sensor.alerts.encode import encode
from sensor.alerts.sinks import formats
from sensor.alerts.sinks.base import ConfiguredSink
from sensor.alerts.sinks.client import HttpClient
from sensor.alerts.sinks.options import Secret
from sensor.alerts.sinks.protocol import DELIVERED, Outcome, Outgoing, SinkError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sensor.alerts.sinks.options import HttpOptions

_FORMATS = {"slack": formats.slack, "falcosidekick": formats.falcosidekick}


class HttpSink(ConfiguredSink):
    """Posts each document, or with `ndjson` a batch of them."""

    def __init__(self, options: HttpOptions, key: str) -> None:
        # One at a time is also what is sent a second time after a crash: one.
        batch_size = options.batch_size if options.format == "ndjson" else 1
        super().__init__(options, kind="http", batch_size=batch_size)
        self._format = options.format
        url = options.url
        authorization = options.authorization
        self._client = HttpClient(
            url.read(f"{key}.url") if isinstance(url, Secret) else url,
            key=key,
            timeout=options.timeout,
            tls=options.tls,
            headers=options.headers,
            authorization=authorization.read(f"{key}.authorization") if authorization else None,
        )

    def deliver(self, batch: Sequence[Outgoing]) -> Outcome:
        """Post the batch; what was posted before an error is not posted again."""
        if self._format == "ndjson":
            body = b"".join(item.payload + b"\n" for item in batch)
            answer = self._client.post(body, "application/x-ndjson")
            if answer.ok:
                return DELIVERED
            return Outcome(refused=[(item, answer.reason) for item in batch])
        refused: list[tuple[Outgoing, str]] = []
        for index, item in enumerate(batch):
            try:
                answer = self._client.post(self.body(item), "application/json")
            except SinkError as error:
                if index == 0:
                    raise
                return Outcome(
                    refused=tuple(refused), retry=batch[index:], retry_after=error.retry_after
                )
            if not answer.ok:
                refused.append((item, answer.reason))
        return Outcome(refused=tuple(refused))

    def body(self, item: Outgoing) -> bytes:
        """Make the body for one document."""
        make = _FORMATS.get(self._format)
        return encode(make(item.document)) if make is not None else item.payload

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
