"""Times in which an exception applies: what is written in, and whether it holds at a moment out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

_HOURS = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)", re.ASCII)


class WindowText(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename={"from_": "from"}
):
    """When an exception applies: on days and hours of a week, or once, from a time to another."""

    days: list[Day] = []
    hours: str | None = None
    from_: str | None = None
    to: str | None = None
    timezone: str = "UTC"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A time in which an exception applies.

    A weekly one has days (0 is Monday) and minutes since midnight in its zone, where `end` before or
    at `start` means the next day. One that happens once has `first` and `last`, in seconds since the
    epoch.
    """

    zone: str = "UTC"
    days: frozenset[int] = frozenset(range(7))
    start: int = 0
    end: int = 24 * 60
    first: float | None = None
    last: float | None = None

    def holds(self, now: float) -> bool:
        """Whether the window is open at a time in seconds since the epoch."""
        if self.first is not None and self.last is not None:
            return self.first <= now < self.last
        local = datetime.fromtimestamp(now, ZoneInfo(self.zone))
        minute = local.hour * 60 + local.minute
        if self.start < self.end:
            return local.weekday() in self.days and self.start <= minute < self.end
        # Past midnight the day that counts is the one on which the window began.
        if minute >= self.start:
            return local.weekday() in self.days
        return minute < self.end and (local.weekday() - 1) % 7 in self.days


def read_time(value: str, zone: str, *, key: str) -> float:
    """Read a date or time as seconds since the epoch; without an offset it is one of the zone."""
    try:
        time = datetime.fromisoformat(value)
        if time.tzinfo is None:
            time = time.replace(tzinfo=UTC if zone == "UTC" else ZoneInfo(zone))
        return time.timestamp()
    except (ValueError, OverflowError) as error:
        raise ValueError(f"`{key}`: not a date or a time such as 2027-01-31: {value!r}") from error


def read_window(text: WindowText) -> Window:
    """Check what was written. Raises ValueError."""
    try:
        ZoneInfo(text.timezone)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"`timezone`: no such time zone here: {text.timezone!r}") from error
    once = text.from_ is not None or text.to is not None
    if once:
        if text.from_ is None or text.to is None or text.days or text.hours:
            raise ValueError("a window is `from` and `to`, or `days` and `hours`")
        first = read_time(text.from_, text.timezone, key="from")
        last = read_time(text.to, text.timezone, key="to")
        if first >= last:
            raise ValueError("`to` is not after `from`")
        return Window(zone=text.timezone, first=first, last=last)
    if not text.days and text.hours is None:
        raise ValueError("a window is `from` and `to`, or `days` and `hours`")
    days = frozenset(DAYS.index(day) for day in text.days) or frozenset(range(7))
    start, end = 0, 24 * 60
    if text.hours is not None:
        match = _HOURS.fullmatch(text.hours)
        if match is None:
            raise ValueError(f"`hours`: not like 22:00-04:00: {text.hours!r}")
        start = int(match[1]) * 60 + int(match[2])
        end = int(match[3]) * 60 + int(match[4])
        if end > 24 * 60:
            raise ValueError(f"`hours`: a day ends at 24:00: {text.hours!r}")
    return Window(zone=text.timezone, days=days, start=start, end=end)
