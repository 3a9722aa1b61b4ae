"""Wildcards and Lucene's regular expressions: what they match, and that the time stays linear."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import glob

from sensor.errors import RuleSyntaxError
from sensor.rules import compile_query
from sensor.rules.lucene import translate
from sensor.rules.patterns import Globs, Regexes, fold

texts = st.text("aAbB*?é\n\0\udcff", max_size=12)


@given(st.lists(st.text("aAbB*?é", max_size=8), min_size=1, max_size=4), texts, st.booleans())
def test_globs_match_what_their_meaning_says(patterns, text, insensitive):
    expected = any(glob(pattern, text, insensitive=insensitive) for pattern in patterns)
    assert Globs(patterns, insensitive=insensitive).test()(text) is expected


@given(st.text())
def test_folding_changes_ascii_letters_only(text):
    folded = fold(text)
    assert [c for c in folded if not "a" <= c <= "z"] == [
        c for c in text if not ("a" <= c <= "z" or "A" <= c <= "Z")
    ]
    assert folded == "".join(c.lower() if c.isascii() else c for c in text)


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("abc", ["abc"], ["abcd", "xabc", "abc\n", "ABC"]),
        ("a.c", ["abc", "a\nc", "aéc", "a\U0001f600c"], ["ac", "abbc"]),
        ("ab?c", ["ac", "abc"], ["abbc"]),
        ("ab+?", ["a", "ab", "abbb"], []),  # an option of a repetition, nothing lazy about it
        ("ab*", ["a", "abbb"], ["b"]),
        ("a**", ["", "aa"], ["b"]),
        ("a{2}", ["aa"], ["a", "aaa"]),
        ("a{2,}", ["aa", "aaaa"], ["a"]),
        ("a{1,2}", ["a", "aa"], ["", "aaa"]),
        ("a{2}{2}", ["aaaa"], ["aa", "aaa"]),
        ("ab|cd", ["ab", "cd"], ["abd", "acd"]),
        ("(a|b)c", ["ac", "bc"], ["c", "abc"]),
        ("a()b", ["ab"], ["a()b"]),
        ("[abc]", ["a", "c"], ["d", "ab"]),
        ("[a-c]", ["b"], ["d", "-"]),
        ("[^a-c]", ["d", "\n"], ["a", ""]),
        ("[-a]", ["-", "a"], ["b"]),
        (r"[\]\-x]", ["]", "-", "x"], ["\\", "y"]),
        ("[.*]", [".", "*"], ["a"]),
        (r"\d\w\s", ["1_ ", "0a\n"], ["a1 ", "1é ", "12\v"]),
        (r"\D\W\S", ["a-b", "é é"], ["1-b", "a_b", "a- "]),
        (r"[\d.]+", ["1.2.3"], ["1,2"]),
        ("^a$", ["^a$"], ["a"]),
        (r"a\.b", ["a.b"], ["axb"]),
        (r"a\\b", [r"a\b"], ["a\\\\b"]),
        (r"\~\&\<\@\#\"", ['~&<@#"'], []),
        ('"a.*"', ["a.*"], ["abc"]),
        ('x""y', ["xy"], ['x""y']),
        ("a@", ["a", "abc\n"], ["ba"]),
        ("a#?", ["a"], ["a#"]),
        ("a]b}c-d", ["a]b}c-d"], []),
        ("é+", ["éé"], ["É"]),
        ("", [""], ["a"]),
    ],
)
def test_regexes_mean_what_lucene_means(pattern, matching, other):
    test = Regexes([pattern], insensitive=False).test()
    assert [text for text in [*matching, *other] if test(text)] == matching


@pytest.mark.parametrize(
    ("pattern", "matching", "other"),
    [
        ("aB", ["ab", "AB"], []),
        ("[ab]x", ["AX", "bx"], ["cx"]),
        ("[a-f]", ["a"], ["A"]),  # as in Lucene, ranges are not folded
        ("[^a]", ["b"], ["a", "A"]),
        ("k", ["k", "K"], ["\u212a"]),
        ("é", ["é"], ["É"]),
        ('"ab"', ["AB"], []),
    ],
)
def test_insensitive_regexes_fold_single_ascii_letters(pattern, matching, other):
    test = Regexes([pattern], insensitive=True).test()
    assert [text for text in [*matching, *other] if test(text)] == matching


BROKEN = [
    *[
        "a&b",
        "~a",
        "<1-5>",
        "(a",
        "a)",
        "[a",
        "[]",
        "[^]",
        "[z-a]",
        "[a-]",
        "\\p",
        "[\\S]",
        "a{",
        "a{x}",
    ],
    *["a{2,1}", "a{9999}", "*a", "a|+", "a||b", "|a", "(|a)", '"a', "\\", "a{1001}", "(" * 100],
    *["((a{100}){100}){100}", "(a{1000}){1000}"],
]


@pytest.mark.parametrize("pattern", BROKEN)
def test_what_cannot_be_run_as_lucene_would_is_refused(pattern):
    with pytest.raises(ValueError, match=r"."):
        Regexes([pattern], insensitive=False)
    quoted = pattern.replace("\\", "\\\\").replace('"', '\\"')
    with pytest.raises(RuleSyntaxError) as caught:
        compile_query(f'any where f regex "{quoted}"')
    assert caught.value.column == 13


@given(st.text('ab|()[]^-{}1,.*+?~&<>@#"\\dwsé', max_size=12), st.booleans())
def test_any_pattern_is_run_or_refused(pattern, insensitive):
    try:
        test = Regexes([pattern], insensitive=insensitive).test()
    except ValueError:
        return
    assert test("a") in (True, False)


@given(st.text('ab|()[]{}1,.*+?@"-', max_size=12), st.text("aAbB", max_size=6), st.booleans())
def test_what_a_regex_needs_is_in_every_match(pattern, text, insensitive):
    try:
        regex = translate(pattern, insensitive=insensitive)
        test = Regexes([pattern], insensitive=insensitive).test()
    except ValueError:
        return
    if not test(text):
        return
    for strings in (*regex.all_needs(), *regex.wide):
        assert any(fold(string) in fold(text) for string in strings)
    assert regex.starts is None or any(fold(text).startswith(fold(s)) for s in regex.starts)
    assert regex.stops is None or any(fold(text).endswith(fold(s)) for s in regex.stops)
    if regex.exact is not None:
        assert fold(regex.exact) == fold(text)


def test_simple_regexes_agree_with_python():
    pattern = "(ab|a[bc]+)?x{2,3}.*"
    test = Regexes([pattern], insensitive=False).test()
    for text in ["xx", "abxx", "abbcxxx\n", "axx", "abx", "xxxx", ""]:
        assert test(text) is (re.fullmatch(pattern, text, re.DOTALL) is not None)


def test_bytes_that_are_no_utf8_are_one_character_each():
    test = Regexes(["a..b", ".*evil.*"], insensitive=False).test()
    assert test("a\udcff\udcfeb")
    assert test("\udcffevil\udc80")


# Each pattern with a text, by its length, that is the worst for it in one engine or another.
WORST = [
    ("like", "*a*a*a*a*a*a*b", lambda n: "a" * n),
    ("like", "*a?a*a?a*b*", lambda n: "a" * n),
    ("like", "?*?*?*?*x", lambda n: "y" * n),
    ("like", "*aaaaaaaaaaaaaaab*", lambda n: "a" * n),
    ("like", "*" + "ab" * 20 + "c*", lambda n: "ab" * (n // 2)),
    (":", "*A?C*", lambda n: "Ab" * (n // 2)),
    (":", "*k*x", lambda n: "\u212a" * n),
    ("regex", "(a+)+b", lambda n: "b" + "a" * n),
    ("regex", "(a|a)*b", lambda n: "b" + "a" * n),
    ("regex", "(.*a){12}", lambda n: "a" * 11 + "b" * n),
    ("regex", "(a?){30}a{30}", lambda n: "a" * n),
    ("regex", ".*(x+x+)+y", lambda n: "y" + "x" * n),
    ("regex~", "(([a-z])+.)+[A-Z]([a-z])+", lambda n: "a" * n),
    ("regex", ".*a.{20}", lambda n: "a" * (n // 2) + "b" * (n // 2)),
]


@pytest.mark.parametrize(("operator", "pattern", "text"), WORST)
def test_time_grows_with_the_length_and_not_with_its_square(operator, pattern, text):
    """Four times the length takes about four times the time, where a square would take sixteen."""
    query = compile_query(f'any where process.args {operator} "{pattern}"')

    def least(length):
        document = {"process": {"args": [text(length)]}}
        spent = []
        for _ in range(3):
            start = time.process_time()
            query.matches(document)
            spent.append(time.process_time() - start)
        return min(spent)

    least(1000)
    assert least(1_000_000) < 10 * least(250_000) + 0.005
