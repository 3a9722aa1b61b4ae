"""YAML rule files: what is read, and what is said about a file that is wrong."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sensor.errors import Location, RuleError, RuleSyntaxError
from sensor.rules.source import locate
from sensor.rules.yaml_file import YamlRule, read_yaml_rule

MINIMAL = "name: A rule\nquery: process where true\n"


def read(text: str) -> YamlRule:
    result = read_yaml_rule(text, "rule.yml")
    assert isinstance(result, YamlRule), [str(error) for error in result]
    assert result.errors == []
    return result


def errors(text: str) -> list[RuleError]:
    result = read_yaml_rule(text, "rule.yml")
    found = result if isinstance(result, list) else result.errors
    assert found
    return found


def error(text: str) -> RuleError:
    found = errors(text)
    assert len(found) == 1, [str(each) for each in found]
    return found[0]


def test_defaults_are_the_seeds() -> None:
    """A name and a query are enough; the rest has the defaults of the rule the project began with."""
    file = read(MINIMAL).file
    assert (file.severity, file.interval, file.max_alerts, file.version) == (
        "medium",
        "5m",
        None,
        1,
    )
    assert file.enabled


def test_all_keys() -> None:
    """Every key of the format is read, those of Elastic's names included."""
    file = read(
        """
name: A rule
rule_id: 0815
description: What it finds.
severity: high
risk_score: 73
tags: [one, two]
threat:
  - framework: MITRE ATT&CK
    tactic: {id: TA0006, name: Credential Access, reference: https://attack.mitre.org/tactics/TA0006/}
    technique:
      - id: T1552
        name: Unsecured Credentials
        subtechnique:
          - {id: T1552.001, name: Credentials In Files}
interval: 30s
from: now-6m
max_signals: 7
version: 3
author: Somebody
license: Apache-2.0
references: [https://example.org/]
note: |
  Look at it.
false_positives: [a scanner]
enabled: false
exceptions:
  - {reason: known, anything: [goes, here]}
tests:
  - {args: grep -r "a b", matches: true}
query: process where true
""".replace("rule_id: 0815", "rule_id: '0815'")
    ).file
    assert file.rule_id == "0815"
    assert file.threat[0].technique[0].subtechnique[0].id == "T1552.001"
    assert (file.interval, file.from_, file.max_signals, file.author) == (
        "30s", "now-6m", 7, "Somebody",
    )  # fmt: skip
    assert file.exceptions == [{"reason": "known", "anything": ["goes", "here"]}]
    assert file.tests[0].args == 'grep -r "a b"'
    assert not file.enabled


def test_words_are_words() -> None:
    """`no`, `on` and dates are text, as YAML 1.2 has it."""
    document = (
        read(
            MINIMAL
            + "tests: [{matches: true, document: {a: no, b: on, c: 2026-01-01, d: 1:30, e: 0755}}]"
        )
        .file.tests[0]
        .document
    )
    assert document == {"a": "no", "b": "on", "c": "2026-01-01", "d": "1:30", "e": "0755"}


def test_scalars() -> None:
    """The scalars that are not text: whole numbers, fractions, booleans, null."""
    document = (
        read(
            MINIMAL
            + "tests: [{matches: true, document: {a: 5, b: -0.5, c: true, d: ~, e: null, f: ''}}]"
        )
        .file.tests[0]
        .document
    )
    assert document == {"a": 5, "b": -0.5, "c": True, "d": None, "e": None, "f": ""}


@pytest.mark.parametrize(
    ("text", "line", "column", "message"),
    [
        ("", 1, 1, "the file is empty"),
        ("# only a comment\n", 1, 1, "the file is empty"),
        ("just words\n", 1, 1, "a rule is a mapping"),
        ("name: A\nquery: [a\n", 3, 1, "not YAML: did not find expected ',' or ']'"),
        ("name: 'A\n", 2, 1, "not YAML: found unexpected end of stream"),
        ("name: A\x01\n", 1, 8, "not YAML: control characters are not allowed"),
        ("näme: ü\x01\n", 1, 8, "not YAML: control characters are not allowed"),
        ("name: A\n---\nname: B\n", 2, 1, "not YAML: but found another document"),
        ("name: A\n", 1, 1, "query: missing or empty"),
        ("name: A\nquery: ''\n", 2, 1, "query: missing or empty"),
        ("query: process where true\n", 1, 1, "name: this key is missing"),
        ("name: ''\nquery: q\n", 1, 1, "name: expected text of length >= 1"),
        ("name: A\nquery: true\n", 2, 1, "query: expected text, got true or false"),
        ("name: A\nname: B\nquery: q\n", 2, 1, "`name` stands here a second time"),
        ("name: A\nquery: q\nqeury: q\n", 3, 1, "qeury: no such key; did you mean `query`?"),
        ("name: A\nquery: q\nrisk_score: 101\n", 3, 1, "risk_score: expected a whole number <= 100"),
        ("name: A\nquery: q\nrisk_score: '9'\n", 3, 1, "risk_score: expected a whole number"),
        (
            "name: A\nquery: q\nseverity: urgent\n", 3, 1,
            "severity: expected one of low, medium, high, critical",
        ),
        ("name: A\nquery: q\ninterval: 5 minutes\n", 3, 1, "interval: expected a duration"),
        ("name: A\nquery: q\ninterval: 0s\n", 3, 1, "interval: expected a duration"),
        ("name: A\nquery: q\nenabled: no\n", 3, 1, "enabled: expected true or false, got text"),
        ("name: A\nquery: q\nversion: 99999999999999999999\n", 3, 1, "version: expected a whole"),
        ("name: A\nquery: q\nthreat:\n  - {}\n", 4, 5, "threat[0].tactic: this key is missing"),
        (
            "name: A\nquery: q\nthreat:\n  - tactic: {id: a, name: b, nam: c}\n", 4, 30,
            "threat[0].tactic.nam: no such key; did you mean `name`?",
        ),
        ("name: A\nquery: q\ntests:\n  - args: a\n", 4, 5, "tests[0].matches: this key is missing"),
        (
            "name: A\nquery: q\ntests:\n  - {matches: true, args: [a, 5]}\n", 4, 31,
            "tests[0].args[1]: expected text, got a whole number",
        ),
        ("name: A\nquery: q\ntests:\n  - {matches: true, args: 'a \"b'}\n", 4, 5, "tests[0]: no closing"),
        (
            "name: A\nquery: q\ntests:\n  - {matches: true, args: a, documents: []}\n", 4, 5,
            "tests[0]: `documents` stands without",
        ),
        ("name: &a A\nquery: *a\n", 1, 7, "anchors and aliases are not used in rules"),
        ("name: A\nquery: *a\n", 2, 8, "anchors and aliases are not used in rules"),
        ("name: !!python/name:os.system A\n", 1, 7, "tags are not used in rules"),
        ("name: !!binary A\n", 1, 7, "tags are not used in rules"),
        ("name: A\nquery: q\n? [a]\n: b\n", 3, 3, "a key is a word"),
        ("name: A\nquery: q\n<<: {a: b}\n", 3, 1, "<<: no such key"),
        ("[" * 40 + "]" * 40, 1, 33, "nested more than 32 deep"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_at_its_place(
    text: str, line: int, column: int, message: str
) -> None:
    """Each error has the file, the line, the column, the reason, and the line with a caret."""
    found = error(text)
    assert found.message.startswith(message)
    assert (found.location.path, found.line, found.column) == ("rule.yml", line, column)
    if text.split("\n")[line - 1] == "":
        assert found.snippet == "", "of an empty line there is nothing to show"
        return
    assert found.snippet is not None
    shown, caret = found.snippet.split("\n")
    assert caret == " " * (column - 1) + "^"
    expected = text.split("\n")[line - 1] if text else ""
    assert shown == "".join(each if each.isprintable() else "?" for each in expected)


def test_all_errors_of_a_file_are_reported() -> None:
    """Unknown and repeated keys come together, up to a limit."""
    found = errors("name: A\nquery: q\nnote: a\nnote: b\nfoo: 1\nbar: 2\n")
    assert [each.line for each in found] == [4, 5, 6]
    assert len(errors(MINIMAL + "".join(f"k{number}: 1\n" for number in range(1000)))) == 20


def test_a_key_cannot_steer_the_terminal() -> None:
    """What a file says is shown without its control characters."""
    found = error(MINIMAL + '"\\e[31mred": 1\n')
    assert "\x1b" not in str(found)
    assert "?[31mred: no such key" in found.message


@pytest.mark.parametrize(
    ("written", "query", "line", "column"),
    [
        # The bad word begins the second line of each query.
        ("query: |\n  process where\n    BAD\n", "process where\n  BAD\n", 3, 5),
        ("query: |2-   # a comment, where\n  process where\n  BAD", "process where\nBAD", 3, 3),
        (
            "query: |\n\n  # no comment\n  process where\n  BAD\n",
            "\n# no comment\nprocess where\nBAD\n",
            5,
            3,
        ),
        ("query: >-\n  process where\n  BAD\n", "process where BAD", 3, 3),
        ("query: process where\n  BAD\n", "process where BAD", 2, 3),
        ("query: 'it''s where\n  BAD'\n", "it's where BAD", 2, 3),
        ('query: "\\u0070rocess \\"where\\"\\\n  \\x20BAD"\n', 'process "where" BAD', 2, 7),
        ('query: "a\\nBAD"\n', "a\nBAD", 1, 12),
        ("query: BAD", "BAD", 1, 8),
        ("query:\n  BAD", "BAD", 2, 3),
        ("{query: 'a BAD', name: A}", "a BAD", 1, 12),
    ],
)
def test_a_place_in_the_query_becomes_a_place_in_the_file(
    written: str, query: str, line: int, column: int
) -> None:
    """However the query is written in YAML, an error in it points at the file's own place."""
    rule = read(written if written.startswith("{") else written.rstrip("\n") + "\nname: A\n")
    assert rule.file.query == query
    place = rule.place
    in_query = locate(place.query, place.query.index("BAD"))
    moved = place.relocate(
        RuleSyntaxError("bad", location=Location(line=in_query[0], column=in_query[1]))
    )
    assert (moved.line, moved.column) == (line, column)
    assert moved.snippet is not None
    shown, caret = moved.snippet.split("\n")
    assert shown[caret.index("^") :].startswith("BAD")


def test_a_place_past_the_end_of_the_query_is_its_end() -> None:
    """`unexpected end` points behind the last word."""
    place = read("query: |\n  process where\n\nname: A\n").place
    moved = place.relocate(RuleSyntaxError("end", location=Location(line=9, column=9)))
    assert (moved.line, moved.column) == (2, 16)


@settings(max_examples=300, deadline=None)
@given(
    st.text(
        alphabet=st.sampled_from("name: query[]{}|>-'\"\\&*!%@`#?\n\t aAé\x85\u2028\x00\ufeff"),
        max_size=80,
    )
)
def test_no_text_raises(text: str) -> None:
    """Whatever stands in a file, the answer is a rule or errors with a place."""
    result = read_yaml_rule(text, "rule.yml")
    if isinstance(result, list):
        assert result
        assert all(each.line and each.column for each in result)


@settings(max_examples=200, deadline=None)
@given(
    query=st.text(
        alphabet=st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_characters="\x7f"),
        min_size=1,
        max_size=60,
    )
    .map(lambda text: "".join(each for each in text if each.isprintable()).strip())
    .filter(bool),
    style=st.sampled_from(['"', "'", "|", ">"]),
    data=st.data(),
)
def test_every_character_of_a_query_is_found_again(
    query: str, style: str, data: st.DataObject
) -> None:
    """For any query and any way to write it, a visible character's place holds that character."""
    text = yaml.dump(
        {"name": "A", "query": query}, default_style=style, allow_unicode=True, width=40
    )
    text = text.replace("!!str ", "")
    rule = read(text)
    assert rule.file.query.strip() == query
    offset = data.draw(
        st.integers(0, len(query) - 1).filter(lambda index: not query[index].isspace())
    )
    moved = rule.place.relocate(RuleSyntaxError("x", location=Location(line=1, column=offset + 1)))
    assert moved.line is not None
    assert moved.column is not None
    character = text.split("\n")[moved.line - 1][moved.column - 1]
    assert character in (query[offset], "\\") or (style == "'" and query[offset] == "'")
