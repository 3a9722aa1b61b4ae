"""Wildcards and regular expressions, linear in the text whatever the text.

In: patterns of `like`, `:` and `regex`. Out: functions from one string to bool. Wildcards become plain
string searches; regular expressions are read as Lucene reads them and run by RE2, which is imported when
the first one is compiled. Neither ever backtracks.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeAlias

from sensor.rules import lucene

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Test: TypeAlias = "Callable[[str], bool]"

_SURROGATES = re.compile("[\ud800-\udfff]")


def fold(text: str) -> str:
    """Lower the case of ASCII letters only, as Lucene does: the Kelvin sign is not a k."""
    if text.isascii():
        return text.lower()
    return text.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


def compile_globs(patterns: Sequence[str], *, insensitive: bool) -> Test:
    """Make the test "matches one of the patterns". `*` is any run, `?` any one character."""
    shapes = Globs(patterns, insensitive=insensitive)
    exact, prefixes, suffixes = shapes.exact, shapes.prefixes, shapes.suffixes
    infixes, general, shortest = shapes.infixes, shapes.general, shapes.shortest

    def test(text: str) -> bool:
        if insensitive:
            text = fold(text)
        if (
            text in exact
            or (shortest is not None and len(text) >= shortest)
            or text.startswith(prefixes)
            or text.endswith(suffixes)
        ):
            return True
        for infix in infixes:
            if infix in text:
                return True
        return any(glob(text) for glob in general)

    return test


class Globs:
    """Patterns sorted by shape, the cheap shapes apart. All are folded where `insensitive`.

    `shortest` is the least length that matches on its own, from patterns like `*` and `?*`.
    """

    def __init__(self, patterns: Sequence[str], *, insensitive: bool) -> None:
        exact, prefixes, suffixes, infixes = set(), set(), set(), set()
        general: list[Test] = []
        self.shortest: int | None = None
        for pattern in dict.fromkeys(fold(p) if insensitive else p for p in patterns):
            bare = pattern.strip("*")
            inner = "*" in bare or "?" in bare
            if "*" not in pattern and "?" not in pattern:
                exact.add(pattern)
            elif not pattern.strip("*?") and "*" in pattern:
                least = pattern.count("?")
                self.shortest = least if self.shortest is None else min(least, self.shortest)
            elif inner:
                general.append(_compile_general(pattern))
            elif pattern[0] != "*":
                prefixes.add(bare)
            elif pattern[-1] != "*":
                suffixes.add(bare)
            else:
                infixes.add(bare)
        self.exact = frozenset(exact)
        self.prefixes = tuple(sorted(prefixes))
        self.suffixes = tuple(sorted(suffixes))
        self.infixes = tuple(sorted(infixes))
        self.general = tuple(general)


def _compile_general(pattern: str) -> Test:
    """Any pattern, by finding its pieces from left to right.

    The leftmost place is the right one for each piece between two stars, so nothing is tried twice. A
    piece with `?` is found by a regular expression without repetition: one comparison a place.
    """
    first, *middle = (_Piece(piece) for piece in pattern.split("*"))
    if not middle:
        return lambda text: len(text) == first.length and first.is_at(text, 0)
    *inner, last = middle
    pieces = [piece for piece in inner if piece.length]
    least = first.length + last.length

    def test(text: str) -> bool:
        end = len(text) - last.length
        if len(text) < least or not first.is_at(text, 0) or not last.is_at(text, end):
            return False
        start = first.length
        for piece in pieces:
            start = piece.find(text, start, end)
            if start < 0:
                return False
            start += piece.length
        return True

    return test


class _Piece:
    """What stands between two stars: a string, some of whose characters may be `?`."""

    __slots__ = ("length", "regex", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.length = len(text)
        self.regex = None
        if "?" in text:
            dotted = "".join("." if c == "?" else re.escape(c) for c in text)
            self.regex = re.compile(dotted, re.DOTALL)

    def is_at(self, text: str, position: int) -> bool:
        if self.regex is None:
            return text.startswith(self.text, position)
        return self.regex.match(text, position) is not None

    def find(self, text: str, start: int, end: int) -> int:
        if self.regex is None:
            return text.find(self.text, start, end)
        found = self.regex.search(text, start, end)
        return found.start() if found else -1


def compile_regexes(patterns: Sequence[str], *, insensitive: bool) -> Test:
    """Make the test "one of the patterns matches the whole text".

    Raises `ValueError` with a message for the rule's author where a pattern is not a Lucene regular
    expression, or one that RE2 cannot run.
    """
    import re2  # noqa: PLC0415 (memory: most rules have no regular expression)

    translated = [lucene.translate(pattern, insensitive=insensitive).re2 for pattern in patterns]
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    try:
        compiled = re2.compile("|".join(f"(?:{part})" for part in translated), options)
    except re2.error as error:
        raise ValueError(f"the regular expression is too large: {_reason(error)}") from error
    fullmatch = compiled.fullmatch

    def test(text: str) -> bool:
        try:
            return fullmatch(text) is not None
        except UnicodeEncodeError:
            # Bytes that are not UTF-8 count as one odd character each, as they do once indexed.
            return fullmatch(_SURROGATES.sub("\ufffd", text)) is not None

    return test


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else ""
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
