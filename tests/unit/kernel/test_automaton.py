"""The filter's automaton against the plain definition: does a literal occur in the folded text?"""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensor.kernel.automaton import Automaton, FilterTooLargeError, build, search_text
from sensor.kernel.layout import CLASSES, STATE_HIT, STATES_MAX

ALPHABET = b"abcgrep_/.\0A"


def folded(raw: bytes) -> bytes:
    return raw.lower().replace(b"/", b"\0")


bytes_of_alphabet = st.lists(st.sampled_from(ALPHABET), max_size=30).map(bytes)
literals = st.sets(bytes_of_alphabet.filter(bool), min_size=1, max_size=8)


@settings(max_examples=500, deadline=None)
@given(literals, bytes_of_alphabet, st.data())
def test_it_finds_what_occurs_and_nothing_else(
    needles: set[bytes], hay: bytes, data: st.DataObject
) -> None:
    if data.draw(st.booleans()):
        needle = data.draw(st.sampled_from(sorted(needles)))
        at = data.draw(st.integers(0, len(hay)))
        hay = hay[:at] + needle + hay[at:]
    expected = any(folded(needle) in folded(hay) for needle in needles)
    assert expected == build(needles).search(hay)


@pytest.mark.parametrize(
    ("filename", "resolved", "argv", "expected"),
    [
        (b"/usr/bin/grep", b"grep", b"grep\0x\0", True),
        (b"./lnk", b"grep", b"x\0", True),
        (b"grep", b"busybox", b"", True),
        (b"/bin/x", b"x", b"grep\0", True),
        (b"/bin/x", b"x", b"a\0grep\0b\0", True),
        (b"/bin/egrep", b"dash", b"egrep\0", False),
        (b"/bin/x", b"x", b"greps\0", False),
    ],
)
def test_a_whole_name_or_argument(
    filename: bytes, resolved: bytes, argv: bytes, expected: bool
) -> None:
    assert build([b"\0grep\0"]).search(search_text(filename, resolved, argv)) == expected


def test_a_hit_absorbs() -> None:
    automaton = build([b"ab"])
    row = automaton.transitions[STATE_HIT * CLASSES : (STATE_HIT + 1) * CLASSES]
    assert set(row) == {STATE_HIT}


def test_every_transition_stays_inside_the_table() -> None:
    automaton = build([b"abcd", b"bc", b"cab", b"\0d\0"])
    assert max(automaton.transitions) < automaton.states
    assert max(automaton.classes) < CLASSES


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(FilterTooLargeError, match="different bytes"):
        build([bytes(range(128, 250))])
    with pytest.raises(FilterTooLargeError, match="states"):
        build([b"x%06d" % n + b"a" * 20 for n in range(STATES_MAX // 10)])


@pytest.mark.parametrize("none", [[], [b""], [b"a", b""]])
def test_an_empty_literal_is_refused(none: list[bytes]) -> None:
    with pytest.raises(ValueError, match="literals"):
        build(none)


def test_it_is_plain_data() -> None:
    automaton = build([b"ab"])
    assert isinstance(automaton, Automaton)
    assert len(automaton.classes) == 256
