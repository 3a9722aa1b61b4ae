"""What is loud and always the same: a store in, proposals for exceptions out, each with its evidence.

Nothing is ever put in force here. A proposal is the narrowest exception that covers what was seen, and
says how often, by whom and at which hours that was; whether it is harmless a person must say.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sensor.alerts.alert import image_of
from sensor.alerts.escape import visible
from sensor.alerts.exception_file import read_value
from sensor.alerts.exception_match import document_test, scripts
from sensor.alerts.fields import get, text
from sensor.alerts.redaction.argv import redact_args
from sensor.alerts.redaction.names import CUT
from sensor.alerts.redaction.text import TextRedactor
from sensor.alerts.suggest_common import suggest_common
from sensor.errors import Location, RuleError, SensorError
from sensor.store.filter import Filter

if TYPE_CHECKING:
    from sensor.store.records import Recurrence, Similar, Summary
    from sensor.store.store import Store

_SAMPLE: Final = 200
_ELSEWHERE: Final = 1000
_HOURS_MAX: Final = 6  # a longer window says nothing
_DAYS_LEAST: Final = 3  # before that, an hour of the day may be chance
_DAY_S: Final = 86_400.0
_REASON_MAX: Final = 500

Covered = Callable[[dict[str, Any], float], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """An exact action that recurs. `entry` is the exception for it; None where `refused` says why not.

    `others` is how many of `looked_at` other alerts of the rule the exception would hide, too.
    """

    recurrence: Recurrence
    similar: Similar
    example: dict[str, Any]
    entry: dict[str, Any] | None
    refused: str
    others: int = 0
    looked_at: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked: actions with so many alerts since a time, of one rule or of all."""

    since: float
    least: int = 5
    limit: int = 10
    rule: str | None = None
    owner: str = "TODO"
    days: int = 90


def propose(store: Store, wish: Wish, *, now: float, covered: Covered) -> Iterator[Proposal]:
    """Proposals, the loudest action first.

    `covered` says whether an exception that is in force would hide a document by now.
    """
    redactor = TextRedactor()
    given = 0
    for each in store.recurring(since=wish.since, limit=10_000):
        if given >= wish.limit or each.alerts < wish.least:
            return
        if wish.rule is not None and each.example.rule_id != wish.rule:
            continue
        given += 1
        yield _proposal(store, each, wish, now, covered, redactor)


def _proposal(
    store: Store,
    recurrence: Recurrence,
    wish: Wish,
    now: float,
    covered: Covered,
    redactor: TextRedactor,
) -> Proposal:
    where = Filter(
        rule=recurrence.example.rule_id,
        action=recurrence.example.action,
        since=wish.since,
        notices=False,
    )
    sample = list(store.documents(where, limit=_SAMPLE))
    example = sample[0] if sample else store.alert(recurrence.example.id)
    similar = store.similar(example)

    def result(entry: dict[str, Any] | None, refused: str, *others: int) -> Proposal:
        return Proposal(
            recurrence=recurrence,
            similar=similar,
            example=example,
            entry=entry,
            refused=refused,
            others=others[0] if others else 0,
            looked_at=others[1] if others else 0,
        )

    if covered(example, recurrence.last):
        return result(None, "an exception that is in force hides it by now")
    if text(example, "container.id") and not text(example, "container.image.name"):
        return result(None, "its container's image is not known: any other could say the same")
    people = sum(get(document, "process.interactive") is True for document in sample)
    if people:
        return result(None, f"{people} of {len(sample)} were typed at a terminal: look at them")
    try:
        entry = suggest_common(
            sample or [example],
            now=now,
            days=wish.days,
            reason=_reason(recurrence, similar, sample),
            owner=wish.owner,
            redact=lambda argv: redact_args(argv, redactor, Counter()),
            cut=CUT,
        )
    except SensorError as error:
        return result(None, str(error))
    if window := _window(recurrence, similar):
        entry["windows"] = [window]
    read = read_value(entry | {"owner": "o", "reason": "r"}, Location(), None)
    if isinstance(read, RuleError):
        return result(None, read.message)
    matches = document_test(read)
    if not all(map(matches, sample)):
        return result(None, "what it has in common cannot be written as an exception")
    return result(entry, "", *_elsewhere(store, recurrence.example, wish.since, matches))


def _elsewhere(
    store: Store, example: Summary, since: float, matches: Callable[[dict[str, Any]], bool]
) -> tuple[int, int]:
    """How many other alerts of the rule the exception would hide, and of how many."""
    hidden = looked_at = 0
    for each in store.alerts(
        Filter(rule=example.rule_id, since=since, notices=False), limit=10 * _ELSEWHERE
    ):
        if each.action != example.action:
            looked_at += 1
            hidden += matches(store.alert(each.id))
            if looked_at == _ELSEWHERE:
                break
    return hidden, looked_at


def _reason(recurrence: Recurrence, similar: Similar, sample: list[dict[str, Any]]) -> str:
    """The evidence in one line, for whoever accepts or renews the exception."""
    example = sample[0] if sample else {}
    parts = [
        f"seen {recurrence.alerts} times from {_day(recurrence.first)} to {_day(recurrence.last)}"
    ]
    if recurrence.execs > recurrence.alerts:
        parts.append(f"{recurrence.execs} execs")
    if user := text(example, "user.name") or text(example, "user.id"):
        parts.append(f"as {user}")
    if image := image_of(example):
        parts.append(f"in {image}")
    if script := next(iter(scripts(example)), ""):
        parts.append(f"by {script}")
    parts.append(f"at {hours_of(similar)} UTC")
    evidence = visible(", ".join(parts), _REASON_MAX - 60)
    return f"{evidence} (found by sensor tune; say why it is harmless)"


def hours_of(similar: Similar) -> str:
    """The hours of the day at which it was seen, such as `02h-04h`."""
    hours = [hour for hour, count in enumerate(similar.hours_utc) if count]
    if len(hours) == 24:
        return "all hours"
    start, length = _span(similar)
    if length == len(hours):
        return f"{start:02}h" if length == 1 else f"{start:02}h-{(start + length - 1) % 24:02}h"
    return ", ".join(f"{hour:02}h" for hour in hours)


def _span(similar: Similar) -> tuple[int, int]:
    """The shortest run of hours, over midnight or not, that holds all: its first hour, its length."""
    hours = [hour for hour, count in enumerate(similar.hours_utc) if count]
    gaps = [
        ((hours[(index + 1) % len(hours)] - hour - 1) % 24, hours[(index + 1) % len(hours)])
        for index, hour in enumerate(hours)
    ]
    if len(hours) == 1:
        return hours[0], 1
    widest, start = max(gaps)
    return start, 24 - widest


def _window(recurrence: Recurrence, similar: Similar) -> dict[str, Any] | None:
    """The hours in which it always was, where those are few and the days are enough to say so."""
    if recurrence.last - recurrence.first < (_DAYS_LEAST - 1) * _DAY_S:
        return None
    start, length = _span(similar)
    if length > _HOURS_MAX:
        return None
    return {"hours": f"{start:02}:00-{(start + length) % 24:02}:00", "timezone": "UTC"}


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")
