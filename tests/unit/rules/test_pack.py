"""The built-in rules: complete, tested beside themselves, and meaning what the seed means."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensor.rules.load import load_rules
from sensor.rules.rule import Rule
from sensor.rules.selftest import exec_document, run_tests

LOADED = load_rules()
RULES = {Path(rule.path).stem: rule for rule in LOADED.rules}
SEED = RULES["aws-credentials-searched-in-container"]

TOOLS = ("grep", "egrep", "fgrep", "find", "locate", "mlocate")
NEEDLES = (
    "aws_access_key_id", "aws_secret_access_key", "aws_session_token", "accesskeyid",
    "secretaccesskey", "access_key", ".aws/credentials",
)  # fmt: skip

every_rule = pytest.mark.parametrize("rule", RULES.values(), ids=RULES.keys())


def test_all_load_and_can_fire() -> None:
    """No built-in rule is in error, inactive, or doubtful."""
    assert ([str(error) for error in LOADED.errors], LOADED.inactive) == ([], ())
    assert {name: rule.warnings for name, rule in RULES.items()} == dict.fromkeys(RULES, ())


@every_rule
def test_its_tests_pass(rule: Rule) -> None:
    """Each example beside a rule comes out as it says, and there are both kinds."""
    outcomes = run_tests(rule)
    assert [outcome.name for outcome in outcomes if not outcome.passed] == []
    assert {outcome.expected for outcome in outcomes} == {True, False}


@every_rule
def test_it_is_complete(rule: Rule) -> None:
    """A rule that is shipped has everything a responder needs."""
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", rule.id)
    assert all((rule.description, rule.note, rule.tags, rule.references, rule.threat, rule.license))
    assert (rule.interval, rule.max_alerts, rule.version) == (300, 100, 1)
    assert rule.builtin


@every_rule
def test_it_fires_only_in_containers(rule: Rule) -> None:
    """What fires in a container does not fire where there is none."""
    assert rule.query is not None
    document = exec_document(["grep", "aws_secret_access_key"])
    document["sensor"]["args_truncated"] = True
    assert rule.query.matches(document)
    for absent in ({}, {"name": "web"}, {"id": ""}, {"id": None}):
        assert not rule.query.matches({**document, "container": absent})


def test_the_seed_is_what_it_was() -> None:
    """Name, severity, score, technique, interval, maximum and version of the seed."""
    assert (SEED.name, SEED.severity, SEED.risk_score) == (
        "AWS Credentials Searched For Inside A Container", "medium", 47,
    )  # fmt: skip
    (threat,) = SEED.threat
    (technique,) = threat.technique
    assert (threat.tactic.id, technique.id, technique.subtechnique[0].id) == (
        "TA0006", "T1552", "T1552.001",
    )  # fmt: skip


def verdict(document: dict[str, Any]) -> bool:
    assert SEED.query is not None
    return SEED.query.matches(document)


@pytest.mark.parametrize("needle", NEEDLES)
@pytest.mark.parametrize("tool", TOOLS)
def test_each_tool_with_each_needle(tool: str, needle: str) -> None:
    """By name or as an argument, the needle anywhere in any argument, in any case."""
    for case in (str, str.upper, str.title):
        assert verdict(exec_document([tool, f"x{case(needle)}y"]))
        assert verdict(exec_document(["xargs", case(tool), case(needle)]))
        named = exec_document(["other", case(needle)])
        named["process"]["name"] = ["other", case(tool)]
        assert verdict(named)
    assert not verdict(exec_document([tool, needle.replace("e", "3")]))
    assert not verdict(exec_document([f"{tool}x", needle]))
    assert not verdict(exec_document(["sh", "-c", f"{tool} {needle}"]))


def test_what_the_seed_asks_of_an_event() -> None:
    """Another module or type is no match."""
    document = exec_document(["grep", "access_key"])
    assert verdict(document)
    assert not verdict({**document, "event": {**document["event"], "module": "other"}})
    assert not verdict({**document, "event": {**document["event"], "type": ["end"]}})
    assert not verdict({**document, "event": {**document["event"], "category": ["file"]}})


_WORDS = st.sampled_from(
    [*TOOLS, *NEEDLES, "GREP", "Find", "AWS_ACCESS_KEY_ID", "x.AWS/credentials", "grep ", "ls", "-r", "",
     "accesskey", "ACCESS\u212aEY_ID", "access_\u212aey", "aws_session_token\n", "\udce4access_key\udcff"]
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(name=st.lists(_WORDS, min_size=1, max_size=2), args=st.lists(_WORDS, max_size=5))
def test_the_seed_against_a_second_reading_of_it(name: list[str], args: list[str]) -> None:
    """For any names and arguments, the rule says what a few lines of Python say."""

    def fold(text: str) -> str:
        return "".join(each.lower() if each.isascii() else each for each in text)

    folded = [fold(arg) for arg in args]
    has_tool = any(fold(each) in TOOLS for each in name) or any(arg in TOOLS for arg in folded)
    expected = has_tool and any(needle in arg for arg in folded for needle in NEEDLES)
    document = exec_document(["x"])
    document["process"] |= {"name": name, "args": args}
    assert verdict(document) == expected
