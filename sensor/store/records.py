"""What the store answers with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from sensor.store.schema import ALERT, HIDDEN, NOTICE

Kind = Literal["alert", "notice", "hidden"]
KINDS: Final[dict[int, Kind]] = {ALERT: "alert", NOTICE: "notice", HIDDEN: "hidden"}

SUMMARY_COLUMNS: Final = (
    "seq, id, changed, time, kind, severity, risk_score, rule_id, rule_name, container_id,"
    " container_name, image, user_id, user_name, namespace, pod, command, action, execs, updates"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """An alert in short. Texts are at most 256 characters of an attacker's, not escaped.

    `kind`: an alert of a rule, a notice of the sensor's own, or one that an exception has hidden.
    `command` is shell-quoted; of a notice, its message. `execs` counts what was collapsed into it.
    """

    sequence: int
    id: str
    change: int
    time_us: int
    kind: Kind
    severity: int
    risk_score: int
    rule_id: str | None
    rule_name: str | None
    container_id: str | None
    container_name: str | None
    image: str | None
    user_id: str | None
    user_name: str | None
    namespace: str | None
    pod: str | None
    command: str
    action: int | None
    execs: int
    updates: int

    @classmethod
    def of(cls, row: tuple[Any, ...]) -> Summary:
        """Make one of a row of `SUMMARY_COLUMNS`."""
        names = cls.__slots__
        values = dict(zip(names, row, strict=True))
        return cls(**values | {"kind": KINDS[values["kind"]]})

    @property
    def time(self) -> float:
        """When it happened, in seconds since the epoch."""
        return self.time_us / 1e6


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """How far somebody has read: the last change, and the last alert that was new."""

    change: int
    sequence: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """What became known of an alert later: the parts that changed, in the document's shape.

    `received` is in seconds since the epoch.
    """

    number: int
    received: float
    change: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Similar:
    """How often one exact action occurred; times in seconds since the epoch, 0 for never.

    `alerts` were sent, `hidden` an exception kept quiet; `execs` counts what was collapsed into them.
    `hours_utc` has both by the hour of the day.
    """

    action: int
    alerts: int
    hidden: int
    execs: int
    first: float
    last: float
    hours_utc: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recurrence:
    """A rule or an exact action with its number of alerts, and its last one as an example."""

    example: Summary
    alerts: int
    execs: int
    first: float
    last: float
