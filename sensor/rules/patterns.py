"""Wildcards and regular expressions, linear in the text whatever the text.

In: patterns of `like`, `:` and `regex`. Out: tests of one text, and strings to search for where that is
the same. Wildcards become plain string searches; regular expressions are read as Lucene reads them and run
by RE2, which is imported when the first one is compiled. Neither ever backtracks.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeAlias

from sensor.rules import lucene

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

TextTest: TypeAlias = "Callable[[str], bool]"

_SURROGATES = re.compile("[\ud800-\udfff]")


def fold(text: str) -> str:
    """Lower the case of ASCII letters only, as Lucene does: the Kelvin sign is not a k."""
    if text.isascii():
        return text.lower()
    return text.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


class Globs:
    """Patterns sorted by shape, the cheap shapes apart. All are folded where `insensitive`.

    `exact` are texts in which nothing is a wildcard. `shortest` is the least length that matches on its
    own, from patterns like `*` and `?*`.
    """

    def __init__(
        self, patterns: Iterable[str], *, insensitive: bool, exact: Iterable[str] = ()
    ) -> None:
        whole, prefixes, suffixes, infixes = set(exact), set(), set(), set()
        general = []
        self.insensitive = insensitive
        self.shortest: int | None = None
        for pattern in dict.fromkeys(fold(p) if insensitive else p for p in patterns):
            bare = pattern.strip("*")
            if "*" not in pattern and "?" not in pattern:
                whole.add(pattern)
            elif not pattern.strip("*?") and "*" in pattern:
                least = pattern.count("?")
                self.shortest = least if self.shortest is None else min(least, self.shortest)
            elif "*" in bare or "?" in bare:
                general.append(pattern)
            elif pattern[0] != "*":
                prefixes.add(bare)
            elif pattern[-1] != "*":
                suffixes.add(bare)
            else:
                infixes.add(bare)
        self.exact = frozenset(whole)
        self.prefixes = tuple(sorted(prefixes))
        self.suffixes = tuple(sorted(suffixes))
        self.infixes = tuple(sorted(infixes))
        self.general = tuple((pattern, _compile_general(pattern)) for pattern in general)

    def test(self) -> TextTest:
        """Make the test "the text matches one of the patterns"."""
        exact, prefixes, suffixes = self.exact, self.prefixes, self.suffixes
        infixes, shortest, insensitive = self.infixes, self.shortest, self.insensitive
        general = [glob for _, glob in self.general]

        def test(text: str) -> bool:
            if insensitive:
                text = fold(text)
            return (
                text in exact
                or (shortest is not None and len(text) >= shortest)
                or text.startswith(prefixes)
                or text.endswith(suffixes)
                or any(infix in text for infix in infixes)
                or any(glob(text) for glob in general)
            )

        return test

    def needles(self) -> tuple[str, ...] | None:
        """Give what to search for in a haystack, which has a NUL before and after each text.

        A text matches one of the exact, prefix, suffix and infix patterns exactly where one of these
        strings is in the haystack. None where no strings do that.
        """
        return _unambiguous(
            [
                *(f"\0{text}\0" for text in self.exact),
                *(f"\0{prefix}" for prefix in self.prefixes),
                *(f"{suffix}\0" for suffix in self.suffixes),
                *self.infixes,
            ]
        )

    def general_with_pieces(self) -> list[tuple[str, TextTest]] | None:
        """Give the other tests, each with a string that is in every haystack it is true for."""
        pieces = [max(re.split("[*?]", f"\0{pattern}\0"), key=len) for pattern, _ in self.general]
        if _unambiguous(pieces) is None:
            return None
        return [(piece, glob) for piece, (_, glob) in zip(pieces, self.general, strict=True)]


def _unambiguous(needles: list[str]) -> tuple[str, ...] | None:
    """Refuse strings with a NUL of their own, which one between texts could be taken for."""
    return None if any("\0" in needle.strip("\0") for needle in needles) else tuple(needles)


def _compile_general(pattern: str) -> TextTest:
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


class Regexes:
    """Regular expressions, ready to test texts.

    Raises `ValueError` with a message for the rule's author where a pattern is not one of Lucene's, or
    one that RE2 cannot run.
    """

    def __init__(self, patterns: Iterable[str], *, insensitive: bool) -> None:
        import re2  # noqa: PLC0415 (memory: most rules have no regular expression)

        translated = [lucene.translate(pattern, insensitive=insensitive) for pattern in patterns]
        options = re2.Options()
        options.log_errors = False
        options.never_capture = True
        try:
            compiled = re2.compile("|".join(f"(?:{part.re2})" for part in translated), options)
        except re2.error as error:
            raise ValueError(f"RE2 cannot run the regular expression: {_reason(error)}") from error
        self._fullmatch = compiled.fullmatch
        # What a single pattern needs, a plain search finds faster than RE2 is called. In any case of
        # letters it would be slower.
        alone = translated[0] if len(translated) == 1 and not insensitive else None
        self.needs = alone.all_needs() if alone else ()

    def test(self) -> TextTest:
        """Make the test "one of the patterns matches the whole text"."""
        fullmatch = self._fullmatch

        def test(text: str) -> bool:
            try:
                encoded = text.encode()
            except UnicodeEncodeError:
                # Bytes that are not UTF-8 count as one odd character each, as they do once indexed.
                encoded = _SURROGATES.sub("\ufffd", text).encode()
            return fullmatch(encoded) is not None

        return test


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else ""
    return reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
