"""Small texts that all renderers share: times, commands, values, each bounded and escaped."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sensor.alerts.escape import command_line, visible

if TYPE_CHECKING:
    from collections.abc import Sequence

VALUE_LIMIT = 512
_LATEST = 253_402_300_799  # the last second that has four digits for its year

WEIGHT_WORDS = {
    "alarming": "Speaks for an attack",
    "reassuring": "Speaks for routine",
    "open": "To be found out",
}


def moment(seconds: float) -> str:
    """A time as people read it: date and time in UTC, whole seconds."""
    return f"{_utc(seconds):%Y-%m-%d %H:%M:%S} UTC"


def clock(seconds: float) -> str:
    """The time of day with milliseconds, UTC."""
    found = _utc(seconds)
    return f"{found:%H:%M:%S}.{found.microsecond // 1000:03}"


def stamp(seconds: float) -> str:
    """A time for machines, as ECS writes it."""
    return _utc(seconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def offset(seconds: float) -> str:
    """A distance in time from the alert, such as `-2.3 s` or `+4 min`."""
    sign = "-" if seconds < 0 else "+"
    size = abs(seconds)
    if size < 0.0005:
        return "0"
    return sign + span(size)


def span(seconds: float) -> str:
    """A length of time in the unit that fits it."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return ""


def command(args: Sequence[str], limit: int = 1024, *, truncated: bool = False) -> str:
    """An argv, shell-quoted; one whose end is not recorded says so."""
    return command_line(args, limit) + (" …" if truncated else "")


def value(found: str, limit: int = VALUE_LIMIT) -> str:
    """One value on one line."""
    return visible(found, limit)


def plural(count: int, noun: str) -> str:
    """A number with its noun: `1 alert`, `2 alerts`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _utc(seconds: float) -> datetime:
    return datetime.fromtimestamp(min(max(seconds, 0.0), _LATEST), UTC)
