"""Alerts to Prometheus Alertmanager: documents in, its API's version 2 out.

Labels are what a team routes and silences by, and the same for every alert of one rule in one
container; what differs from one alert to the next is in the annotations. An exec is over at once, so
an alert there ends by itself after a while without another.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sensor.alerts.alert import command_of, image_of
from sensor.alerts.encode import encode
from sensor.alerts.escape import visible
from sensor.alerts.fields import get, severity_word, text
from sensor.alerts.notice import timestamp
from sensor.alerts.sinks.base import ConfiguredSink
from sensor.alerts.sinks.client import HttpClient
from sensor.alerts.sinks.protocol import DELIVERED, Outcome, Outgoing
from sensor.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sensor.alerts.sinks.options import AlertmanagerOptions

_LABEL_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_LABEL = 200
_ANNOTATION = 2000
_PATH = "/api/v2/alerts"


class AlertmanagerSink(ConfiguredSink):
    """Posts batches of alerts. It holds what is firing, not a history: use another sink for that."""

    def __init__(self, options: AlertmanagerOptions, key: str) -> None:
        super().__init__(options, kind="alertmanager", batch_size=options.batch_size)
        self._options = options
        for name in options.labels:
            if not _LABEL_NAME.fullmatch(name):
                raise ConfigurationError(f"{key}.labels: not a label's name: {name!r}")
        url = options.url.rstrip("/")
        authorization = options.authorization
        self._client = HttpClient(
            url if url.endswith(_PATH) else url + _PATH,
            key=key,
            timeout=options.timeout,
            tls=options.tls,
            authorization=authorization.read(f"{key}.authorization") if authorization else None,
        )

    def deliver(self, batch: Sequence[Outgoing]) -> Outcome:
        """Post the batch; when it is refused, one by one, to find out which is to blame."""
        body = encode_list([self.alert(item) for item in batch])
        answer = self._client.post(body, "application/json")
        if answer.ok:
            return DELIVERED
        if len(batch) == 1:
            return Outcome(refused=[(batch[0], answer.reason)])
        refused: list[tuple[Outgoing, str]] = []
        for item in batch:
            refused.extend(self.deliver([item]).refused)
        return Outcome(refused=tuple(refused))

    def alert(self, item: Outgoing) -> dict[str, Any]:
        """Make the alert as Alertmanager takes it."""
        document = item.document
        labels = {
            "alertname": text(document, "rule.name") or "sensor",
            "rule_id": text(document, "rule.id"),
            "severity": severity_word(document),
            "host": text(document, "host.hostname"),
            "container": text(document, "container.name") or text(document, "container.id")[:12],
            "image": image_of(document),
            "namespace": text(document, "orchestrator.namespace"),
            "pod": text(document, "orchestrator.resource.name"),
            "job": "sensor",
        }
        annotations = {
            "summary": text(document, "message"),
            "description": text(document, "rule.description"),
            "command_line": command_of(document, _ANNOTATION) if document.get("process") else "",
            "executable": text(document, "process.executable"),
            "user": text(document, "user.name") or text(document, "user.id"),
            "event_id": text(document, "event.id"),
            "count": str(get(document, "sensor.collapsed.count") or ""),
        }
        starts = _time(text(document, "@timestamp"))
        ends = starts + timedelta(seconds=self._options.resolve_after)
        alert = {
            "labels": _bounded(labels | self._options.labels, _LABEL),
            "annotations": _bounded(annotations, _ANNOTATION),
            "startsAt": timestamp(starts.timestamp()),
            "endsAt": timestamp(ends.timestamp()),
        }
        if self._options.generator_url:
            alert["generatorURL"] = self._options.generator_url
        return alert

    def close(self) -> None:
        """Close the connection."""
        self._client.close()


def encode_list(values: list[dict[str, Any]]) -> bytes:
    """Encode documents as one JSON array."""
    return b"[" + b",".join(encode(value) for value in values) + b"]"


def _bounded(values: dict[str, str], limit: int) -> dict[str, str]:
    """Printable and short; without what is empty, which Alertmanager takes for missing."""
    return {key: visible(value, limit) for key, value in values.items() if value}


def _time(value: str) -> datetime:
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return datetime.now().astimezone()
