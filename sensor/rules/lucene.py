"""Lucene's regular expressions, read as Lucene reads them and written for RE2.

In: a pattern of `regex` or `regex~`. Out: a `Regex` for a match of the whole text, or `ValueError`. `^` and
`$` are plain characters here and `.` matches any character. `~` (complement), `&` (intersection) and
`<1-9>` (interval) have no counterpart in RE2 and are refused unless escaped. With `regex~` single ASCII
letters match in both cases but, as in Lucene, ranges such as `[a-f]` only as they are written.
"""

from __future__ import annotations

import string
from dataclasses import dataclass, replace

# What the classes stand for in Lucene: ASCII only, and fewer spaces than elsewhere.
_CLASSES = {"d": "0-9", "s": " \\t\\n\\r", "w": "a-zA-Z_0-9"}
_CLASS_CHARACTERS = {"d": string.digits, "s": " \t\n\r"}
_MAX_DEPTH = 50
_MAX_REPEAT = 1000
_MAX_LENGTH = 64
_MAX_WIDE = 128  # strings made of classes' characters, in one set


@dataclass(frozen=True, slots=True)
class Regex:
    """A pattern for RE2, without anchors or capturing groups, and what is known of its matches.

    `exact` is the one string it matches, where it is one. Of each set of `needs` one string is in every
    match; so it is with `wide`, whose sets are made of a class's characters and so may be large. Every
    match starts with one of `starts` and ends with one of `stops`, where they are known. All ignore case
    where the pattern does.
    """

    re2: str
    exact: str | None = None
    needs: tuple[frozenset[str], ...] = ()
    wide: tuple[frozenset[str], ...] = ()
    starts: frozenset[str] | None = None
    stops: frozenset[str] | None = None

    def all_needs(self) -> tuple[frozenset[str], ...]:
        """Give sets of strings, of each of which one is in every match."""
        if self.exact is not None:
            return (frozenset([self.exact]),) if self.exact else ()
        return self.needs

    def necessary(self, *, wide: bool = False) -> frozenset[str] | None:
        """Give the most telling of these sets; with `wide` it may be a large one."""
        return max(self.all_needs() + (self.wide if wide else ()), key=_telling, default=None)


def _telling(texts: frozenset[str]) -> tuple[int, bool, int]:
    """Rank a set; a dot tells little, for it is in every file name and version."""
    return min(map(len, texts), default=1_000), not any("." in t for t in texts), -len(texts)


def translate(pattern: str, *, insensitive: bool) -> Regex:
    """Read a pattern. Raises `ValueError` with a message for the rule's author."""
    return _Translator(pattern, insensitive=insensitive).translate()


def concatenate(parts: list[Regex]) -> Regex:
    """Put parts one after the other."""
    needs: list[frozenset[str]] = []
    wide: list[frozenset[str]] = []
    run = ""
    whole = True
    starts: frozenset[str] | None = frozenset([""])
    stops = starts
    from_start = True  # so far every match starts with one of `stops` and nothing else
    for part in parts:
        joined = _joined(stops, part.starts)
        if from_start:
            starts = joined or stops
        if part.exact is not None and joined is not None:
            stops = joined
        else:
            if joined is not None and not from_start:
                wide.append(joined)
            from_start = False
            wide += part.wide
            stops = part.stops
        if part.exact is not None:
            run += part.exact
            continue
        whole = False
        needs += [frozenset([run]), *part.needs] if run else part.needs
        run = ""
    needs += [frozenset([run])] if run else []
    return Regex(
        "".join(part.re2 for part in parts),
        exact=run if whole else None,
        needs=tuple(dict.fromkeys(needs)),
        wide=tuple(dict.fromkeys(some for some in (starts, *wide, stops) if some)),
        starts=starts,
        stops=stops,
    )


def _joined(before: frozenset[str] | None, after: frozenset[str] | None) -> frozenset[str] | None:
    """Give what stands where the one ends and the other starts, unless that is too much."""
    if not before or not after or len(before) * len(after) > _MAX_WIDE:
        return None
    if max(map(len, before)) + max(map(len, after)) > _MAX_LENGTH:
        return None
    return frozenset(one + other for one in before for other in after)


def _alternatives(branches: list[Regex]) -> Regex:
    if len(branches) == 1:
        return branches[0]
    together: set[str] = set()
    known = True
    for branch in branches:
        necessary = branch.necessary()
        known = known and necessary is not None
        together |= necessary or frozenset()
    return Regex(
        "|".join(branch.re2 for branch in branches),
        needs=(frozenset(together),) if known else (),
    )


_EMPTY = Regex("(?:)", exact="", starts=frozenset([""]), stops=frozenset([""]))


class _Translator:
    def __init__(self, pattern: str, *, insensitive: bool) -> None:
        self.pattern = pattern
        self.insensitive = insensitive
        self.position = 0
        self.depth = 0

    def translate(self) -> Regex:
        if not self.pattern:
            return replace(_EMPTY, re2="")
        result = self.union()
        if self.position < len(self.pattern):
            raise self.error("this ) closes nothing")
        return result

    def error(self, message: str) -> ValueError:
        return ValueError(f"{message}, at character {self.position + 1} of the regular expression")

    def peek(self) -> str:
        return self.pattern[self.position : self.position + 1]

    def take(self, wanted: str) -> bool:
        if self.peek() != wanted:
            return False
        self.position += 1
        return True

    def next(self) -> str:
        char = self.peek()
        if not char:
            raise self.error("the pattern ends too early")
        self.position += 1
        return char

    def union(self) -> Regex:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise self.error(f"nested deeper than {_MAX_DEPTH} levels")
        branches = [self.concatenation()]
        while self.take("|"):
            branches.append(self.concatenation())
        self.depth -= 1
        return _alternatives(branches)

    def concatenation(self) -> Regex:
        parts = []
        while (char := self.peek()) and char not in ")|":
            parts.append(self.repetition())
        if not parts:
            raise self.error("an empty alternative is written ()")
        return concatenate(parts)

    def repetition(self) -> Regex:
        part = self.atom()
        while (char := self.peek()) and char in "?*+{":
            self.position += 1
            low, suffix = self.bounds() if char == "{" else (int(char == "+"), char)
            # Grouped each time: a second ? would make RE2's quantifier lazy, here it is one more option.
            part = (
                Regex(
                    f"(?:{part.re2}{suffix})",
                    needs=part.all_needs(),
                    wide=part.wide,
                    starts=part.starts,
                    stops=part.stops,
                )
                if low
                else Regex(f"(?:{part.re2}{suffix})")
            )
        return part

    def bounds(self) -> tuple[int, str]:
        low = self.number()
        high: int | None = low
        if self.take(","):
            high = self.number() if self.peek() and self.peek() in "0123456789" else None
        if not self.take("}"):
            raise self.error("expected }")
        if max(low, high or 0) > _MAX_REPEAT:
            raise self.error(f"more than {_MAX_REPEAT} repetitions are not supported")
        if high is not None and high < low:
            raise self.error("the second number of a repetition is less than the first")
        if high == low:
            return low, f"{{{low}}}"
        return low, f"{{{low},{'' if high is None else high}}}"

    def number(self) -> int:
        start = self.position
        while self.peek() and self.peek() in "0123456789":
            self.position += 1
        digits = self.pattern[start : self.position]
        if not digits:
            raise self.error("expected a number")
        return int(digits[:9])

    def atom(self) -> Regex:
        char = self.peek()
        if char in "~&<":
            raise self.error(
                f"Lucene's operator {char} is not supported; "
                f"the character itself is written \\{char}"
            )
        if char in "?*+{":
            raise self.error(f"{char} repeats nothing; the character itself is written \\{char}")
        self.position += 1
        match char:
            case "(":
                return self.group()
            case "[":
                return self.char_class()
            case ".":
                return Regex("(?s:.)")
            case "@":
                return Regex("(?s:.*)")
            case "#":
                return Regex("[^\\x00-\\x{10ffff}]", needs=(frozenset(),))
            case '"':
                return self.quoted()
            case "\\":
                letter = self.peek()
                char, members = self.escaped()
                if not members:
                    return self.single(char)
                chars = frozenset(_CLASS_CHARACTERS.get(letter, "")) or None
                return Regex(f"[{members}]", starts=chars, stops=chars)
            case _:
                return self.single(char)

    def group(self) -> Regex:
        if self.take(")"):
            return _EMPTY
        inside = self.union()
        if not self.take(")"):
            raise self.error("this ( is never closed")
        return replace(inside, re2=f"(?:{inside.re2})")

    def quoted(self) -> Regex:
        end = self.pattern.find('"', self.position)
        if end < 0:
            raise self.error('this " is never closed; the character itself is written \\"')
        text = self.pattern[self.position : end]
        self.position = end + 1
        parts = concatenate([self.single(char) for char in text])
        return replace(parts, re2=f"(?:{parts.re2})", exact=text)

    def escaped(self) -> tuple[str, str]:
        """Read what follows a backslash: a character and "", or "" and the inside of a class."""
        char = self.next()
        if char in _CLASSES:
            return "", _CLASSES[char]
        if char.lower() in _CLASSES:
            return "", f"^{_CLASSES[char.lower()]}"
        if char.isascii() and char.isalpha():
            self.position -= 1
            raise self.error(f"Lucene has no escape \\{char}")
        return char, ""

    def char_class(self) -> Regex:
        negated = self.take("^")
        if self.peek() == "]":
            raise self.error("an empty class; the character ] itself is written \\]")
        start = self.position
        members = [self.member()]
        while not self.take("]"):
            members.append(self.member())
        known = [chars for _, chars in members if chars is not None]
        chars = frozenset("".join(known)) if len(known) == len(members) and not negated else None
        # [x] is a way to write x where x means something else.
        alone = self.pattern[start : self.position - 1].removeprefix("\\")
        exact = alone if len(alone) == 1 and alone not in "dsw" and not negated else None
        re2 = "".join(text for text, _ in members)
        return Regex(f"[{'^' if negated else ''}{re2}]", exact=exact, starts=chars, stops=chars)

    def member(self) -> tuple[str, str | None]:
        """Read a part of a class: its text for RE2, and its characters where they are few."""
        char = self.next()
        if char == "\\":
            letter = self.peek()
            char, members = self.escaped()
            if members.startswith("^"):
                raise self.error("a negated class inside a class is not supported")
            if members:
                return members, _CLASS_CHARACTERS.get(letter)
        if not self.take("-"):
            return self.both_cases(char), char
        last = self.next()
        if last == "\\":
            last, _ = self.escaped()
        elif last == "]":
            raise self.error("the character - itself is written \\-")
        if last < char:
            raise self.error("this range has no end, or ends before it starts")
        few = ord(last) - ord(char) < _MAX_WIDE
        chars = "".join(map(chr, range(ord(char), ord(last) + 1))) if few else None
        return f"{self.code(char)}-{self.code(last)}", chars

    def single(self, char: str) -> Regex:
        both = self.both_cases(char)
        only = frozenset([char])
        re2 = f"[{both}]" if self.insensitive and char.isalpha() else both
        return Regex(re2, exact=char, starts=only, stops=only)

    def both_cases(self, char: str) -> str:
        if self.insensitive and char.isascii() and char.isalpha():
            return char.lower() + char.upper()
        return self.code(char)

    def code(self, char: str) -> str:
        """Write one character so that it means nothing else to RE2."""
        if "\ud800" <= char <= "\udfff":
            raise self.error("half a character (a surrogate)")
        return char if char.isascii() and char.isalnum() else f"\\x{{{ord(char):x}}}"
