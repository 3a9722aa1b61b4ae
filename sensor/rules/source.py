"""Places in a rule file, with the offending line and a caret below it.

In: an error's line and column in a query. Out: the same error at the file's own line and column.

A query stands inside a YAML or TOML string, which may be indented, folded or escaped. Where each of
its characters came from is worked out only when there is an error to show.
"""

from __future__ import annotations

from dataclasses import dataclass

from sensor.errors import Location, RuleError, RuleSyntaxError

_SNIPPET_WIDTH = 100
_MESSAGE_LENGTH = 500
_SIMPLE_ESCAPES = {
    "n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", "a": "\a", "v": "\v", "e": "\x1b",
    "0": "\0", "N": "\x85", "_": "\xa0", "L": "\u2028", "P": "\u2029",
}  # fmt: skip
_CODE_POINT_DIGITS = {"x": 2, "u": 4, "U": 8}


def printable(text: str) -> str:
    """Replace every character that could steer a terminal by `?`, tabs by a blank.

    Rule files are written by others: their names and lines never reach a terminal as they are.
    Each character stays one character wide, so that carets keep their place.
    """
    return "".join(
        character if character.isprintable() else " " if character == "\t" else "?"
        for character in text
    )


def locate(text: str, index: int) -> tuple[int, int]:
    """Return the line and the column, both counted from 1, of the character at an index."""
    return text.count("\n", 0, index) + 1, index - text.rfind("\n", 0, index)


def snippet(text: str, index: int) -> str:
    """Return the line around an index, with a caret below the character there. Long lines are cut.

    Of an empty line there is nothing to show, and what comes is an empty text.
    """
    begin = text.rfind("\n", 0, index) + 1
    end = text.find("\n", index)
    line = text[begin : end if end != -1 else len(text)]
    if not line.strip():
        return ""
    column = index - begin
    first = max(0, column - _SNIPPET_WIDTH * 2 // 3)
    return f"{printable(line[first : first + _SNIPPET_WIDTH])}\n{' ' * (column - first)}^"


def error_at(message: str, *, path: str, text: str, index: int) -> RuleError:
    """Make a RuleError that shows the place it speaks of."""
    line, column = locate(text, index)
    location = Location(path=path, line=line, column=column)
    return RuleError(
        printable(message[:_MESSAGE_LENGTH]), location=location, snippet=snippet(text, index)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryPlace:
    """Where a query stands in its file.

    `text` is the whole file, `start` the index of the query's first character, `escapes` whether a
    backslash means something there.
    """

    path: str
    text: str
    query: str
    start: int
    escapes: bool = False

    def relocate(self, error: RuleSyntaxError) -> RuleSyntaxError:
        """Return the same error with the file's line and column instead of the query's."""
        index = self._index(_offset(self.query, error.line or 1, error.column or 1))
        line, column = locate(self.text, index)
        return RuleSyntaxError(
            printable(error.message[:_MESSAGE_LENGTH]),
            location=Location(path=self.path, line=line, column=column),
            snippet=snippet(self.text, index),
        )

    def _index(self, offset: int) -> int:
        """Return the index in the file of the query's character at `offset`.

        White space is what indentation, folding and chomping change, so both texts are walked over
        in step by their other characters, each of which stands in the file as itself or escaped.
        """
        index = end = self.start
        for position, character in enumerate(self.query[: offset + 1]):
            if character.isspace():
                continue
            while index < len(self.text):
                found, width = self._unit(index)
                if found == character:
                    break
                index += width
            else:
                return self.start
            if position == offset:
                return index
            index = end = index + width
        return end

    def _unit(self, index: int) -> tuple[str, int]:
        """Return the character that stands at the index, and how many of the file's it takes."""
        character = self.text[index]
        if not self.escapes or character != "\\" or index + 1 == len(self.text):
            return character, 1
        escaped = self.text[index + 1]
        if digits := _CODE_POINT_DIGITS.get(escaped):
            code = self.text[index + 2 : index + 2 + digits]
            try:
                return chr(int(code, 16)), 2 + digits
            except (ValueError, OverflowError):
                return escaped, 2
        return _SIMPLE_ESCAPES.get(escaped, escaped), 2


def _offset(text: str, line: int, column: int) -> int:
    """Return the offset of a line and column, both counted from 1, held inside the text."""
    start = 0
    for _ in range(line - 1):
        end = text.find("\n", start)
        if end == -1:
            return len(text)
        start = end + 1
    return min(start + column - 1, len(text))
