"""An attacker's text is one printable, bounded line, and a shell would read an argv back."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sensor.alerts.escape import command_line, elide, shell_quote, visible

_any_text = st.text(alphabet=st.characters(codec=None), max_size=200)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain größe 日本", "plain größe 日本"),
        ("a\nb\tc\rd", "a\\nb\\tc\\rd"),
        ("\x1b[31m\x07\x9b\x7f", "\\x1b[31m\\x07\\u009b\\x7f"),
        ("\u202eevil\u2066", "\\u202eevil\\u2066"),
        ("\udcff\ud800", "\\xff\\ud800"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_visible_escapes_what_cannot_be_seen(text, expected):
    assert visible(text) == expected


@given(_any_text, st.integers(0, 100))
def test_visible_is_always_printable_and_bounded(text, limit):
    shown = visible(text, limit)

    assert shown.isprintable()
    assert len(shown) <= 10 * (limit + 30)


def test_elide_counts_the_bytes_it_leaves_out():
    assert elide("abcdef", 6) == "abcdef"
    assert elide("ab" + "ü" * 100 + "cd", 4) == "ab[… 200 bytes …]cd"


def test_elide_leaves_what_the_mark_would_not_make_shorter():
    assert elide("x" * 20, 8) == "x" * 20
    assert elide("x" * 24, 8) == "xxxx[… 16 bytes …]xxxx"
    assert all(len(elide("x" * length, 8)) <= min(length, 8 + 15) for length in range(200))


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("grep", "grep"),
        ("", "''"),
        ("two words", "'two words'"),
        ("it's", "'it'\"'\"'s'"),
        ("$(id)", "'$(id)'"),
        ("a\nb", "$'a\\nb'"),
        ("a'\\\x1b", "$'a\\'\\\\\\x1b'"),
    ],
)
def test_shell_quote(argument, expected):
    assert shell_quote(argument) == expected


@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(max_size=20).map(lambda data: data.replace(b"\0", b"")), max_size=5))
def test_a_shell_reads_the_command_line_back_as_the_same_argv(argv):
    args = [argument.decode("utf-8", "surrogateescape") for argument in argv]
    script = f"printf '%s\\0' {command_line(args)}" if args else "true"

    done = subprocess.run(
        ["bash", "-c", script], env={"LC_ALL": "C.UTF-8"}, capture_output=True, check=True
    )

    assert done.stdout == b"".join(argument + b"\0" for argument in argv)


def test_padding_does_not_hide_what_comes_after_it():
    args = ["grep", "A" * 81_920, "aws_secret_access_key", "/srv"]

    line = command_line(args, 256)

    assert line.startswith("grep ")
    assert line.endswith(" aws_secret_access_key /srv")
    assert "[… 81856 bytes …]" in line
    assert len(line) < 400


def test_many_arguments_lose_their_middle():
    args = ["grep", *["x"] * 100_000, "aws_secret_access_key"]

    line = command_line(args, 256)

    assert line.startswith("grep x x")
    assert line.endswith("x aws_secret_access_key")
    assert " arguments, " in line
    assert len(line) < 400


@given(st.lists(_any_text, max_size=30), st.integers(16, 300))
def test_command_line_is_always_printable_and_bounded(args, limit):
    line = command_line(args, limit)

    assert line.isprintable()
    assert len(line) <= 24 * limit + 200
