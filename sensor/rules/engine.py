"""The rule engine: an ECS document in, the rules that match it out.

The index picks the few rules worth evaluating; each of those is evaluated on its own, so that one
that raises is counted, reported and in the end set aside while the others go on.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sensor.rules import ast, live
from sensor.rules.index import RuleIndex

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sensor.rules.compile import Query
    from sensor.rules.rule import Rule

    _Feed = Callable[[dict[str, Any], int], list[tuple[dict[str, Any], ...]]]

# Later than every event.
END = 2**63

_log = logging.getLogger(__name__)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A rule and what it matched: one document, or for a sequence the documents in their order."""

    rule: Rule
    documents: tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleCounters:
    """How often a rule was evaluated, matched and raised, and whether it was set aside for that.

    The index leaves a rule out where it cannot match: that counts as not evaluated. `evicted` are
    the open sequences that were given up for want of room.
    """

    evaluated: int
    matched: int
    errors: int
    set_aside: bool
    evicted: int = 0


class RuleEngine:
    """Evaluates rules. For one thread; sequences keep their state from one document to the next."""

    def __init__(self, rules: Iterable[Rule], *, max_errors: int = 5, replay: bool = False) -> None:
        """Take the rules that can run; with `replay` also those that need an end of the events."""
        self._max_errors = max_errors
        self._slots = [_Slot(rule) for rule in rules if rule.active or (replay and rule.replayable)]
        self._waiting = [slot for slot in self._slots if _ends_with_a_missing_event(slot.query)]
        self._index = RuleIndex([slot.query for slot in self._slots])

    @property
    def rules(self) -> tuple[Rule, ...]:
        """The rules that take part, those set aside included."""
        return tuple(slot.rule for slot in self._slots)

    def match(self, document: dict[str, Any], time_ns: int) -> list[Match]:
        """Return the matches that this document completes. `time_ns` is its time since the epoch.

        The document is what rules see: its `process.name` may be a list of the names the process
        answers to. An exec that failed is for the rules that ask of failures, and no other. Never
        raises.
        """
        matches = self.expire(time_ns) if self._waiting else []
        slots = self._slots
        failed = live.is_failed_exec(document)
        for position in self._index.candidates(document):
            slot = slots[position]
            if slot.set_aside or (failed and not slot.query.asks_of_failures):
                continue
            slot.evaluated += 1
            try:
                found = slot.feed(document, time_ns)
            except Exception as error:  # noqa: BLE001 - the stage boundary: one rule fails alone
                self._failed(slot, error)
                continue
            if found:
                matches += _matches(slot, found)
        return matches

    def expire(self, now_ns: int) -> list[Match]:
        """Return the matches of sequences that were only waiting for an event not to come.

        `match` does this for the time of its document; worth calling when none has come for a while.
        `END` as the time settles all of them. Never raises.
        """
        matches: list[Match] = []
        for slot in self._waiting:
            if slot.set_aside or slot.state is None:
                continue
            try:
                found = slot.state.expire(now_ns)
            except Exception as error:  # noqa: BLE001 - as in match
                self._failed(slot, error)
                continue
            matches += _matches(slot, found)
        return matches

    def counters(self) -> dict[str, RuleCounters]:
        """Return the counters of each rule by its id."""
        return {
            slot.rule.id: RuleCounters(
                evaluated=slot.evaluated,
                matched=slot.matched,
                errors=slot.errors,
                set_aside=slot.set_aside,
                evicted=slot.state.evicted if slot.state is not None else 0,
            )
            for slot in self._slots
        }

    def last_error(self, rule_id: str) -> str | None:
        """Return what the rule raised last, if it ever raised."""
        return next((slot.last_error for slot in self._slots if slot.rule.id == rule_id), None)

    def _failed(self, slot: _Slot, error: Exception) -> None:
        slot.errors += 1
        slot.last_error = f"{type(error).__name__}: {error}"
        if slot.errors == 1:
            _log.error(
                "rule raised and matches nothing it raises on: rule=%r file=%r error=%r",
                slot.rule.name, slot.rule.path, slot.last_error,
            )  # fmt: skip
        if slot.errors == self._max_errors:
            slot.set_aside = True
            _log.error(
                "rule set aside after %d errors: rule=%r file=%r",
                slot.errors, slot.rule.name, slot.rule.path,
            )  # fmt: skip


class _Slot:
    """A rule with its state and counters."""

    __slots__ = (
        "errors",
        "evaluated",
        "feed",
        "last_error",
        "matched",
        "query",
        "rule",
        "set_aside",
        "state",
    )

    def __init__(self, rule: Rule) -> None:
        if rule.query is None:
            raise ValueError(f"rule {rule.name!r} has no query")
        self.rule = rule
        self.query = rule.query
        self.state = self.query.new_state() if self.query.is_sequence else None
        self.feed: _Feed = _single(self.query.matches) if self.state is None else self.state.feed
        self.evaluated = 0
        self.matched = 0
        self.errors = 0
        self.set_aside = False
        self.last_error: str | None = None


def _matches(slot: _Slot, found: list[tuple[dict[str, Any], ...]]) -> list[Match]:
    slot.matched += len(found)
    return [Match(rule=slot.rule, documents=documents) for documents in found]


def _ends_with_a_missing_event(query: Query) -> bool:
    return isinstance(query.ast.body, ast.Sequence) and query.ast.body.terms[-1].missing


def _single(matches: Callable[[dict[str, Any]], bool]) -> _Feed:
    """Give a query of one event the shape of a sequence: the groups of documents it completes."""

    def feed(document: dict[str, Any], _time_ns: int) -> list[tuple[dict[str, Any], ...]]:
        return [(document,)] if matches(document) else []

    return feed


def document_time_ns(document: dict[str, Any]) -> int | None:
    """Return a document's `@timestamp` in nanoseconds since the epoch, None where it has none."""
    text = document.get("@timestamp")
    if not isinstance(text, str):
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    if time.tzinfo is None:
        time = time.replace(tzinfo=UTC)
    difference = time - _EPOCH
    seconds = difference.days * 86_400 + difference.seconds
    return (seconds * 1_000_000 + difference.microseconds) * 1_000
