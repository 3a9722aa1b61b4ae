"""Lucene's regular expressions, read as Lucene reads them and written for RE2.

In: a pattern of `regex` or `regex~`. Out: an equivalent RE2 pattern for a match of the whole text, or
`ValueError`. `^` and `$` are plain characters here and `.` matches any character. `~` (complement),
`&` (intersection) and `<1-9>` (interval) have no counterpart in RE2 and are refused unless escaped.
`regex~` folds single ASCII letters but, like Lucene, no ranges such as `[a-f]`.
"""

from __future__ import annotations

# What the classes stand for in Lucene: ASCII only, and fewer spaces than elsewhere.
_CLASSES = {"d": "0-9", "s": " \\t\\n\\r", "w": "a-zA-Z_0-9"}
_MAX_DEPTH = 50
_MAX_REPEAT = 1000


def to_re2(pattern: str, *, insensitive: bool) -> str:
    """Translate. The result has no anchors and no capturing groups."""
    return _Translator(pattern, insensitive=insensitive).translate()


class _Translator:
    def __init__(self, pattern: str, *, insensitive: bool) -> None:
        self.pattern = pattern
        self.insensitive = insensitive
        self.position = 0
        self.depth = 0

    def translate(self) -> str:
        if not self.pattern:
            return ""
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

    def union(self) -> str:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise self.error(f"nested deeper than {_MAX_DEPTH} levels")
        branches = [self.concatenation()]
        while self.take("|"):
            branches.append(self.concatenation())
        self.depth -= 1
        return "|".join(branches)

    def concatenation(self) -> str:
        parts = []
        while (char := self.peek()) and char not in ")|":
            parts.append(self.repetition())
        if not parts:
            raise self.error("an empty alternative is written ()")
        return "".join(parts)

    def repetition(self) -> str:
        atom = self.atom()
        while (char := self.peek()) and char in "?*+{":
            self.position += 1
            # Grouped each time: a second ? would make RE2's quantifier lazy, here it is one more option.
            atom = f"(?:{atom}{self.bounds() if char == '{' else char})"
        return atom

    def bounds(self) -> str:
        low = self.number()
        high: int | None = low
        if self.take(","):
            high = self.number() if self.peek().isdigit() else None
        if not self.take("}"):
            raise self.error("expected }")
        if max(low, high or 0) > _MAX_REPEAT:
            raise self.error(f"more than {_MAX_REPEAT} repetitions are not supported")
        if high is not None and high < low:
            raise self.error("the second number of a repetition is less than the first")
        return f"{{{low}}}" if high == low else f"{{{low},{'' if high is None else high}}}"

    def number(self) -> int:
        start = self.position
        while self.peek() and self.peek() in "0123456789":
            self.position += 1
        digits = self.pattern[start : self.position]
        if not digits:
            raise self.error("expected a number")
        return int(digits[:9])

    def atom(self) -> str:
        char = self.peek()
        if char in "~&<":
            raise self.error(
                f"Lucene's operator {char} is not supported; the character itself is written \\{char}"
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
                return "(?s:.)"
            case "@":
                return "(?s:.*)"
            case "#":
                return "[^\\x00-\\x{10ffff}]"
            case '"':
                return self.quoted()
            case "\\":
                return self.escape()
            case _:
                return self.single(char)

    def group(self) -> str:
        if self.take(")"):
            return "(?:)"
        inside = self.union()
        if not self.take(")"):
            raise self.error("this ( is never closed")
        return f"(?:{inside})"

    def quoted(self) -> str:
        end = self.pattern.find('"', self.position)
        if end < 0:
            raise self.error('this " is never closed; the character itself is written \\"')
        text = self.pattern[self.position : end]
        self.position = end + 1
        return f"(?:{''.join(self.single(char) for char in text)})"

    def escape(self) -> str:
        char = self.escaped()
        if len(char) > 1:
            return f"[{char}]"
        return self.single(char)

    def escaped(self) -> str:
        """Read what follows a backslash: one character, or the inside of a class."""
        char = self.next()
        if char in _CLASSES:
            return _CLASSES[char]
        if char.lower() in _CLASSES:
            return f"^{_CLASSES[char.lower()]}"
        if char.isascii() and char.isalpha():
            self.position -= 1
            raise self.error(f"Lucene has no escape \\{char}")
        return char

    def char_class(self) -> str:
        negated = self.take("^")
        members: list[str] = []
        while not self.take("]") or not members:
            if not members and self.pattern[self.position - 1 : self.position] == "]":
                self.position -= 1
                raise self.error("an empty class; the character ] itself is written \\]")
            members.append(self.member())
        return f"[{'^' if negated else ''}{''.join(members)}]"

    def member(self) -> str:
        char = self.next()
        if char == "\\":
            char = self.escaped()
            if len(char) > 1:
                if char[0] == "^":
                    raise self.error("a negated class inside a class is not supported")
                return char
        if not self.take("-"):
            return self.class_char(char)
        last = self.next()
        if last == "\\":
            last = self.escaped()
        elif last == "]":
            raise self.error("the character - itself is written \\-")
        if len(last) > 1 or last < char:
            raise self.error("this range has no end, or ends before it starts")
        return f"{_code(char)}-{_code(last)}"

    def class_char(self, char: str) -> str:
        if self.insensitive and char.isascii() and char.isalpha():
            return char.lower() + char.upper()
        return _code(char)

    def single(self, char: str) -> str:
        if self.insensitive and char.isascii() and char.isalpha():
            return f"[{char.lower()}{char.upper()}]"
        return _code(char)


def _code(char: str) -> str:
    """One character, so written that it means nothing else to RE2."""
    if "\ud800" <= char <= "\udfff":
        raise ValueError("the regular expression contains half a character (a surrogate)")
    return char if char.isascii() and char.isalnum() else f"\\x{{{ord(char):x}}}"
