"""Alerts for tests of the store and what reads it: made of real documents by the stages that make them."""

from __future__ import annotations

from typing import Any

from events import HOST, exec_event, process

from sensor.alerts.alert import alert_document
from sensor.alerts.encode import encode
from sensor.alerts.sinks.protocol import Outgoing
from sensor.ecs import event_document
from sensor.rules.rule import Rule

START_S = 1_700_000_000  # 22:13:20 UTC
_WEB = "5f2b0c3c9f0d4c7e8a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f6071"


def make_rule(identifier: str = "keys-searched", **changes: Any) -> Rule:
    return Rule(
        **{
            "id": identifier,
            "name": f"The rule {identifier}",
            "query_text": "process where true",
            "path": "rule.yml",
            "format": "yaml",
            **changes,
        }
    )


def make_container(
    name: str = "web", container_id: str = _WEB, image: str = "shop/web", tag: str = "1.4"
) -> dict[str, Any]:
    return {"id": container_id, "name": name, "image": {"name": image, "tag": [tag]}}


def make_alert(
    at_s: float = 0,
    *args: str,
    rule: Rule | None = None,
    container: dict[str, Any] | None = None,
    uid: int = 0,
    pid: int = 100,
    **fields: Any,
) -> dict[str, Any]:
    """An alert of an exec so many seconds after START_S."""
    argv = args or ("grep", "-r", "needle", "/srv")
    subject = process(pid=pid, args=argv, uid=uid, start_ns=int((at_s + 1) * 1e9) + pid, **fields)
    event = exec_event(subject, time_ns=int((START_S + at_s) * 1e9))
    place = {"container": make_container() if container is None else container}
    return alert_document((event_document(event, HOST, place, 1),), rule or make_rule())


def outgoing(document: dict[str, Any]) -> Outgoing:
    event = document["event"]
    return Outgoing(
        payload=encode(document),
        severity=event.get("severity", 0),
        is_alert=event["kind"] == "alert",
    )
