"""Printing: the text of a tree, with no more parentheses than needed."""

from __future__ import annotations

import pytest

from sensor.rules import ast
from sensor.rules.parse import parse_query
from sensor.rules.printer import to_eql


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("process where true", "process where true"),
        ('"any" where a', '"any" where a'),
        ('"two words" where a', '"two words" where a'),
        ("any where (a or b) and (c)", "any where (a or b) and c"),
        ("any where a or (b and c)", "any where a or b and c"),
        ("any where not (a and b)", "any where not (a and b)"),
        ("any where not (not a)", "any where not not a"),
        ("any where a not in (1)", "any where not a in (1)"),
        ('any where a like~ "x"', 'any where a : "x"'),
        ('any where a regex ("x", "y")', 'any where a regex ("x", "y")'),
        ("any where (a + 1) * 2 == 3", "any where (a + 1) * 2 == 3"),
        ("any where a - (b - 1) == 3", "any where a - (b - 1) == 3"),
        ("any where (-1) in (2)", "any where (-1) in (2)"),
        ("any where -a == - 1", "any where -a == -1"),
        ("any where (a == 1) == true", "any where (a == 1) == true"),
        ("any where `a b`.c and ?`where`", "any where `a b`.c and ?`where`"),
        ('any where a == """x"y\\z"""', r'any where a == "x\"y\\z"'),
        ('any where a == "é\\u{7f}\\t"', r'any where a == "é\u{7f}\t"'),
        (
            "sequence by a with maxspan=3s [any where b] by c with runs=2 ![d where e] by f | head 3",
            "sequence by a with maxspan=3000ms [any where b] by c with runs=2 ![d where e] by f | head 3",
        ),
        (
            "sequence [any where b] [any where c] until [any where d]",
            "sequence [any where b] [any where c] until [any where d]",
        ),
    ],
)
def test_prints(text, printed):
    tree = parse_query(text)
    assert to_eql(tree) == printed
    assert parse_query(printed) == tree


def test_a_field_whose_name_has_an_empty_part_is_quoted_whole():
    tree = ast.Query(body=ast.EventFilter(category=None, condition=ast.Field(name="a.")))
    assert to_eql(tree) == "any where `a.`"
    assert parse_query(to_eql(tree)) == tree
