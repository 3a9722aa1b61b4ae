"""Elastic's TOML rule files: what is read, what is passed over, and what is said of a broken one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensor.errors import Location, RuleError, RuleSyntaxError
from sensor.rules.source import locate
from sensor.rules.toml_file import TomlRule, read_toml_rule

ELASTIC = '''
[metadata]
creation_date = "2026/01/01"
maturity = "production"

[rule]
author = ["Somebody"]
description = """
What it finds.
"""
from = "now-6m"
index = ["logs-x*"]
interval = "10m"
language = "eql"
license = "A licence"
max_signals = 33
name = "A rule"
risk_score = 73
rule_id = "00000000-0000-0000-0000-000000000001"
severity = "high"
timestamp_override = "event.ingested"
type = "eql"

query = \'\'\'
process where process.name == "a" and
  BAD
\'\'\'

[[rule.threat]]
framework = "MITRE ATT&CK"

[[rule.threat.technique]]
id = "T1"
name = "One"
reference = "https://example.org/T1"

[rule.threat.tactic]
id = "TA1"
name = "Tactic"
reference = "https://example.org/TA1"
'''


def read(text: str) -> TomlRule:
    result = read_toml_rule(text, "rule.toml")
    assert isinstance(result, TomlRule), [str(error) for error in result]
    return result


def error(text: str) -> RuleError:
    result = read_toml_rule(text, "rule.toml")
    assert isinstance(result, list)
    assert len(result) == 1
    return result[0]


def test_a_rule_is_read_and_the_rest_passed_over() -> None:
    """The keys that mean something here are read; those of a search engine are not an error."""
    rule = read(ELASTIC)
    file = rule.file
    assert rule.other_language is None
    assert (file.name, file.rule_id) == ("A rule", "00000000-0000-0000-0000-000000000001")
    assert (file.severity, file.risk_score, file.interval, file.max_signals, file.from_) == (
        "high", 73, "10m", 33, "now-6m",
    )  # fmt: skip
    assert file.threat[0].technique[0].id == "T1"
    assert file.query == 'process where process.name == "a" and\n  BAD\n'


@pytest.mark.parametrize(
    ("kind", "language", "said"),
    [
        ("query", "kuery", "KQL query"),
        ("query", "lucene", "Lucene query"),
        ("esql", "esql", "ES|QL query"),
        ("threshold", "kuery", "rule type 'threshold'"),
        ("new_terms", "kuery", "rule type 'new_terms'"),
    ],
)
def test_other_languages_are_named(kind: str, language: str, said: str) -> None:
    """A rule that is not EQL is read, and says what it is instead."""
    text = ELASTIC.replace('type = "eql"', f'type = "{kind}"')
    assert read(text.replace('language = "eql"', f'language = "{language}"')).other_language == said


def test_a_rule_without_a_query_may_be_of_another_type() -> None:
    """A machine learning rule has no query at all."""
    rule = read('[rule]\nname = "A"\nrule_id = "1"\ntype = "machine_learning"\n')
    assert rule.other_language == "rule type 'machine_learning'"


@pytest.mark.parametrize(
    ("query", "value", "line", "column"),
    [
        ("query = '''\nprocess where\n  BAD\n'''", "process where\n  BAD\n", 4, 3),
        ("query = '''process where\nBAD'''", "process where\nBAD", 3, 1),
        (
            'query = """\nprocess where \\"a\\" and \\\n  BAD\n"""',
            'process where "a" and BAD\n',
            4,
            3,
        ),
        ('query="a\\n\\u0042AD"', "a\nBAD", 2, 11),
        ("  query = 'a BAD'", "a BAD", 2, 14),
    ],
)
def test_a_place_in_the_query_becomes_a_place_in_the_file(
    query: str, value: str, line: int, column: int
) -> None:
    """However the query is quoted, an error in it points at the file's own place."""
    rule = read(f'[rule]\n{query}\nname = "A"\n')
    assert rule.file.query == value
    at = locate(value, value.index("BAD"))
    moved = rule.place.relocate(RuleSyntaxError("bad", location=Location(line=at[0], column=at[1])))
    assert (moved.line, moved.column) == (line, column)


def test_a_query_in_a_note_is_not_taken_for_the_rules() -> None:
    """An example in the guide above the query does not lead the caret astray."""
    note = "note = '''\nquery = 'another'\n'''"
    rule = read(f"[rule]\n{note}\nquery = 'the BAD one'\nname = 'A'\n")
    moved = rule.place.relocate(RuleSyntaxError("bad", location=Location(line=1, column=5)))
    assert (moved.line, moved.column) == (5, 14)


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("", 1, 1, "there is no [rule] table"),
        ("rule = 1", 1, 1, "there is no [rule] table"),
        ("[rule]\nname = \n", 2, 8, "not TOML: invalid value"),
        ("[rule]\nname = 'a", 2, 10, "not TOML: "),
        ("a = " + "[" * 100_000, 1, 1, "not TOML that a rule needs"),
        ("[rule]\nname = 'a'\nname = 'b'\n", 3, 11, "not TOML: cannot overwrite a value"),
        ("[rule]\nquery = 'a'\n", 1, 1, "name: this key is missing"),
        ("[rule]\nname = 'a'\n", 1, 1, "query: missing or empty"),
        ("[rule]\nname = 'a'\nquery = 5\n", 3, 1, "query: expected text, got a whole number"),
        (
            "[rule]\nname = 'a'\nquery = 'q'\nseverity = 'x'\n", 4, 1,
            "severity: expected one of low, medium, high, critical",
        ),
        (
            "[rule]\nname = 'a'\nquery = 'q'\n[[rule.threat]]\n[rule.threat.tactic]\nid = 'T'\n", 4, 1,
            "threat[0].tactic.name: this key is missing",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_at_its_place(
    text: str, line: int, column: int, message: str
) -> None:
    """Each error has the file, the line, the column and the reason."""
    found = error(text)
    assert found.message.startswith(message)
    assert (found.location.path, found.line, found.column) == ("rule.toml", line, column)


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.sampled_from("[rule]\nname= 'query\"{}.#\\u1,"), max_size=80))
def test_no_text_raises(text: str) -> None:
    """Whatever stands in a file, the answer is a rule or an error with a place."""
    result = read_toml_rule("[rule]\n" + text, "rule.toml")
    if isinstance(result, list):
        assert all(each.line and each.column for each in result)
