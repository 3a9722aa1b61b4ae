"""EQL's functions and arithmetic: results, missing values, and values that make no sense."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.rules import compile_query
from sensor.rules.functions import FUNCTIONS, OPERATORS


def equals(expression, value):
    """Ask whether an expression has a value; None stands for null."""
    literal = "null" if value is None else json.dumps(value)
    return compile_query(f"any where {expression} == {literal}").matches({})


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("add(1, 2)", 3),
        ("add(1, 2.5)", 3.5),
        ("subtract(1, 2)", -1),
        ("multiply(3, 4)", 12),
        ("divide(7, 2)", 3),
        ("divide(-7, 2)", -3),
        ("divide(7, 2.0)", 3.5),
        ("modulo(7, 4)", 3),
        ("modulo(-7, 4)", -3),
        ("modulo(7.5, 2)", 1.5),
        ("divide(1, 0)", None),
        ("divide(1.0, 0)", None),
        ("modulo(1, 0)", None),
        ("add(1, null)", None),
        ("add(9223372036854775807, 1)", None),
        ("multiply(9223372036854775807, 9223372036854775807)", None),
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("10 - 4 - 3", 3),
        ("-(1 + 2)", -3),
        ("7 % 4 / 2", 1),
    ],
)
def test_arithmetic(expression, value):
    assert equals(expression, value)


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ('startsWith("system32", "sys")', True),
        ('startsWith("system32", "SYS")', False),
        ('startsWith~("system32", "SYS")', True),
        ('startsWith("system32", "")', True),
        ('endsWith("system32", "32")', True),
        ('endsWith("systemA", "a")', False),
        ('endsWith~("systemA", "a")', True),
        ('stringContains("system32", "stem")', True),
        ('stringContains("system32", "STEM")', False),
        ('stringContains~("system32", "STEM")', True),
        ('stringContains("system32", "")', False),
        ('stringContains("", "")', False),
        ('length("abc")', 3),
        ('length("")', 0),
        ("length(null)", None),
        ('concat("a", 1, true, "b")', "a1trueb"),
        ('concat("a", null)', None),
        ('concat("a")', "a"),
        ('indexOf("subdomain.example", ".")', 9),
        ('indexOf("abcabc", "c", 3)', 5),
        ('indexOf("abc", "C")', None),
        ('indexOf~("abc", "C")', 2),
        ('indexOf("abc", "x")', None),
        ('indexOf("abc", "a", -5)', 0),
        ('indexOf("abc", "")', 0),
        ('indexOf("abc", "", 9)', 3),
        ('substring("start.exe", 6)', "exe"),
        ('substring("start.exe", 0, 5)', "start"),
        ('substring("start.exe", -4)', ".exe"),
        ('substring("start.exe", -4, -1)', ".ex"),
        ('substring("start.exe", 5, 2)', ""),
        ('substring("abc", -99, 99)', "abc"),
        ('substring("abc", null)', None),
        ('between("welcome to event query language", " ", " ")', "to"),
        ('between("welcome to event query language", " ", " ", true)', "to event query"),
        ('between("system event log", "S", "e")', ""),
        ('between~("system event log", "S", "e")', "yst"),
        ('between("abc", "x", "c")', ""),
        ('between("abc", "a", "x")', ""),
        ('between("abc", "", "c")', "abc"),
        ('between("ba", "a", "b", true)', ""),
        ('between(null, "a", "b")', None),
        ("string(12)", "12"),
        ("length(string(12))", 2),
        ("string(1.5)", "1.5"),
        ("string(true)", "true"),
        ("string(null)", None),
        ('number("1337")', 1337),
        ('number("-4")', -4),
        ('number("42.5")', 42.5),
        ('number("1e3")', 1000.0),
        ('number("deadbeef", 16)', 3735928559),
        ('number("0xdeadbeef")', 3735928559),
        ('number("0xff", 16)', 255),
        ('number("-0xff", 16)', -255),
        ('number("1010", 2)', 10),
        ('number("12", null)', 12),
        ('number("12", 1)', None),
        ('number("12", 99)', None),
        ('number("1_000")', None),
        ('number(" 1")', None),
        ('number("zz", 16)', None),
        ('number("١٢")', None),
        ('number("nan")', None),
        ('number("inf")', None),
        ('number("")', None),
        ("number(null)", None),
    ],
)
def test_strings_and_conversions(expression, value):
    assert equals(expression, value)


@pytest.mark.parametrize(
    ("address", "blocks", "expected"),
    [
        ("10.6.48.157", '"10.6.48.157/8"', True),
        ("11.6.48.157", '"10.0.0.0/8"', False),
        ("11.6.48.157", '"10.0.0.0/8", "11.0.0.0/8"', True),
        ("10.6.48.157", '"0.0.0.0/0"', True),
        ("2001:db8::1", '"2001:db8::/32"', True),
        ("2001:db8::1", '"10.0.0.0/8"', False),
        ("::ffff:10.1.2.3", '"10.0.0.0/8"', True),
        ("no address", '"0.0.0.0/0"', False),
        (["1.1.1.1", "10.0.0.1"], '"10.0.0.0/8"', True),
        (None, '"0.0.0.0/0"', False),
    ],
)
def test_addresses(address, blocks, expected):
    query = compile_query(f"any where cidrMatch(ip, {blocks})")
    assert query.matches({"ip": address}) is expected


def test_functions_take_fields_of_any_type_and_missing_ones():
    assert compile_query("any where length(n) == 2").matches({"n": 42})
    assert compile_query('any where startsWith(n, "4")').matches({"n": 42})
    assert compile_query("any where n + 1 == 43").matches({"n": 42})
    assert not compile_query("any where n + 1 == 43").matches({"n": "x"})
    assert not compile_query("any where add(n, 1) > 0").matches({})
    assert compile_query("any where add(n, 1) == null").matches({})


def test_a_function_of_two_arrays_looks_at_a_bounded_number_of_pairs():
    query = compile_query('any where concat(a, b) == "xy"')
    assert query.matches({"a": ["p", "x"], "b": ["y", "q"]})
    many = ["p"] * 100_000
    assert not query.matches({"a": many, "b": many})


def test_the_same_field_twice_is_the_same_element():
    query = compile_query('any where concat(a, a) == "xy"')
    assert not query.matches({"a": ["x", "y"]})


_any_value = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)


@given(
    st.sampled_from(sorted(FUNCTIONS)), st.lists(_any_value, min_size=4, max_size=4), st.booleans()
)
def test_no_function_raises_whatever_it_is_given(name, arguments, folded):
    function = FUNCTIONS[name]
    call = (function.insensitive if folded else None) or function.call
    result = call(*arguments[: len(function.parameters)])
    assert result is None or isinstance(result, str | int | float)


@given(st.sampled_from("+-*/%"), _any_value, _any_value)
def test_no_operator_raises_whatever_it_is_given(symbol, left, right):
    result = OPERATORS[symbol](left, right)
    assert result is None or isinstance(result, int | float)
