"""What an alert's update changes: the update's document in, the changed parts out, and both merged.

Of an update only what it adds is kept. One speaks of a container that became known later, the other
of repetitions that were counted; neither takes back what the other has said.
"""

from __future__ import annotations

from typing import Any

from sensor.alerts.fields import get, text

_PLACE = ("container", "orchestrator")


def updated_alert(document: dict[str, Any]) -> str:
    """The id of the alert that the document is an update of, or an empty text."""
    return text(document, "sensor.update_of")


def change_of(update: dict[str, Any]) -> dict[str, Any]:
    """The parts that the update adds, as a document of the same shape."""
    change: dict[str, Any] = {"@timestamp": update.get("@timestamp")}
    change["message"] = update.get("message")
    event = update.get("event") or {}
    collapsed = get(update, "sensor.collapsed")
    if collapsed is None:
        change["event"] = {"id": event.get("id")}
        change |= {name: update[name] for name in _PLACE if name in update}
    else:
        change["event"] = {name: event[name] for name in ("id", "start", "end") if name in event}
        change["sensor"] = {"collapsed": collapsed}
    return change


def merged(alert: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    """The alert with the change applied; its id and its time stay."""
    result = alert | {name: change[name] for name in (*_PLACE, "message") if change.get(name)}
    event = change.get("event") or {}
    result["event"] = (alert.get("event") or {}) | {
        name: event[name] for name in ("start", "end") if name in event
    }
    if (collapsed := get(change, "sensor.collapsed")) is not None:
        result["sensor"] = (alert.get("sensor") or {}) | {"collapsed": collapsed}
    return result


def as_alert(update: dict[str, Any]) -> dict[str, Any]:
    """The alert that an update repeats, for a store that does not have it (any more)."""
    event = dict(update.get("event") or {})
    event["id"] = updated_alert(update)
    ours = {name: value for name, value in update["sensor"].items() if name != "update_of"}
    return update | {
        "@timestamp": event.get("start") or update.get("@timestamp"),
        "event": event,
        "sensor": ours,
    }
