"""docs/rules.md: every example in it does what the page says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from sensor.ecs import matching_view
from sensor.rules import compile_query
from sensor.rules.functions import FUNCTIONS
from sensor.rules.load import load_rules
from sensor.rules.rule_file import RuleFile
from sensor.rules.schema import DEFAULT_SCHEMA
from sensor.rules.selftest import exec_document, merge, run_tests

PAGE = (Path(__file__).parents[3] / "docs" / "rules.md").read_text()

ROWS = re.findall(r"^\| `([^`]+)` \| `([^`]+)` \| `([^`]+)` \|$", PAGE, re.MULTILINE)
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def document(cell: str) -> dict[str, Any]:
    value = yaml.safe_load(cell)
    if isinstance(value, list):
        return matching_view(exec_document(value))
    return matching_view(merge(exec_document(["x"]), value))


@pytest.mark.parametrize(("condition", "good", "bad"), ROWS, ids=[row[0] for row in ROWS])
def test_a_condition_is_true_of_one_and_not_of_the_other(
    condition: str, good: str, bad: str
) -> None:
    """Each row of the tables."""
    query = compile_query(f"process where {condition}", schema=DEFAULT_SCHEMA)
    assert query.inactive_reason is None
    assert query.matches(document(good))
    assert not query.matches(document(bad))


def test_every_operator_and_function_has_an_example() -> None:
    """Nothing of the language is left without a row."""
    shown = " ".join(row[0] for row in ROWS)
    operators = [
        "==", "!=", "<", "<=", ">", ">=", ":", "like", "like~", "regex", "regex~", "in", "in~", "not in",
        "and", "or", "not", "null", "true", "+", "-", "*", "/", "%", '"""', "?",
    ]  # fmt: skip
    assert [each for each in operators if f" {each}" not in f" {shown}"] == []
    names = {f"{name}(" for name in FUNCTIONS}
    names |= {f"{name}~(" for name, function in FUNCTIONS.items() if function.insensitive}
    assert [name for name in sorted(names) if name not in shown] == []


@pytest.mark.parametrize("text", [text for kind, text in BLOCKS if kind == "eql"])
def test_a_query_compiles(text: str) -> None:
    """Each query that is shown by itself."""
    assert compile_query(text, schema=DEFAULT_SCHEMA).inactive_reason is None


@pytest.mark.parametrize("text", [text for kind, text in BLOCKS if kind == "yaml"])
def test_a_rule_loads_and_its_examples_pass(text: str, tmp_path: Path) -> None:
    """Each rule that is shown whole."""
    path = tmp_path / "rule.yml"
    path.write_text(text)
    result = load_rules([path], builtin=False)
    assert [str(error) for error in result.errors] == []
    outcomes = run_tests(result.rules[0])
    assert outcomes
    assert all(outcome.passed for outcome in outcomes)


def test_every_key_of_a_rule_file_is_described() -> None:
    """The table of keys leaves none out."""
    table = PAGE.split("## The keys of a rule file")[1].split("## Examples")[0]
    keys = {key for key in RuleFile.__struct_encode_fields__ if f"`{key}`" not in table}
    assert keys == set()
