"""Elastic's own container rules: all load, and each that can fire fires on its example and on no near
miss. The rules are read from the shared folder, never copied; the examples are in elastic.yml.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import yaml

from sensor.ecs import matching_view
from sensor.errors import Location
from sensor.rules.engine import RuleEngine, document_time_ns
from sensor.rules.load import load_rules
from sensor.rules.rule import LocatedTest, RuleTest
from sensor.rules.selftest import documents_of, run_tests

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "elastic-rules"

if not FOLDER.is_dir():
    pytest.skip("needs ../shared/data/elastic-rules", allow_module_level=True)

pytestmark = pytest.mark.shared

CORPUS = {
    name: msgspec.convert(tests, list[RuleTest])
    for name, tests in yaml.safe_load(Path(__file__).with_name("elastic.yml").read_text()).items()
}
LOADED = load_rules([FOLDER], builtin=False)
ACTIVE = {Path(rule.path).stem: rule for rule in LOADED.rules}


def test_all_load() -> None:
    """No rule is in error; forty can fire: 32 on single execs, 5 by a branch on execs, 3 sequences."""
    assert [str(error) for error in LOADED.errors] == []
    kinds = Counter(
        "sequence" if rule.query.is_sequence else "/".join(sorted(rule.query.categories))
        for rule in LOADED.rules
        if rule.query is not None
    )
    assert kinds == {"process": 32, "any": 5, "sequence": 3}


def test_those_that_cannot_fire_say_why() -> None:
    """Eight need file events, one is not EQL."""
    reasons = Counter(rule.inactive_reason for rule in LOADED.inactive)
    assert reasons == {
        "needs file events, which this sensor does not have": 8,
        "KQL query: only EQL rules run here": 1,
    }


def test_nothing_of_a_rule_is_lost() -> None:
    """What a responder and an alert need of a rule is there."""
    for rule in (*LOADED.rules, *LOADED.inactive):
        assert rule.format == "toml"
        assert len(rule.id) == 36
        assert all((rule.name, rule.description, rule.author, rule.license, rule.tags))
        assert (rule.interval, rule.max_alerts) in ((300, 100), (300, 1000))
    techniques = {rule.id for rule in LOADED.rules if "technique" in rule.ecs().get("threat", {})}
    assert len(techniques) == len(LOADED.rules)


def test_the_corpus_is_complete() -> None:
    """Each rule that can fire has an example that fires it and one that does not; no rule is left over."""
    assert CORPUS.keys() == ACTIVE.keys()
    assert [
        name for name, tests in CORPUS.items() if {test.matches for test in tests} != {True, False}
    ] == []


@pytest.mark.parametrize("name", CORPUS)
def test_its_examples(name: str) -> None:
    """The rule fires on what it is for, and not on what only looks like it."""
    path = str(Path(__file__).with_name("elastic.yml"))
    tests = tuple(LocatedTest(test=test, location=Location(path=path)) for test in CORPUS[name])
    outcomes = run_tests(replace(ACTIVE[name], tests=tests))
    assert len(outcomes) == len(tests)
    assert [
        f"{outcome.name}: expected {outcome.expected}, got {outcome.actual}, error {outcome.error}"
        for outcome in outcomes
        if not outcome.passed
    ] == []


def test_the_index_loses_nothing() -> None:
    """All rules together find in every example what each rule finds alone."""
    single = [
        rule for rule in LOADED.rules if rule.query is not None and not rule.query.is_sequence
    ]
    engine = RuleEngine(single)
    found = 0
    for tests in CORPUS.values():
        for document in (each for test in tests for each in documents_of(test)):
            view = matching_view(document)
            time_ns = document_time_ns(document) or 0
            alone = [rule.id for rule in single if rule.query and rule.query.matches(view)]
            assert [match.rule.id for match in engine.match(view, time_ns)] == alone
            found += len(alone)
    assert found > len(single)
    assert sum(counters.errors for counters in engine.counters().values()) == 0
