"""The index: exactly the rules that match, whatever they ask for."""

from __future__ import annotations

import contextlib

import pytest
from elastic import active_queries, execs_for, needs_rules
from hypothesis import given, settings
from hypothesis import strategies as st
from query_strategies import DOCUMENTS, QUERIES

from sensor.errors import RuleSyntaxError
from sensor.rules import compile_ast, compile_query
from sensor.rules import index as index_module
from sensor.rules.index import RuleIndex


def candidates(texts, document):
    return list(RuleIndex([compile_query(text) for text in texts]).candidates(document))


@given(st.lists(QUERIES, min_size=1, max_size=4), st.lists(DOCUMENTS, min_size=1, max_size=4))
@settings(max_examples=100)
def test_single_events_are_candidates_exactly_where_they_match(trees, events):
    compiled = []
    for tree in trees:
        with contextlib.suppress(RuleSyntaxError):
            compiled.append(compile_ast(tree))
    index = RuleIndex(compiled)
    for event in events:
        found = set(index.candidates(event))
        for position, query in enumerate(compiled):
            if not query.is_sequence:
                assert (position in found) == query.matches(event)


@given(QUERIES, st.lists(DOCUMENTS, max_size=6))
@settings(max_examples=150)
def test_a_sequence_misses_nothing_when_fed_its_candidates_only(tree, events):
    try:
        query = compile_ast(tree)
    except RuleSyntaxError:
        return
    if not query.is_sequence:
        return
    index, some, all_of_them = RuleIndex([query]), query.new_state(), query.new_state()
    found, expected = [], []
    for number, event in enumerate(events):
        if index.candidates(event):
            found += some.feed(event, number * 10**8)
        expected += all_of_them.feed(event, number * 10**8)
    end = 10**15
    assert sorted(map(len, found + some.expire(end))) == sorted(
        map(len, expected + all_of_them.expire(end))
    )


def test_finds_names_arguments_and_what_needs_neither():
    texts = [
        'process where process.name == "grep"',
        'process where process.args in ("-r", "-R")',
        "process where process.parent.interactive",
        'process where process.name : "GREP"',
        'process where not process.name == "grep"',
    ]
    event = {"category": ["process"]}
    assert candidates(texts, {"event": event, "process": {"name": ["x", "grep"]}}) == [0, 3]
    assert candidates(texts, {"event": event, "process": {"args": ["a", "-R"]}}) == [1, 4]
    parent = {"parent": {"interactive": True}}
    assert candidates(texts, {"event": event, "process": parent}) == [2, 4]
    assert candidates(texts, {"event": {"category": "file"}, "process": {"name": "grep"}}) == []


@pytest.mark.parametrize("args", [["x", 5], [["5"]], "5", 5, {"5": 1}, None, ["a\0b", "5"]])
def test_odd_arguments_are_found_as_the_query_finds_them(args):
    text = 'any where process.args == "5"'
    document = {"process": {"args": args}}
    assert bool(candidates([text], document)) == compile_query(text).matches(document)


def test_many_queries_are_all_found():
    texts = [f'any where process.args == "{number}"' for number in range(100)]
    document = {"process": {"args": [str(number) for number in range(0, 100, 3)]}}
    assert candidates(texts, document) == list(range(0, 100, 3))


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(index_module, "_MAX_REMEMBERED", 8)
    index = RuleIndex([compile_query(f'any where process.args == "{n}"') for n in range(6)])
    for mask in range(64):
        args = [str(n) for n in range(6) if mask >> n & 1]
        assert list(index.candidates({"process": {"args": args}})) == [int(arg) for arg in args]
    assert len(index._remembered) <= 8


def test_if_evaluation_raises_all_are_candidates():
    index = RuleIndex([compile_query("any where a"), compile_query("any where b")])
    assert list(index.candidates(None)) == [0, 1]


def test_without_queries_there_are_no_candidates():
    assert list(RuleIndex([]).candidates({})) == []


class TestElasticsRules:
    pytestmark = needs_rules

    def test_the_index_agrees_with_each_rule(self):
        queries = [query for _, query in active_queries()]
        index = RuleIndex(queries)
        fired = set()
        for query in queries:
            for document in execs_for(query, 60):
                found = set(index.candidates(document))
                single = {
                    position
                    for position, other in enumerate(queries)
                    if not other.is_sequence and other.matches(document)
                }
                assert {p for p in found if not queries[p].is_sequence} == single
                fired |= single
        assert len(fired) >= 30
