"""Errors in a query, from an offset in its text to a line with a caret.

In: a message and a position. Out: `RuleSyntaxError`. Apart from the parser, so that a process which is
handed ready-made trees can report errors without it.
"""

from __future__ import annotations

from sensor.errors import Location, RuleSyntaxError


class Refused(Exception):  # noqa: N818 (a signal between stages, turned into RuleSyntaxError)
    """What stands at `position`, an offset in characters, cannot be used."""

    def __init__(self, message: str, position: int) -> None:
        self.message = message
        self.position = position
        super().__init__(message)

    def at(self, text: str, *, path: str | None, first_line: int) -> RuleSyntaxError:
        """Make the user's error, for the text the position points into."""
        return syntax_error(self.message, text, self.position, path=path, first_line=first_line)


def syntax_error(
    message: str, text: str, position: int, *, path: str | None = None, first_line: int = 1
) -> RuleSyntaxError:
    """Make the error for an offset into `text`, whose first line is line `first_line` of `path`."""
    position = max(0, min(position, len(text)))
    before = text[:position]
    start = before.rfind("\n") + 1
    end = text.find("\n", position)
    shown = text[start : end if end >= 0 else len(text)].rstrip("\r")
    column = position - start
    # A window, because a query may be one line of 100,000 characters.
    window = max(0, column - 60)
    source = "".join(c if c.isprintable() else " " for c in shown[window : window + 120])
    return RuleSyntaxError(
        message,
        location=Location(path=path, line=first_line + before.count("\n"), column=column + 1),
        snippet=f"{source}\n{' ' * (column - window)}^",
    )
