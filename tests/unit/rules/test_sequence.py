"""Sequences: order, keys, spans, runs, until, missing events, and the bounds of the state."""

from __future__ import annotations

import pytest

from sensor.errors import RuleSyntaxError
from sensor.rules import compile_query

S = 1_000_000_000


def event(name, key="k", **fields):
    return {
        "event": {"category": ["process"]},
        "process": {"name": name, "parent": {"entity_id": key}},
        **fields,
    }


def run(text, events, **bounds):
    """Feed (seconds, document) pairs; give the completed sequences as lists of names."""
    state = compile_query(text).new_state(**bounds)
    found = []
    for seconds, document in events:
        completed = state.feed(document, int(seconds * S))
        found += ["".join(d["process"]["name"] for d in documents) for documents in completed]
    return found


def at_each_second(names, key="k"):
    return [(second, event(name, key)) for second, name in enumerate(names, 1)]


AB = """
sequence by process.parent.entity_id with maxspan=3s
  [process where process.name == "a"]
  [process where process.name == "b"]
"""
ABC = """
sequence with maxspan=10s
  [process where process.name == "a"]
  [process where process.name == "b"]
  [process where process.name == "c"]
"""


class TestOrderAndSpan:
    def test_events_in_order_complete_a_sequence(self):
        assert run(AB, at_each_second("ab")) == ["ab"]

    def test_events_in_the_wrong_order_do_not(self):
        assert run(AB, at_each_second("ba")) == []

    def test_other_events_between_do_not_matter(self):
        assert run(AB, at_each_second("axb")) == ["ab"]

    def test_an_event_completes_one_sequence_only(self):
        assert run(AB, at_each_second("abb")) == ["ab"]

    def test_the_latest_event_is_continued(self):
        state = compile_query(AB).new_state()
        first, second, last = event("a", mark=1), event("a", mark=2), event("b")
        assert state.feed(first, 1 * S) == []
        assert state.feed(second, 2 * S) == []
        assert state.feed(last, 3 * S) == [(second, last)]

    def test_the_span_includes_its_end(self):
        assert run(AB, [(1, event("a")), (4, event("b"))]) == ["ab"]

    def test_past_the_span_nothing_completes(self):
        assert run(AB, [(1, event("a")), (4.001, event("b"))]) == []

    def test_the_span_counts_from_the_first_event(self):
        events = [(1, event("a")), (9, event("b")), (11.5, event("c"))]
        assert run(ABC, events) == []

    def test_one_event_takes_one_place_only(self):
        text = """sequence with maxspan=1m
          [process where process.name : "?"] [process where process.name : "*"]"""
        assert run(text, at_each_second("abc")) == ["ab", "bc"]


class TestKeys:
    def test_other_keys_are_other_sequences(self):
        assert run(AB, [(1, event("a", "x")), (2, event("b", "y"))]) == []

    def test_keys_run_side_by_side(self):
        events = [(1, event("a", "x")), (1, event("a", "y")), (2, event("b", "x"))]
        assert run(AB, [*events, (2, event("b", "y"))]) == ["ab", "ab"]

    def test_a_missing_key_takes_no_part(self):
        assert run(AB, [(1, event("a", None)), (2, event("b", None))]) == []

    def test_an_optional_key_may_be_missing(self):
        text = AB.replace("by process", "by ?process")
        assert run(text, [(1, event("a", None)), (2, event("b", None))]) == ["ab"]
        assert run(text, [(1, event("a", None)), (2, event("b", "x"))]) == []

    def test_each_event_may_have_its_own_key(self):
        text = """sequence with maxspan=3s
          [process where process.name == "a"] by file.name
          [process where true] by process.name"""
        first = event("a", file={"name": "b"})
        assert run(text, [(1, first), (2, event("c"))]) == []
        assert run(text, [(1, first), (2, event("b"))]) == ["ab"]

    def test_each_element_of_an_array_is_a_key(self):
        text = """sequence by process.args with maxspan=3s
          [process where process.name == "a"] [process where process.name == "b"]"""
        first, second = event("a"), event("b")
        first["process"]["args"] = ["1", "2", "3"]
        second["process"]["args"] = ["2", "3"]
        assert run(text, [(1, first), (2, second)]) == ["ab"]

    def test_numbers_and_strings_are_the_same_key(self):
        assert run(AB, [(1, event("a", 7)), (2, event("b", "7"))]) == ["ab"]


class TestRuns:
    text = 'sequence with maxspan=5s [process where process.name == "a"] with runs=3'

    def test_the_event_must_come_so_many_times(self):
        assert run(self.text, at_each_second("aa")) == []
        assert run(self.text, at_each_second("aaa")) == ["aaa"]

    def test_each_further_event_completes_a_further_run(self):
        assert run(self.text, at_each_second("aaaa")) == ["aaa", "aaa"]

    def test_runs_obey_the_span(self):
        assert run(self.text, [(1, event("a")), (5, event("a")), (7, event("a"))]) == []


class TestUntil:
    text = AB + ' until [process where process.name == "x"]'

    def test_until_ends_what_is_open(self):
        assert run(self.text, at_each_second("axb")) == []

    def test_until_ends_its_own_key_only(self):
        events = [(1, event("a", "k")), (2, event("x", "l")), (3, event("b", "k"))]
        assert run(self.text, events) == ["ab"]

    def test_the_event_that_completes_may_be_the_one_that_ends(self):
        text = AB + ' until [process where process.name == "b"]'
        assert run(text, at_each_second("ab")) == ["ab"]


class TestMissingEvents:
    def terms(self, *names):
        terms = [f'{name[:-1]}[process where process.name == "{name[-1]}"]' for name in names]
        return "sequence with maxspan=4s " + " ".join(terms)

    def test_between(self):
        text = self.terms("a", "!x", "b")
        assert run(text, at_each_second("ab")) == ["ab"]
        assert run(text, at_each_second("axb")) == []
        assert run(text, at_each_second("axab")) == ["ab"]

    def test_before(self):
        text = self.terms("!x", "a", "b")
        assert run(text, at_each_second("ab")) == ["ab"]
        assert run(text, at_each_second("xab")) == []
        assert run(text, at_each_second("x--ab")) == []
        assert run(text, at_each_second("x---ab")) == ["ab"]
        assert run(text, at_each_second("axb")) == ["ab"]

    def test_after(self):
        text = self.terms("a", "b", "!x")
        assert run(text, at_each_second("ab")) == []
        assert run(text, at_each_second("ab----")) == ["ab"]
        assert run(text, at_each_second("abx---")) == []
        assert run(text, at_each_second("ab---x")) == ["ab"]

    def test_after_completes_without_another_event(self):
        state = compile_query(self.terms("a", "b", "!x")).new_state()
        assert state.feed(event("a"), 1 * S) == []
        assert state.feed(event("b"), 2 * S) == []
        assert state.expire(5 * S) == []
        assert [len(documents) for documents in state.expire(5 * S + 1)] == [2]
        assert state.expire(60 * S) == []
        assert state.open == 0

    def test_a_single_event_followed_by_nothing(self):
        assert run(self.terms("a", "!x"), at_each_second("a-----")) == ["a"]
        assert run(self.terms("a", "!x"), at_each_second("a-x---")) == []

    def test_around(self):
        text = self.terms("!x", "a", "!x")
        assert run(text, at_each_second("a")) == ["a"]
        assert run(text, at_each_second("xa-x")) == []
        assert run(text, at_each_second("xa---x")) == ["a"]


class TestBounds:
    def test_keys_are_bounded_and_the_oldest_goes(self):
        state = compile_query(AB).new_state(max_keys=2)
        for number in range(5):
            assert state.feed(event("a", f"k{number}"), S + number) == []
        assert state.evicted == 3
        assert state.open == 2
        assert state.feed(event("b", "k0"), 2 * S) == []
        assert len(state.feed(event("b", "k4"), 2 * S)) == 1

    def test_open_sequences_are_bounded(self):
        text = 'sequence with maxspan=1h [process where process.name == "a"] ![process where false]'
        state = compile_query(text).new_state(max_open=3)
        for number in range(10):
            state.feed(event("a"), S + number)
        assert state.open <= 3
        assert state.open + state.evicted == 10

    def test_what_expired_is_not_counted_as_lost(self):
        state = compile_query(AB).new_state(max_keys=2)
        for number in range(5):
            state.feed(event("a", f"k{number}"), number * 10 * S)
        assert state.evicted == 0
        assert state.open == 1

    def test_dropped_sequences_leave_nothing_behind(self):
        text = """sequence by process.parent.entity_id with maxspan=1h
          [process where process.name == "a"] ![process where process.name == "x"]"""
        state = compile_query(text).new_state(max_open=8)
        for number in range(1000):
            state.feed(event("a"), number)
            state.feed(event("x"), number)
        assert (state.open, state.evicted) == (0, 0)
        assert len(state._ripening) <= 16


class TestQueries:
    def test_a_sequence_has_no_single_match(self):
        query = compile_query(AB)
        assert query.is_sequence
        with pytest.raises(TypeError):
            query.matches(event("a"))

    def test_a_single_event_has_no_state(self):
        with pytest.raises(TypeError):
            compile_query("any where true").new_state()

    def test_without_maxspan_it_runs_in_a_replay_only(self):
        text = "sequence [process where true] [process where true]"
        query = compile_query(text)
        assert query.replay_only
        assert "maxspan" in query.inactive_reason
        assert run(text, at_each_second("ab")) == ["ab"]

    def test_with_file_events_it_is_inactive(self):
        text = "sequence with maxspan=1s [file where true] [process where true]"
        query = compile_query(text)
        assert query.inactive_reason == "needs file events, which this sensor does not have"
        assert not query.replay_only

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("sequence [any where true]", "two events"),
            ("sequence [any where true] by a [any where true]", "same number"),
            ("sequence [any where true] ![any where true]", "maxspan"),
            ("sequence with maxspan=1s ![any where true] ![any where true]", "not missing"),
            ("sequence with maxspan=1 [any where true] [any where true]", "unit"),
            ("sequence with maxspan=1w [any where true] [any where true]", "unit"),
            ("sequence with maxspan=0s [any where true] [any where true]", "range"),
            ("sequence [any where true] with runs=0", "runs"),
            ("sequence [any where true] with runs=1000", "runs"),
            ("sequence [any where true] with rums=2", "runs"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, text, message):
        with pytest.raises(RuleSyntaxError, match=message):
            compile_query(text)
