"""The values of a field in a document.

In: a document, which is JSON of whatever shape. Out: raw values (None, one value, or an array), their
elements, their texts, or a haystack in which one search finds what any of them has. Dotted and nested keys are
alike, in any mixture, and an array of objects stands for the values of each. Nothing here raises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from sensor.rules.patterns import fold
from sensor.rules.values import text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sensor.rules.ast import Scalar

Document: TypeAlias = dict[str, Any]
Getter: TypeAlias = "Callable[[Document], Any]"
# A NUL before and after each text, or an object that can be searched in the same way; empty for no text.
Haystack: TypeAlias = "str | OddTexts"


def getter(name: str) -> Getter:
    """Make the function that finds a field's raw value.

    The usual shape, nested objects all the way, takes a few look-ups. `collect` takes over at the first
    sign of another: a dotted key, or something else than an object on the way.
    """
    parts = name.split(".")
    match parts:
        case [_]:
            return lambda document: document.get(name)
        case [outer, inner]:

            def get_two(document: Document) -> Any:
                if name in document:
                    return collect(document, parts)
                value = document.get(outer)
                if type(value) is dict:
                    return value.get(inner)
                return None if value is None else collect(document, parts)

            return get_two
        case [first, second, third]:
            front, back = f"{first}.{second}", f"{second}.{third}"

            def get_three(document: Document) -> Any:
                if front in document or name in document:
                    return collect(document, parts)
                value = document.get(first)
                if type(value) is dict:
                    if back in value:
                        return collect(document, parts)
                    value = value.get(second)
                    if type(value) is dict:
                        return value.get(third)
                return None if value is None else collect(document, parts)

            return get_three
        case _:
            return _long_getter(parts)


def _long_getter(parts: list[str]) -> Getter:
    steps = [
        (key, tuple(".".join(parts[start:end]) for end in range(start + 2, len(parts) + 1)))
        for start, key in enumerate(parts)
    ]

    def get(document: Document) -> Any:
        value: Any = document
        for key, dotted in steps:
            if type(value) is not dict:
                return None if value is None else collect(document, parts)
            for longer in dotted:
                if longer in value:
                    return collect(document, parts)
            value = value.get(key)
        return value

    return get


def collect(document: Document, parts: list[str]) -> Any:
    """Find a field's raw value whatever the document's shape; several places give one array."""
    found: list[Any] = []
    pending: list[tuple[Any, int]] = [(document, 0)]
    while pending:
        value, start = pending.pop()
        if start == len(parts):
            found.append(value)
        elif isinstance(value, dict):
            for end in range(len(parts), start, -1):
                key = ".".join(parts[start:end])
                if key in value:
                    pending.append((value[key], end))
        elif isinstance(value, list | tuple):
            pending.extend((item, start) for item in reversed(value))
    if len(found) > 1:
        return found
    return found[0] if found else None


def elements(raw: Any) -> Iterator[Scalar]:
    """Give the single values of a raw value: none for null, objects and empty arrays."""
    pending = [raw]
    while pending:
        value = pending.pop()
        if isinstance(value, str | int | float):
            yield value
        elif isinstance(value, list | tuple):
            pending.extend(reversed(value))


def texts(raw: Any) -> Iterator[str]:
    """Give the single values as the text a keyword field would hold."""
    for value in elements(raw):
        text = text_of(value)
        if text is not None:
            yield text


def exists(raw: Any) -> bool:
    """Tell whether there is any value."""
    if raw is None:
        return False
    return type(raw) is str or any(True for _ in elements(raw))


class OddTexts:
    """A haystack of texts that have NULs themselves. It answers `in` as a string would."""

    __slots__ = ("texts",)

    def __init__(self, found: list[str]) -> None:
        self.texts = found

    def __contains__(self, needle: str) -> bool:
        wanted = needle.removeprefix("\0").removesuffix("\0")
        starts, ends = needle.startswith("\0"), needle.endswith("\0")
        return any(
            wanted == text
            or (not (starts and ends) and starts and text.startswith(wanted))
            or (not (starts and ends) and ends and text.endswith(wanted))
            or (not starts and not ends and wanted in text)
            for text in self.texts
        )


def haystack(raw: Any) -> Haystack:
    """Put all texts into one string, each between two NULs, so that one search serves them all."""
    if raw is None:
        return ""
    if type(raw) is str and "\0" not in raw:
        return f"\0{raw}\0"
    if type(raw) is list:
        try:
            joined = "\0".join(raw)
        except TypeError:
            pass
        else:
            if joined.count("\0") == len(raw) - 1:
                return f"\0{joined}\0"
    found = list(texts(raw))
    if any("\0" in text for text in found):
        return OddTexts(found)
    return "\0".join(["", *found, ""]) if found else ""


def folded(found: Haystack) -> Haystack:
    """Lower the case of ASCII letters in a haystack."""
    if isinstance(found, str):
        return fold(found)
    return OddTexts([fold(text) for text in found.texts])


def parts(found: Haystack) -> list[str]:
    """Give the texts of a haystack."""
    if isinstance(found, str):
        return found[1:-1].split("\0") if found else []
    return found.texts
