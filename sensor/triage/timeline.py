"""What happened around an alert, in order: document and facts in, moments out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sensor.alerts.fields import get, number, text, texts
from sensor.rules.engine import document_time_ns
from sensor.triage.model import Moment
from sensor.triage.tree import recent_execs

if TYPE_CHECKING:
    from sensor.triage.facts import Facts

_MOMENTS: Final = 200


def timeline(document: dict[str, Any], facts: Facts) -> tuple[Moment, ...]:
    """The container's execs, the match, other alerts near to it, and what became known later.

    Of very many the earliest go; the match itself is always there.
    """
    match = _match(document)
    before = [
        moment
        for moment in [*_recent(document), *_steps(document)]
        if (moment.pid, moment.time) != (match.pid, match.time)
    ]
    rest = [*before, *_alerts(facts), *_later(document, facts)]
    if (created := time_of(text(document, "container.created"))) is not None:
        rest.append(Moment(time=created, kind="container", text="The container was created"))
    rest.sort(key=lambda moment: moment.time)
    kept = sorted([*rest[-_MOMENTS:], match], key=lambda moment: moment.time)
    return tuple(kept)


def time_of(stamp: str) -> float | None:
    """A time as ECS writes it, in seconds since the epoch."""
    nanoseconds = document_time_ns({"@timestamp": stamp}) if stamp else None
    return None if nanoseconds is None else nanoseconds / 1e9


def _match(document: dict[str, Any]) -> Moment:
    return Moment(
        time=time_of(text(document, "@timestamp")) or 0.0,
        kind="match",
        args=tuple(texts(document, "process.args")) or (text(document, "process.name") or "?",),
        args_truncated=get(document, "sensor.args_truncated") is True,
        pid=number(document, "process.pid"),
        user=text(document, "user.name") or text(document, "user.id"),
    )


def _recent(document: dict[str, Any]) -> list[Moment]:
    found = []
    for each in recent_execs(document):
        time = time_of(text(each, "@timestamp"))
        if time is not None:
            found.append(
                Moment(
                    time=time,
                    kind="exec",
                    args=tuple(texts(each, "process.args")),
                    args_truncated=get(each, "args_truncated") is True,
                    pid=number(each, "process.pid"),
                    user=text(each, "process.user.id"),
                )
            )
    return found


def _steps(document: dict[str, Any]) -> list[Moment]:
    """The events of a sequence but the last one, which is the match."""
    sequence = get(document, "sensor.sequence")
    if not isinstance(sequence, list):
        return []
    return [
        Moment(
            time=time,
            kind="match",
            text=f"Step of the sequence: {text(each, 'process.command_line')}",
            pid=number(each, "process.pid"),
        )
        for each in sequence[:-1]
        if isinstance(each, dict) and (time := time_of(text(each, "@timestamp"))) is not None
    ]


def _alerts(facts: Facts) -> list[Moment]:
    return [
        Moment(
            time=each.time,
            kind="hidden" if each.kind == "hidden" else "alert",
            text=f"{each.rule_name or 'another rule'}: {each.command}",
            user=each.user_name or each.user_id or "",
            alert_id=each.id,
        )
        for each in facts.around
    ]


def _later(document: dict[str, Any], facts: Facts) -> list[Moment]:
    found = [
        Moment(time=each.received, kind="update", text=_update_text(each.change))
        for each in facts.updates
    ]
    last = time_of(text(document, "sensor.collapsed.last"))
    if last is not None and not facts.updates:
        found.append(Moment(time=last, kind="update", text=_update_text(document)))
    return found


def _update_text(change: dict[str, Any]) -> str:
    count = number(change, "sensor.collapsed.count")
    if count > 1:
        return f"{count} matching execs of this action so far"
    if get(change, "container") is not None:
        return "The container's name and image became known"
    return "More became known of this alert"
