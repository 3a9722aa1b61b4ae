"""The sensor's own words in the alert stream: what it lost, held back or cannot see.

A notice is an alert document like any other, so that it reaches whoever watches the alerts. Its
`event.module` is `sensor`, and its `rule` the rule it speaks of, or one whose id begins with
`sensor.`.
"""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sensor.alerts.alert import DATASET
from sensor.rules.rule import SEVERITY_NUMBER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sensor.rules.rule import Severity

ECS_VERSION = "8.10.0"


def notice(
    code: str,
    message: str,
    *,
    severity: Severity,
    time: float,
    details: Mapping[str, Any] | None = None,
    common: Mapping[str, Any] | None = None,
    rule: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Make a notice.

    `code` names the kind of notice (`delivery_loss`), `message` says it in one sentence, `time` is in
    seconds since the epoch. `details` stand under `sensor.<code>`; `common` holds what every document
    of this host carries, such as `host`; `rule` is the rule it speaks of, where it speaks of one.
    """
    number = SEVERITY_NUMBER[severity]
    document: dict[str, Any] = {
        "@timestamp": timestamp(time),
        "ecs": {"version": ECS_VERSION},
        **(common or {}),
        "event": {
            "id": uuid.uuid4().hex,
            "kind": "alert",
            "category": ["host"],
            "type": ["info"],
            "action": code.replace("_", "-"),
            "module": "sensor",
            "dataset": DATASET,
            "severity": number,
            "risk_score": number,
        },
        "data_stream": {"type": "logs", "dataset": DATASET, "namespace": "default"},
        "rule": dict(rule) if rule else {"id": f"sensor.{code}", "name": _title(code)},
        "message": message,
        "sensor": {code: dict(details or {})},
    }
    return document


def timestamp(time: float) -> str:
    """Seconds since the epoch as ECS writes a time: UTC with microseconds and a `Z`."""
    return datetime.fromtimestamp(time, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _title(code: str) -> str:
    return f"Sensor: {code.replace('_', ' ')}"
