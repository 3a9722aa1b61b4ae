"""Random queries and documents: nothing raises but RuleSyntaxError, and all ways to evaluate agree."""

from __future__ import annotations

import contextlib

from hypothesis import given, settings
from hypothesis import strategies as st
from query_strategies import CONDITIONS, DOCUMENTS, QUERIES

from sensor.errors import RuleSyntaxError
from sensor.rules import compile_ast, compile_query
from sensor.rules.parse import parse_query
from sensor.rules.printer import expression, to_eql
from sensor.rules.schema import DEFAULT_SCHEMA

WORDS = "any process where and or not in in~ like like~ regex regex~ sequence by with maxspan runs until"
SIGNS = ": == != < <= > >= + - * / % ( ) [ ![ ] , . | = ? ~ ' ` // /* */ \\ 1 1.5 3s true false null a b.c"
FRAGMENTS = st.sampled_from(
    [
        *WORDS.split(),
        *SIGNS.split(),
        '"',
        '"""',
        '"x"',
        '"*"',
        "head",
        "length(",
        "\n",
        "\0",
        "\ud800",
    ]
)


@given(QUERIES)
@settings(max_examples=100)
def test_printing_and_parsing_is_identity(tree):
    assert parse_query(to_eql(tree)) == tree


@given(st.lists(FRAGMENTS, max_size=30).map(" ".join) | st.text(max_size=80))
@settings(max_examples=150)
def test_any_text_parses_or_is_a_syntax_error(text):
    for schema in (None, DEFAULT_SCHEMA):
        with contextlib.suppress(RuleSyntaxError):
            compile_query(text, schema=schema)


@given(QUERIES, st.lists(DOCUMENTS, max_size=4))
@settings(max_examples=150)
def test_what_compiles_evaluates_any_document(tree, events):
    try:
        query = compile_ast(tree)
    except RuleSyntaxError:
        return
    if query.is_sequence:
        state = query.new_state(max_keys=2, max_open=3)
        for number, event in enumerate(events):
            for found in state.feed(event, number * 10**8):
                assert all(document in events for document in found)
        assert state.open <= 3
    else:
        assert all(type(query.matches(event)) is bool for event in events)


@given(CONDITIONS, DOCUMENTS)
@settings(max_examples=100)
def test_logic_is_two_valued(condition, event):
    """A condition or its negation is true of any document, and never both."""
    text = expression(condition)
    with contextlib.suppress(RuleSyntaxError):
        positive = compile_query(f"any where {text}").matches(event)
        negative = compile_query(f"any where not ({text})").matches(event)
        assert positive != negative
