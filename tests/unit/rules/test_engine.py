"""The engine: what matches, and what becomes of a rule that raises."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest

from sensor.rules import compile_query
from sensor.rules.engine import END, RuleEngine, document_time_ns
from sensor.rules.rule import Rule
from sensor.rules.selftest import exec_document

if TYPE_CHECKING:
    from collections.abc import Callable

SECOND = 1_000_000_000


def rule(query: str, *, id: str = "a", **changes: Any) -> Rule:  # noqa: A002
    compiled = compile_query(query)
    return Rule(
        id=id, name=f"Rule {id}", query_text=query, path=f"{id}.yml", format="yaml", query=compiled,
        inactive_reason=compiled.inactive_reason, **changes,
    )  # fmt: skip


class Raising:
    """A query that raises as long as it is told to."""

    is_sequence = False
    fields = frozenset({"process.name"})
    categories = frozenset({"any"})

    def __init__(self, query: str = "any where true") -> None:
        self._real = compile_query(query)
        self.raising = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    @property
    def matches(self) -> Callable[[dict[str, Any]], bool]:
        def matches(_document: dict[str, Any]) -> bool:
            if self.raising:
                raise ZeroDivisionError("as told")
            return True

        return matches


def raising_rule(query: Raising) -> Rule:
    return Rule(
        id="bad", name="Bad rule", query_text="", path="bad.yml", format="yaml",
        query=query,  # type: ignore[arg-type]
    )  # fmt: skip


def test_every_rule_that_matches_is_returned() -> None:
    """Matches come with the rule and the document itself."""
    engine = RuleEngine(
        [
            rule('process where process.name == "grep"', id="a"),
            rule('process where process.name == "find"', id="b"),
            rule('any where process.args == "x"', id="c"),
        ]
    )
    document = exec_document(["grep", "x"])
    matches = engine.match(document, 0)
    assert [match.rule.id for match in matches] == ["a", "c"]
    assert all(match.documents == (document,) for match in matches)
    assert matches[0].documents[0] is document


def test_a_process_answers_to_each_of_its_names() -> None:
    """`process.name` may be a list."""
    engine = RuleEngine([rule('process where process.name == "busybox"')])
    document = exec_document(["grep"])
    assert engine.match(document, 0) == []
    document["process"]["name"] = ["grep", "busybox"]
    assert len(engine.match(document, 0)) == 1


def test_inactive_rules_take_no_part() -> None:
    """A rule that cannot fire is not evaluated; one that needs an end of events only in a replay."""
    rules = [
        rule('file where file.name == "x"', id="a"),
        rule("process where true | head 1", id="b"),
        rule("process where true", id="c"),
        rule("process where true", id="d"),
    ]
    rules[3] = Rule(
        id="d", name="d", query_text="", path="d", format="yaml", enabled=False,
        query=rules[3].query, inactive_reason="disabled",
    )  # fmt: skip
    document = exec_document(["x"])
    assert [match.rule.id for match in RuleEngine(rules).match(document, 0)] == ["c"]
    replayed = RuleEngine(rules, replay=True).match(document, 0)
    assert [match.rule.id for match in replayed] == ["b", "c"]


def test_a_sequence_matches_with_all_its_documents() -> None:
    """A sequence's match holds its documents in their order; each engine has a state of its own."""
    sequence = rule(
        "sequence by container.id with maxspan=5s\n"
        '  [process where process.name == "curl"]\n'
        '  [process where process.name == "sh"]'
    )
    first, second = exec_document(["curl"]), exec_document(["sh"])
    engine = RuleEngine([sequence])
    assert engine.match(first, 0) == []
    (match,) = engine.match(second, SECOND)
    assert match.documents == (first, second)
    assert RuleEngine([sequence]).match(second, SECOND) == []


def test_a_sequence_that_waits_for_nothing_to_come() -> None:
    """An event that must stay away is told by time alone: by any later event, or by asking."""
    waiting = rule(
        "sequence by container.id with maxspan=5s\n"
        '  [process where process.name == "curl"]\n'
        '  ![process where process.name == "sha256sum"]'
    )
    download, check = exec_document(["curl"]), exec_document(["sha256sum"])
    engine = RuleEngine([waiting])
    assert engine.match(download, 0) == []
    assert engine.match(exec_document(["ls"]), 2 * SECOND) == []
    (match,) = engine.match(exec_document(["ls"]), 6 * SECOND)
    assert match.documents == (download,)
    assert engine.match(download, 10 * SECOND) == []
    assert [match.documents for match in engine.expire(16 * SECOND)] == [(download,)]
    assert engine.match(download, 20 * SECOND) == []
    assert engine.match(check, 21 * SECOND) == []
    assert engine.expire(END) == []
    assert engine.counters()["a"].matched == 2


def test_a_rule_that_raises_does_not_stop_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """It is counted, named once in the log, and set aside at the limit; the others go on."""
    query = Raising()
    engine = RuleEngine([raising_rule(query), rule("any where true", id="good")], max_errors=3)
    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            matches = engine.match(exec_document(["x"]), 0)
            assert [match.rule.id for match in matches] == ["good"]
    bad = engine.counters()["bad"]
    assert (bad.evaluated, bad.matched, bad.errors, bad.set_aside) == (3, 0, 3, True)
    good = engine.counters()["good"]
    assert (good.evaluated, good.matched, good.errors, good.set_aside) == (5, 5, 0, False)
    assert engine.last_error("bad") == "ZeroDivisionError: as told"
    assert engine.last_error("good") is None
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2
    assert all("'Bad rule'" in message for message in messages)
    assert "set aside after 3 errors" in messages[1]


def test_a_rule_below_the_limit_goes_on() -> None:
    """A rule that raised now and then still matches."""
    query = Raising()
    engine = RuleEngine([raising_rule(query)], max_errors=2)
    engine.match(exec_document(["x"]), 0)
    query.raising = False
    assert len(engine.match(exec_document(["x"]), 0)) == 1
    assert not engine.counters()["bad"].set_aside


def test_an_engine_without_rules() -> None:
    """No rules, no matches."""
    assert RuleEngine([]).match(exec_document(["x"]), 0) == []


@pytest.mark.parametrize(
    "document", [{}, {"process": "x"}, {"event": {"category": 5}, "process": []}]
)
def test_odd_documents_match_nothing(document: dict[str, Any]) -> None:
    """A document of another shape is no match and no error."""
    engine = RuleEngine([rule('process where process.name : "x*"')])
    assert engine.match(document, 0) == []
    assert engine.counters()["a"].errors == 0


@pytest.mark.parametrize(
    ("timestamp", "nanoseconds"),
    [
        ("1970-01-01T00:00:01.5Z", 1_500_000_000),
        ("1970-01-01T01:00:01+01:00", SECOND),
        ("1970-01-01T00:00:01", SECOND),
        ("2026-08-21T12:00:00.123456Z", 1_787_313_600_123_456_000),
        ("2026-08-21T12:00:00.123456789Z", 1_787_313_600_123_456_000),
        ("yesterday", None),
        (5, None),
        (None, None),
    ],
)
def test_the_time_of_a_document(timestamp: object, nanoseconds: int | None) -> None:
    """ISO 8601 with or without a zone; None for all else."""
    assert document_time_ns({"@timestamp": timestamp}) == nanoseconds
