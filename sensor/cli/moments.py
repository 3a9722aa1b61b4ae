"""Times as people give them: `30m`, `2h`, `7d` ago, or a date; seconds since the epoch out."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import click

_AGO = re.compile(r"(\d{1,6})([smhdw])", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class Moment(click.ParamType):  # type: ignore[type-arg]
    """A time so long ago, or a date or time in ISO 8601; without a zone it is the local one's."""

    name = "time"

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Seconds since the epoch."""
        if isinstance(value, float):
            return value
        if match := _AGO.fullmatch(value):
            return self._clock() - int(match[1]) * _SECONDS[match[2]]
        try:
            return datetime.fromisoformat(value).timestamp()
        except (ValueError, OverflowError, OSError):
            self.fail(f"{value!r} is no time: say 30m, 2h, 7d, or 2026-11-24T10:00", param, ctx)
