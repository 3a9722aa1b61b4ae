"""What conditions mean: missing fields, arrays, keys, case, numbers as text."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from oracle import holds
from query_strategies import DOCUMENTS, conditions

from sensor.errors import RuleSyntaxError
from sensor.rules import ast, compile_ast, compile_query
from sensor.rules.schema import DEFAULT_SCHEMA

GREP = {"process": {"name": "grep", "args": ["grep", "-r", "x_AWS_y"], "command_line": "grep foo"}}


def matches(condition, document):
    return compile_query(f"any where {condition}").matches(document)


@given(conditions(), DOCUMENTS)
@settings(max_examples=300)
def test_compiled_conditions_mean_what_a_plain_evaluator_says(condition, document):
    query = ast.Query(body=ast.EventFilter(category=None, condition=condition))
    try:
        compiled = compile_ast(query)
    except RuleSyntaxError:
        return
    assert compiled.matches(document) == holds(condition, document)


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ('process.name == "grep"', True),
        ('process.name == "GREP"', False),
        ('process.name in ("GREP")', False),
        ('process.name in~ ("GREP")', True),
        ('process.name in~ ("GRE*")', False),
        ('process.name like "gr*"', True),
        ('process.name like "GR*"', False),
        ('process.name like~ "GR*"', True),
        ('process.name : "GR*"', True),
        ('process.name : "gre?"', True),
        ('process.name : "gre??"', False),
        ('process.name : ("x", "g*p")', True),
        ('process.name like "*?"', True),
        ('process.name like "?????*"', False),
        ('process.name == "gr*"', False),
        ('process.name != "gr*"', True),
        ('process.name >= "gre" and process.name < "grf"', True),
        ('process.command_line regex "grep"', False),
        ('process.command_line regex "grep.*"', True),
        ('process.command_line regex "GREP.*"', False),
        ('process.command_line regex~ "GREP.*"', True),
        ('startsWith(process.name, "GR")', False),
        ('startsWith~(process.name, "GR")', True),
    ],
)
def test_case_and_wildcards(condition, expected):
    assert matches(condition, GREP) is expected


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ('process.args : "*aws*"', True),
        ('process.args == "-r"', True),
        ('process.args != "-r"', False),
        ('process.args != "-x"', True),
        ('process.args in ("-r", "-R")', True),
        ('process.args not in ("man")', True),
        ('not process.args in ("-r")', False),
        ('process.args regex ".*AWS.*"', True),
        ('process.args == "grep" and process.args == "-r"', True),
        ("length(process.args) > 4", True),
        ("length(process.args) == 3", False),
        ('startsWith(process.args, "x_")', True),
        ('concat(process.args, "!") == "-r!"', True),
        ("process.args == null", False),
        ("process.args != null", True),
        ('process.args < "-s"', True),
    ],
)
def test_any_element_of_an_array_counts(condition, expected):
    assert matches(condition, GREP) is expected


@pytest.mark.parametrize("document", [{}, {"f": None}, {"f": []}, {"f": [None]}, {"f": {"g": "x"}}])
@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ('f == "x"', False),
        ('f != "x"', True),
        ('f like "*"', False),
        ('f : "*"', False),
        ('not f : "x"', True),
        ('f in ("x")', False),
        ('f not in ("x")', True),
        ('f regex ".*"', False),
        ('not f regex ".*"', True),
        ("f == null", True),
        ("null == f", True),
        ("f != null", False),
        ("f", False),
        ("not f", True),
        ("f > 1", False),
        ("not f > 1", True),
        ("f == 1 or f != 1", True),
        ("length(f) > 0", False),
        ("length(f) == null", True),
        ("not length(f) > 0", True),
        ('startsWith(f, "x")', False),
        ('not startsWith(f, "x")', True),
        ("null == (f > 1)", True),
        ("(f > 1) == false", False),
        ("?f == null", True),
        ("?f != null", False),
    ],
)
def test_a_missing_field_makes_tests_false_and_their_negation_true(condition, expected, document):
    assert matches(condition, document) is expected


def test_an_empty_text_is_not_missing():
    assert matches("f != null", {"f": ""})
    assert matches('f like "*"', {"f": ""})
    assert not matches('f like "?*"', {"f": ""})
    assert matches('f : ("a", "")', {"f": ["b", ""]})
    assert not matches('f : ("a", "")', {"f": ["b"]})


@pytest.mark.parametrize(
    "document",
    [
        {"a": {"b": {"c": "x"}}},
        {"a.b.c": "x"},
        {"a.b": {"c": "x"}},
        {"a": {"b.c": "x"}},
        {"a": [{"b": {"c": "y"}}, {"b": [{"c": "x"}]}]},
        {"a": {"b": {"c": "y"}}, "a.b.c": "x"},
        {"a": {"b": {"c": "y"}, "b.c": ["z", "x"]}},
        {"a": "odd", "a.b": {"c": "x"}},
    ],
)
@pytest.mark.parametrize("condition", ['a.b.c == "x"', 'a.b.c : "X"', "a.b.c != null"])
def test_keys_may_be_dotted_or_nested_or_both(condition, document):
    assert matches(condition, document)


def test_long_names_are_found_dotted_and_nested():
    name = "a.b.c.d.e"
    nested = {"a": {"b": {"c": {"d": {"e": "x"}}}}}
    mixed = {"a.b": {"c": {"d.e": "x"}}}
    for document in (nested, mixed, {name: "x"}):
        assert matches(f'{name} == "x"', document)
    for document in ({"a": {"b": "x"}}, {"a": {"b": {"c": None}}}, {"a.b": {"c": 1}}):
        assert matches(f"{name} == null", document)


@pytest.mark.parametrize(
    ("value", "condition", "expected"),
    [
        (0, 'f == "0"', True),
        ("0", "f == 0", True),
        (0, 'f in ("0", "1")', True),
        (0, 'f : "?"', True),
        (10, 'f like "1*"', True),
        (True, 'f == "true"', True),
        ("true", "f == true", True),
        ("true", "f", True),
        (True, "f == 1", False),
        (1, "f == true", False),
        (1, "f", False),
        (1, "f == 1.0", True),
        (1.5, 'f == "1.5"', True),
        ("10", "f > 9", True),
        ("10", 'f > "9"', False),
        (10, 'f > "9"', True),
        ("x", "f > 9", False),
        ([1, "2"], "f == 2", True),
        ([[1, [2]]], "f == 2", True),
        (10**30, 'f == "1"', False),
        pytest.param(10**5000, 'f : "*"', False, id="digits"),
        (float("inf"), "f > 1", True),
    ],
)
def test_numbers_booleans_and_text_meet_as_in_a_keyword_field(value, condition, expected):
    assert matches(condition, {"f": value}) is expected


@pytest.mark.parametrize(
    ("pattern", "text", "expected"),
    [
        ("k*", "\u212arep", False),  # the Kelvin sign is a k to Unicode only
        ("straße", "STRASSE", False),
        ("é", "É", False),
        ("É*", "Éx", True),
        ("foo", "foo\n", False),
        ("a\\*b", "a\\xxb", True),
        ("a\\*b", "a*b", False),
        ("*", "a\nb", True),
        ("a?b", "a\nb", True),
        ("?", "\U0001f600", True),
        ("x*", "x\udcff", True),
        ("a*", "b\0a", False),
        ("*a", "a\0b", False),
        ("b\0a", "b\0a", True),
    ],
)
def test_patterns_are_exact_and_fold_ascii_only(pattern, text, expected):
    query = ast.Query(
        body=ast.EventFilter(
            category=None,
            condition=ast.Like(
                operand=ast.Field(name="f"), patterns=(pattern, "no"), insensitive=True
            ),
        )
    )
    compiled = compile_ast(query)
    assert compiled.matches({"f": text}) is expected
    assert compiled.matches({"f": ["other", text]}) is expected


def test_texts_of_an_array_never_run_together():
    assert not matches('f : ("*ab*", "a?b*")', {"f": ["a", "b"]})
    assert not matches('f regex "a.b"', {"f": ["a", "b"]})


class TestCategory:
    def test_is_any_element_of_event_category_by_either_key(self):
        query = compile_query("process where true")
        assert query.matches({"event": {"category": "process"}})
        assert query.matches({"event": {"category": ["file", "process"]}})
        assert query.matches({"event.category": ["process"]})
        assert not query.matches({"event": {"category": "Process"}})
        assert not query.matches({})

    def test_any_takes_all(self):
        assert compile_query("any where true").matches({})


class TestChecks:
    @pytest.mark.parametrize(
        ("condition", "message"),
        [
            ('"x"', "true or false"),
            ("1", "true or false"),
            ("null", "true or false"),
            ('not "x"', "true or false"),
            ("a and length(b)", "true or false"),
            ("a == b", "another field"),
            ("length(a) > length(b)", "another field"),
            ("a in (1, b)", "constants"),
            ("a > true", "neither more nor less"),
            ("length(a, b)", "takes 1 arguments"),
            ("substring(a)", "2 or 3"),
            ("concat()", "1 or more"),
            ("length(1)", "argument 1 of length"),
            ('startsWith("x", 1)', "argument 2 of startsWith"),
            ("lenght(a) > 1", "did you mean length"),
            ("length~(a) > 1", "no form with ~"),
            ('add("x", 1) == 1', "a number"),
            ('"x" + 1 == 1', "a number"),
            ('1 : "x"', "a string"),
            ("-true == 1", "a number"),
            ('cidrMatch(a, "10.0.0.300/8")', "10.0.0.0/8"),
            ("cidrMatch(a, b)", "constant"),
            ('a regex "(x"', r"never closed, at character 3"),
            ('a regex "x&y"', "not supported"),
        ],
    )
    def test_what_means_nothing_is_refused(self, condition, message):
        with pytest.raises(RuleSyntaxError, match=message) as caught:
            compile_query(f"any where {condition}")
        assert caught.value.column > 10

    def test_a_misspelt_field_is_refused_with_a_suggestion(self):
        with pytest.raises(RuleSyntaxError, match=r"did you mean process\.args"):
            compile_query('any where process.arsg == "x"', schema=DEFAULT_SCHEMA)

    def test_an_optional_field_may_be_unknown(self):
        query = compile_query('any where ?process.arsg == "x"', schema=DEFAULT_SCHEMA)
        assert query.warnings == ()

    def test_a_field_of_ecs_that_is_not_ours_is_a_warning(self):
        query = compile_query(
            'any where file.path == "x" or process.args == "x"', schema=DEFAULT_SCHEMA
        )
        (warning,) = query.warnings
        assert warning.startswith("file.path ")
        assert query.inactive_reason is None

    def test_types_of_known_fields_are_checked(self):
        for condition in ("process.args", "process.args_count", "not process.pid"):
            with pytest.raises(RuleSyntaxError, match="true or false"):
                compile_query(f"any where {condition}", schema=DEFAULT_SCHEMA)
        compile_query("any where process.interactive", schema=DEFAULT_SCHEMA)

    def test_without_a_schema_any_field_goes(self):
        assert compile_query('any where nobody.knows == "x"').fields == {"nobody.knows"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("process where true", None),
        ("any where true", None),
        ("file where true", "needs file events, which this sensor does not have"),
        (
            'any where event.category in ("file", "network") and true',
            "needs file or network events, which this sensor does not have",
        ),
        ('any where event.category == "file" or process.args == "x"', None),
        (
            'process where event.action == "fork"',
            "needs event.action fork, which no event of this sensor has",
        ),
        ('process where event.action in ("fork", "exec")', None),
        ('process where not event.type == "end"', None),
        ('process where event.type != "start"', "its condition is never true"),
        ("process where false", "its condition is never true"),
        (
            "process where true | head 3",
            "| head needs an end of the events, which only a replay has",
        ),
    ],
)
def test_says_why_a_query_can_never_fire(text, reason):
    query = compile_query(text)
    assert query.inactive_reason == reason
    assert query.replay_only == ("head" in text)
