"""The most alerts of one rule in one interval: alerts in, those to send now out.

What is beyond a rule's maximum is held back and counted. When the interval ends, one notice says how
many that were and in which containers.

One loud container must not hide what happens in another. So beyond the maximum a rule has a reserve, for
places (a container, the host, an unknown place) that have sent little in the interval. The more of the
reserve is spent, the less a place must have sent: of a full reserve each may have five alerts, of its last
fifth only its first one. In an interval a rule sends its maximum and its reserve at most, and one place
alone never more than the maximum.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sensor.alerts.escape import visible
from sensor.alerts.fields import number, severity_word, text
from sensor.alerts.notice import notice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sensor.rules.rule import Rule, Severity

_MAX_CONTAINERS = 50
_MAX_HELD_IDS = 10_000
_CONTAINERS_IN_MESSAGE = 5
# Where nothing is set the reserve is as large as the maximum, within these.
_LEAST_RESERVE = 20
_MOST_RESERVE = 100
# How many alerts a place may have of a full reserve.
_SHARE = 5
# Places whose sent alerts are counted; beyond that the one that came first counts as new again.
_MAX_PLACES = 256
# The places that have no container's id.
_ELSEWHERE = {"host": "the host", "unknown": "an unknown place"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """At most `max_alerts` alerts in `interval` seconds, and `reserve` more of places that sent little.

    None leaves it to what applies otherwise.
    """

    interval: float | None = None
    max_alerts: int | None = None
    reserve: int | None = None


@dataclass(slots=True, kw_only=True)
class _Window:
    """One interval of one rule, from its first alert on."""

    rule: Mapping[str, Any]
    started: float
    ends: float
    max_alerts: int
    reserve: int
    sent: int = 0
    sent_by: dict[str, int] = field(default_factory=dict)
    held: int = 0
    severity: Severity = "low"
    highest: int = 0
    containers: dict[str, dict[str, Any]] = field(default_factory=dict)
    elsewhere: int = 0


def default_reserve(max_alerts: int) -> int:
    """The reserve of a rule for which none is set."""
    return min(max(max_alerts, _LEAST_RESERVE), _MOST_RESERVE)


class Limiter:
    """Counts the alerts of each rule; for one thread.

    What a rule says about itself yields to `everywhere`, and that to `per_rule`, by rule id.
    """

    def __init__(
        self,
        *,
        everywhere: Limit | None = None,
        per_rule: Mapping[str, Limit] | None = None,
        common: Mapping[str, Any] | None = None,
    ) -> None:
        self._everywhere = everywhere or Limit()
        self._per_rule = per_rule or {}
        self._common = common
        self._windows: dict[str, _Window] = {}
        # Alerts that were held back, whose updates must be held back with them.
        self._held_ids: dict[str, Rule] = {}
        self._held_total: dict[str, int] = {}

    def offer(self, document: dict[str, Any], rule: Rule, now: float) -> list[dict[str, Any]]:
        """Give what to send now: the alert, or nothing; before it the notice of an interval past."""
        ready = self._end(rule.id, now)
        window = self._window(rule, now)
        place = _place(document)
        if _passes(window, place):
            window.sent += 1
            window.sent_by[place] = window.sent_by.get(place, 0) + 1
            if len(window.sent_by) > _MAX_PLACES:
                del window.sent_by[next(iter(window.sent_by))]
            return [*ready, document]
        self._hold(window, document, count=1)
        self._held_ids[text(document, "event.id")] = rule
        if len(self._held_ids) > _MAX_HELD_IDS:
            del self._held_ids[next(iter(self._held_ids))]
        return ready

    def update(self, document: dict[str, Any], now: float) -> list[dict[str, Any]]:
        """Give what to send for an update: itself if its alert was sent, else at most a notice."""
        rule = self._held_ids.get(text(document, "sensor.update_of"))
        if rule is None:
            return [document]
        ready = self._end(rule.id, now)
        # It speaks of execs that neither its alert nor an earlier update has counted.
        count = max(number(document, "sensor.collapsed.new"), 1)
        self._hold(self._window(rule, now), document, count=count)
        return ready

    def tick(self, now: float) -> list[dict[str, Any]]:
        """Give the notices of the intervals that are over."""
        return [each for rule_id in list(self._windows) for each in self._end(rule_id, now)]

    def flush(self, now: float) -> list[dict[str, Any]]:
        """Give the notices of all intervals, for the sensor's end."""
        windows, self._windows = self._windows, {}
        return [self._notice(window, now) for window in windows.values() if window.held]

    def counters(self) -> dict[str, int]:
        """How many alerts of each rule were held back since the start."""
        return dict(self._held_total)

    def _window(self, rule: Rule, now: float) -> _Window:
        window = self._windows.get(rule.id)
        if window is None:
            own, everywhere = self._per_rule.get(rule.id, Limit()), self._everywhere
            interval = own.interval or everywhere.interval or rule.interval
            maximum = _first_set(own.max_alerts, everywhere.max_alerts, rule.max_alerts)
            window = self._windows[rule.id] = _Window(
                rule=rule.ecs()["rule"],
                started=now,
                ends=now + float(interval),
                max_alerts=maximum,
                reserve=_first_set(own.reserve, everywhere.reserve, default_reserve(maximum)),
            )
        return window

    def _hold(self, window: _Window, document: dict[str, Any], *, count: int) -> None:
        window.held += count
        rule_id = str(window.rule["id"])
        self._held_total[rule_id] = self._held_total.get(rule_id, 0) + count
        if number(document, "event.severity") >= window.highest:
            window.highest = number(document, "event.severity")
            window.severity = severity_word(document)
        place = _place(document)
        known = window.containers.get(place)
        if known is not None:
            known["count"] += count
        elif len(window.containers) < _MAX_CONTAINERS:
            where = {"id": place, "name": text(document, "container.name")}
            if place in _ELSEWHERE:
                where = {"state": place}
            window.containers[place] = {**where, "count": count}
        else:
            window.elsewhere += count

    def _end(self, rule_id: str, now: float) -> list[dict[str, Any]]:
        window = self._windows.get(rule_id)
        # A clock that was set back must not hold a rule's alerts back for longer than an interval.
        if window is None or window.started <= now < window.ends:
            return []
        del self._windows[rule_id]
        return [self._notice(window, now)] if window.held else []

    def _notice(self, window: _Window, now: float) -> dict[str, Any]:
        name = visible(str(window.rule.get("name", "")), 128)
        containers = sorted(window.containers.values(), key=lambda each: -each["count"])
        shown = ", ".join(
            f"{_shown(each)} ({each['count']})" for each in containers[:_CONTAINERS_IN_MESSAGE]
        )
        more = len(containers) - _CONTAINERS_IN_MESSAGE
        if window.elsewhere or more > 0:
            shown += " and others"
        seconds = round(window.ends - window.started)
        from_reserve = max(window.sent - window.max_alerts, 0)
        return notice(
            "held_back",
            f"{name}: {window.held} more alerts were held back, beyond {window.max_alerts} "
            f"in {seconds} s; where: {shown}",
            severity=window.severity,
            time=now,
            details={
                "count": window.held,
                "sent": window.sent,
                "interval": seconds,
                "max_alerts": window.max_alerts,
                "reserve": {"size": window.reserve, "used": from_reserve},
                "containers": containers,
                "in_other_containers": window.elsewhere,
            },
            common=self._common,
            rule=window.rule,
        )


def _place(document: Mapping[str, Any]) -> str:
    """What a document's share is counted by: its container's id, or `host` or `unknown`."""
    unknown = text(document, "container.identity.state") == "unknown"
    return text(document, "container.id") or ("unknown" if unknown else "host")


def _shown(held: Mapping[str, Any]) -> str:
    if "state" in held:
        return _ELSEWHERE[held["state"]]
    return visible(held["name"] or held["id"][:12], 64)


def _passes(window: _Window, place: str) -> bool:
    """Whether a place may send one more alert now."""
    left = window.max_alerts + window.reserve - window.sent
    if left > window.reserve:
        return True
    sent = window.sent_by.get(place, 0)
    return sent < window.max_alerts and left * _SHARE > sent * window.reserve


def _first_set(*values: int | None) -> int:
    return next(value for value in values if value is not None)
