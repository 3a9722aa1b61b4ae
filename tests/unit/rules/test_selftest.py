"""`tests:` beside a rule: how an example becomes documents, and what its outcome is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sensor.rules.load import load_rules
from sensor.rules.rule import Rule, RuleTest
from sensor.rules.schema import DEFAULT_SCHEMA
from sensor.rules.selftest import documents_of, exec_document, merge, run_tests


def loaded(tmp_path: Path, query: str, tests: str) -> Rule:
    path = tmp_path / "rule.yml"
    indented = "\n".join(f"  {line}" for line in query.split("\n"))
    path.write_text(f"name: A\nquery: |\n{indented}\ntests:\n{tests}")
    result = load_rules([path], builtin=False)
    assert [str(error) for error in result.errors] == []
    return (*result.rules, *result.inactive)[0]


def test_an_example_passes_or_fails(tmp_path: Path) -> None:
    """The outcome has the name, the place, what was expected and what came."""
    rule = loaded(
        tmp_path,
        'process where process.args : "*secret*"',
        "  - {name: good, args: [grep, my_SECRET], matches: true}\n"
        "  - {args: grep nothing, matches: true}\n"
        "  - {args: \"grep 'a secret'\", matches: false}\n",
    )
    outcomes = run_tests(rule)
    assert [(each.name, each.expected, each.actual, each.passed) for each in outcomes] == [
        ("good", True, True, True),
        ("test 2", True, False, False),
        ("test 3", False, True, False),
    ]
    assert [each.location.line for each in outcomes] == [5, 6, 7]


def test_names_are_those_of_a_live_event(tmp_path: Path) -> None:
    """As with a live event, the executable's own name counts beside the invoked one."""
    rule = loaded(
        tmp_path,
        'process where process.name == "busybox"',
        "  - {args: [grep], document: {process: {executable: /bin/busybox}}, matches: true}\n"
        "  - {args: [grep], matches: false}\n",
    )
    assert all(outcome.passed for outcome in run_tests(rule))


def test_a_sequence_is_tested_with_several_documents(tmp_path: Path) -> None:
    """`documents` come in order, 1 ms apart or at their own times."""
    rule = loaded(
        tmp_path,
        "sequence by container.id with maxspan=1s\n"
        '  [process where process.name == "curl"]\n'
        '  [process where process.name == "sh"]',
        "  - documents: [{process.name: curl}, {process.name: sh}]\n"
        "    matches: true\n"
        "  - documents: [{process.name: sh}, {process.name: curl}]\n"
        "    matches: false\n"
        "  - documents:\n"
        "      - {process.name: curl, '@timestamp': '2026-01-01T00:00:00Z'}\n"
        "      - {process.name: sh, '@timestamp': '2026-01-01T00:00:02Z'}\n"
        "    matches: false\n",
    )
    assert [outcome.passed for outcome in run_tests(rule)] == [True, True, True]


def test_an_inactive_rule_is_not_tested(tmp_path: Path) -> None:
    """A rule that cannot fire has no outcomes."""
    rule = loaded(tmp_path, 'file where file.name == "x"', "  - {args: a, matches: false}\n")
    assert run_tests(rule) == []


def test_a_rule_that_raises_fails_its_test(tmp_path: Path) -> None:
    """An exception is not the same as no match."""
    rule = loaded(tmp_path, "process where true", "  - {args: a, matches: false}\n")
    assert rule.query is not None

    def matches(_document: dict[str, Any]) -> bool:
        raise ZeroDivisionError("as told")

    rule.query.matches = matches
    (outcome,) = run_tests(rule)
    assert (outcome.passed, outcome.error) == (False, "ZeroDivisionError: as told")


@pytest.mark.parametrize(
    ("args", "name", "executable"),
    [
        (["grep", "-r"], "grep", "/usr/bin/grep"),
        (["/bin/egrep"], "egrep", "/bin/egrep"),
        (["./tool"], "tool", "/usr/bin/tool"),
        (["-bash"], "bash", "/usr/bin/bash"),
        ([], "true", "/usr/bin/true"),
    ],
)
def test_a_process_is_named_after_its_first_argument(
    args: list[str], name: str, executable: str
) -> None:
    """What an argv alone says of a process."""
    process = exec_document(args)["process"]
    assert (process["name"], process["executable"]) == (name, executable)
    assert (process["args"], process["args_count"]) == (args, len(args))


def test_the_example_document_has_only_fields_of_live_events() -> None:
    """An example that passes could not rest on a field that no event has."""

    def names(value: dict[str, Any], prefix: str = "") -> list[str]:
        found = []
        for key, each in value.items():
            path = f"{prefix}{key}"
            found += names(each, f"{path}.") if isinstance(each, dict) else [path]
        return found

    unknown = [
        name
        for name in names(exec_document(["x"]))
        if (info := DEFAULT_SCHEMA.get(name)) is None or info.source is None
    ]
    assert unknown == []


@pytest.mark.parametrize(
    ("overlay", "expected"),
    [
        ({}, {"a": {"b": 1, "c": 2}, "d": [1]}),
        ({"a": {"b": 3}}, {"a": {"b": 3, "c": 2}, "d": [1]}),
        ({"a.b": 3}, {"a": {"b": 3, "c": 2}, "d": [1]}),
        ({"a.x.y": 3}, {"a": {"b": 1, "c": 2, "x": {"y": 3}}, "d": [1]}),
        ({"a": None}, {"d": [1]}),
        ({"a.b": None, "x": None}, {"a": {"c": 2}, "d": [1]}),
        ({"d": [2, 3], "a": 5}, {"a": 5, "d": [2, 3]}),
        ({"d": {"e": 1}}, {"a": {"b": 1, "c": 2}, "d": {"e": 1}}),
        ({".": 1, "x.": 2}, {"a": {"b": 1, "c": 2}, "d": [1], ".": 1, "x.": 2}),
    ],
)
def test_an_overlay_changes_what_it_names(
    overlay: dict[str, Any], expected: dict[str, Any]
) -> None:
    """Values replace, mappings go deeper, null removes, dots are levels; the original stays."""
    document = {"a": {"b": 1, "c": 2}, "d": [1]}
    assert merge(document, overlay) == expected
    assert document == {"a": {"b": 1, "c": 2}, "d": [1]}


def test_a_key_of_very_many_dots_is_one_key() -> None:
    """Depth is bounded whatever a file says."""
    key = ".".join("a" * 50_000)
    assert merge({}, {key: 1}) == {key: 1}


def test_a_test_without_argv_is_an_ordinary_exec() -> None:
    """`document` alone changes an ordinary exec."""
    (document,) = documents_of(RuleTest(matches=True, document={"container": None}))
    assert document["process"]["args"] == ["true"]
    assert "container" not in document
