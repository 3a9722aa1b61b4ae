"""A short form of a document, for receivers that take only so many bytes: always valid, always bounded."""

from __future__ import annotations

from typing import Any

from sensor.alerts.alert import command_of, image_of
from sensor.alerts.escape import elide
from sensor.alerts.fields import get, text

_FIELDS = (
    "@timestamp",
    "event.id",
    "event.kind",
    "event.action",
    "event.module",
    "event.severity",
    "event.risk_score",
    "rule.id",
    "rule.name",
    "host.hostname",
    "process.pid",
    "process.entity_id",
    "process.name",
    "process.executable",
    "process.interactive",
    "process.parent.pid",
    "process.parent.name",
    "user.id",
    "user.name",
    "container.id",
    "container.name",
    "orchestrator.namespace",
    "orchestrator.resource.name",
    "sensor.update_of",
    "sensor.collapsed.count",
    "sensor.held_back.count",
    "sensor.delivery_loss.count",
)


def compact(document: dict[str, Any], limit: int = 128) -> dict[str, Any]:
    """Make the short form: who did what where. Texts are at most about `limit` characters."""
    result: dict[str, Any] = {}
    for field in _FIELDS:
        value = get(document, field)
        if isinstance(value, str):
            value = elide(value, limit)
        if isinstance(value, str | int | bool):
            _set(result, field, value)
    if document.get("process"):
        _set(result, "process.command_line", command_of(document, 2 * limit))
    if image := image_of(document):
        _set(result, "container.image.name", elide(image, limit))
    result["message"] = elide(text(document, "message"), 4 * limit)
    _set(result, "sensor.shortened", True)
    return result


def _set(document: dict[str, Any], field: str, value: Any) -> None:
    *path, last = field.split(".")
    for key in path:
        document = document.setdefault(key, {})
    document[last] = value
