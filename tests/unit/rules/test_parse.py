"""The grammar: what parses to what, and what a broken query says."""

from __future__ import annotations

import pickle
import subprocess
import sys

import pytest

from sensor.errors import RuleError, RuleSyntaxError
from sensor.rules import ast, compile_query
from sensor.rules.parse import MAX_CHARACTERS, MAX_DEPTH, parse_query


def condition(text):
    return parse_query(f"any where {text}").body.condition


def field(name, **kind):
    return ast.Field(name=name, **kind)


def literal(value):
    return ast.Literal(value=value)


class TestEvents:
    def test_category(self):
        assert parse_query("process where true").body.category == "process"
        assert parse_query('"my category" where true').body.category == "my category"
        assert parse_query("any where true").body.category is None

    def test_pipes(self):
        pipes = parse_query("any where true | head 5 | tail 2").pipes
        assert pipes == (ast.Pipe(name="head", count=5), ast.Pipe(name="tail", count=2))

    def test_comments_of_both_kinds(self):
        text = 'any /* a "quote" */ where // to the end\n a == "/* no comment */" // last'
        assert parse_query(text).body.condition.right == literal("/* no comment */")

    def test_sequence(self):
        text = """sequence by a, ?b with maxspan=1500ms
          [process where x == 1] by c with runs=3
          ![any where true] by d
          [any where false] by e
          until [file where y] by f"""
        body = parse_query(text).body
        assert body.by == (field("a"), field("b", optional=True))
        assert body.maxspan_ns == 1_500_000_000
        assert [term.runs for term in body.terms] == [3, 1, 1]
        assert [term.missing for term in body.terms] == [False, True, False]
        assert [term.by for term in body.terms] == [(field(name),) for name in "cde"]
        assert body.until.filter.category == "file"

    @pytest.mark.parametrize(
        ("unit", "nanoseconds"),
        [("ms", 10**6), ("s", 10**9), ("m", 60 * 10**9), ("h", 3600 * 10**9), ("d", 86400 * 10**9)],
    )
    def test_maxspan_has_units(self, unit, nanoseconds):
        text = f"sequence with maxspan=2{unit} [any where true] [any where true]"
        assert parse_query(text).body.maxspan_ns == 2 * nanoseconds


class TestExpressions:
    @pytest.mark.parametrize(
        ("text", "value"),
        [
            ('"a"', "a"),
            (r'"\b\t\n\f\r\"\'\\"', "\b\t\n\f\r\"'\\"),
            (r'"\u{e9}\u{1F600}"', "é😀"),
            ('"""a\\d"b"""', 'a\\d"b'),
            ('"""two\nlines"""', "two\nlines"),
            ('"""ends in quotes"""""', 'ends in quotes""'),
            ('""', ""),
            ('""""""', ""),
            ("12", 12),
            ("-12", -12),
            ("- - 12", 12),
            ("1.5", 1.5),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("true", True),
            ("false", False),
            ("null", None),
        ],
    )
    def test_literals(self, text, value):
        found = condition(f"a == {text}").right
        assert (found, type(found.value)) == (literal(value), type(value))

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("a", field("a")),
            ("?a.b", field("a.b", optional=True)),
            ("`a b`.c", field("a b.c")),
            ("event.`sequence`", field("event.sequence")),
            ("`a``b`", field("a`b")),
            ("@timestamp", field("@timestamp")),
            ("anything.notable", field("anything.notable")),
        ],
    )
    def test_fields(self, text, expected):
        assert condition(text) == expected

    def test_and_binds_tighter_than_or_and_not_tighter_than_both(self):
        a, b, c = field("a"), field("b"), field("c")
        assert condition("a or b and c") == ast.Or(operands=(a, ast.And(operands=(b, c))))
        assert condition("not a and b") == ast.And(operands=(ast.Not(operand=a), b))
        assert condition("(a or b) and c") == ast.And(operands=(ast.Or(operands=(a, b)), c))

    def test_chains_are_flat(self):
        operands = (field("a"), field("b"), field("c"))
        assert condition("a and (b and c)") == ast.And(operands=operands)
        assert condition("a or b or c") == ast.Or(operands=operands)

    def test_arithmetic_binds_as_usual(self):
        a, b = field("a"), field("b")
        product = ast.Arithmetic(operator="*", left=b, right=literal(2))
        assert condition("a + b * 2 == 1").left == ast.Arithmetic(
            operator="+", left=a, right=product
        )
        assert condition("a - b - 2 == 1").left == ast.Arithmetic(
            operator="-",
            left=ast.Arithmetic(operator="-", left=a, right=b),
            right=literal(2),
        )
        assert condition("-a + 1 == 1").left.left == ast.Negate(operand=a)

    @pytest.mark.parametrize(
        ("operator", "kind", "insensitive"),
        [
            (":", ast.Like, True),
            ("like~", ast.Like, True),
            ("like", ast.Like, False),
            ("regex", ast.Regex, False),
            ("regex~", ast.Regex, True),
        ],
    )
    def test_patterns(self, operator, kind, insensitive):
        one = kind(operand=field("a"), patterns=("x",), insensitive=insensitive)
        two = kind(operand=field("a"), patterns=("x", "y"), insensitive=insensitive)
        assert condition(f'a {operator} "x"') == one
        assert condition(f'a {operator} ("x")') == one
        assert condition(f'a {operator}("x", "y")') == two

    def test_lists(self):
        found = ast.In(operand=field("a"), values=(literal(1), literal("b")))
        assert condition('a in (1, "b")') == found
        assert condition('a not in (1, "b")') == ast.Not(operand=found)
        assert condition('not a in (1, "b")') == ast.Not(operand=found)
        assert condition('a in~ ("b")') == ast.In(
            operand=field("a"), values=(literal("b"),), insensitive=True
        )

    def test_functions(self):
        assert condition('startsWith~(a, "x")') == ast.Call(
            name="startsWith", arguments=(field("a"), literal("x")), insensitive=True
        )


class TestErrors:
    @pytest.mark.parametrize(
        ("text", "line", "column", "message"),
        [
            ("", 1, 1, "ends here"),
            ("process where", 1, 14, "ends here"),
            ("process where a = 1", 1, 17, "=="),
            ("process where a == 'x'", 1, 20, "double quotes"),
            ('process where a == "x', 1, 20, "no end"),
            ('process where a == "x\ny"', 1, 20, "no end"),
            (r'process where a == "\d"', 1, 21, r"\\d"),
            (r'process where a == "\u{110000}"', 1, 21, "no character"),
            (r'process where a == "\u{d800}"', 1, 21, "no character"),
            ("process where a == 1 == 2", 1, 22, "=="),
            ("process where a.sequence == 1", 1, 17, "keyword"),
            ("process where a.like == 1", 1, 17, "keyword"),
            ("process where a.in == 1", 1, 17, "keyword"),
            ("process where\n  a == 1 and\n  or b", 3, 3, "or"),
            ("process where a : 1", 1, 19, "string"),
            ("process where a like b", 1, 22, "string"),
            ("process where a && b", 1, 17, '"and"'),
            ("process where !a", 1, 15, '"not"'),
            ("process where a[0] == 1", 1, 16, "no index"),
            ("process where a ~ b", 1, 17, "right after"),
            ("process where a == 99999999999999999999", 1, 20, "too large"),
            ("process where a == 1e999", 1, 20, "too large"),
            ("process where ``", 1, 15, "empty"),
            ("process where true | count", 1, 22, "only head and tail"),
            ("process where true | head", 1, 22, "whole number"),
            ("process where true | head -1", 1, 22, "whole number"),
            ("process where child of [process where true]", 1, 15, "child of"),
            ("join [any where true] [any where true]", 1, 1, "join"),
            ("sample by a [any where true] [any where true]", 1, 1, "sample"),
            ("process where /* open", 1, 15, "/"),
        ],
    )
    def test_tell_where_and_what(self, text, line, column, message):
        with pytest.raises(RuleSyntaxError, match=message) as caught:
            parse_query(text)
        assert (caught.value.line, caught.value.column) == (line, column)

    def test_show_the_line_with_a_caret_in_the_users_file(self):
        with pytest.raises(RuleSyntaxError) as caught:
            compile_query("any where\n  a = 1", path="rules/x.yml", first_line=7)
        assert str(caught.value) == (
            'rules/x.yml:8:5: unexpected "="; equality is written ==\n  a = 1\n    ^'
        )

    def test_show_a_part_of_a_very_long_line_without_control_characters(self):
        text = "any where " + "a or " * 1000 + "\x1b[31m"
        with pytest.raises(RuleSyntaxError) as caught:
            parse_query(text)
        lines = caught.value.snippet.splitlines()
        assert all(len(line) <= 121 for line in lines)
        assert caught.value.snippet.replace("\n", "").isprintable()

    def test_refuse_what_is_too_long_or_too_deep(self):
        with pytest.raises(RuleSyntaxError, match="longer than"):
            parse_query("any where " + " " * MAX_CHARACTERS + "true")
        with pytest.raises(RuleSyntaxError, match="nested deeper"):
            parse_query("any where " + "not " * 10_000 + "a")
        with pytest.raises(RuleSyntaxError, match="nested deeper"):
            parse_query("any where " + "1 + " * 10_000 + "1 == a")
        with pytest.raises(RuleSyntaxError, match="ends here"):
            parse_query("any where " + "(" * 50_000)

    def test_what_is_just_not_too_deep_compiles(self):
        depth = (MAX_DEPTH - 3) // 2
        text = "any where " + "a or (b and (" * depth + "c" + "))" * depth
        assert compile_query(text).matches({"a": True})
        assert compile_query(text).matches({"b": True, "c": True})
        assert not compile_query(text).matches({"c": True})

    def test_are_rule_errors(self):
        assert issubclass(RuleSyntaxError, RuleError)


def test_a_tree_survives_pickling_with_its_positions():
    tree = parse_query('sequence [any where a == "x"] [any where not b in (1, null)] | head 1')
    copy = pickle.loads(pickle.dumps(tree))
    assert copy == tree
    assert copy.text == tree.text
    assert copy.body.terms[1].position == tree.body.terms[1].position


def test_importing_and_compiling_trees_loads_neither_parser_nor_re2():
    program = """
import pickle, sys
from sensor.rules import compile_ast
from sensor.rules.index import RuleIndex
from sensor.rules.literals import needs_of
query = compile_ast(pickle.loads(sys.stdin.buffer.read()))
assert list(RuleIndex([query]).candidates({"process": {"args": ["xyz"]}})) == [0]
assert [needs.literals for needs in needs_of(query)] == [{b"xyz"}]
print(sorted({"lark", "re2", "yaml", "msgspec"} & set(sys.modules)))
"""
    tree = pickle.dumps(parse_query('any where process.args : "*xyz*"'))
    done = subprocess.run(
        [sys.executable, "-c", program], input=tree, capture_output=True, check=True
    )
    assert done.stdout.decode().strip() == "[]"
