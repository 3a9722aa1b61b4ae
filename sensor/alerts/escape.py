"""Text of an attacker's made fit to be seen: any string in, a bounded printable one out.

What a container runs, and what its image and labels are called, is the attacker's to choose. Nothing
here lets a control character, a line break, a terminal sequence or a character that turns the
reading direction around through to a terminal, a log line or a chat message.
"""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_SHORT = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}

# What a POSIX shell takes as one plain word.
_PLAIN_WORD = re.compile(r"[A-Za-z0-9_@%+=:,./^-]+", re.ASCII)

# Of a very long argv this many arguments are looked at from each end.
_ARGUMENTS_SHOWN = 64


def visible(text: str, limit: int = 4096) -> str:
    r"""The text on one line with every character that cannot be seen written as an escape.

    A byte that was not UTF-8 becomes `\xNN`. What is longer than `limit` characters loses its
    middle, and says how many bytes.
    """
    return _escape(elide(text, limit))


def _escape(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else _escape_one(character) for character in text
    )


def _escape_one(character: str) -> str:
    if short := _SHORT.get(character):
        return short
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    # Not \xNN from here on: that is a byte, and these are characters of several.
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def elide(text: str, limit: int) -> str:
    """The text, or its two ends with `[… N bytes …]` between them if it exceeds `limit` characters.

    The count is of the bytes left out; what the mark would not make shorter stays.
    """
    if len(text) <= limit:
        return text
    head = (limit + 1) // 2
    tail = limit // 2
    left_out = len(text[head : len(text) - tail].encode("utf-8", "surrogatepass"))
    mark = f"[… {left_out} bytes …]"
    # What is no longer than the mark is better seen than counted.
    return (
        text if len(text) <= limit + len(mark) else f"{text[:head]}{mark}{text[len(text) - tail :]}"
    )


def shell_quote(argument: str) -> str:
    r"""The argument as one would type it into a shell; unprintable characters as `$'\n'`."""
    if _PLAIN_WORD.fullmatch(argument):
        return argument
    if argument.isprintable():
        return shlex.quote(argument)
    escaped = _escape(argument.replace("\\", "\\\\").replace("'", "\\'"))
    return f"$'{escaped}'"


def command_line(args: Sequence[str], limit: int = 1024) -> str:
    """The argv as one shell-quoted line of about `limit` characters at most.

    Long arguments lose their middle, and of many arguments those in the middle go, so that both the
    tool and what comes after a long padding stay in sight. Says how many bytes were left out.
    """
    if _total(args, limit) <= limit:
        return " ".join(shell_quote(argument) for argument in args)
    each = max(16, limit // 4)
    head = _take(args[:_ARGUMENTS_SHOWN], each, limit // 2)
    rest = args[len(head) :]
    tail = _take(rest[-_ARGUMENTS_SHOWN:][::-1], each, limit // 2)[::-1]
    middle = rest[: len(rest) - len(tail)]
    if not middle:
        return " ".join([*head, *tail])
    # One more for each blank that parts them.
    left_out = sum(len(part.encode("utf-8", "surrogatepass")) + 1 for part in middle)
    noun = "argument" if len(middle) == 1 else "arguments"
    return " ".join([*head, f"[… {len(middle)} {noun}, {left_out} bytes …]", *tail])


def _total(args: Sequence[str], limit: int) -> int:
    """The length of all arguments with the blanks between them; stops counting past the limit."""
    total = 0
    for argument in args:
        total += len(argument) + 1
        if total > limit:
            break
    return total


def _take(args: Sequence[str], each: int, limit: int) -> list[str]:
    """Arguments from the front, quoted and shortened, while they fit; always the first."""
    taken: list[str] = []
    used = 0
    for argument in args:
        quoted = shell_quote(elide(argument, each))
        used += len(quoted) + 1
        if taken and used > limit:
            break
        taken.append(quoted)
    return taken
