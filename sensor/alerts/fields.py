"""Reading a document: a dotted ECS name in, the value out, whatever shape the document has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sensor.rules.rule import SEVERITY_NUMBER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sensor.rules.rule import Severity


def get(document: Mapping[str, Any], field: str) -> Any:
    """The value of a field such as `container.image.name`, or None."""
    value: Any = document
    for key in field.split("."):
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def text(document: Mapping[str, Any], field: str) -> str:
    """The value of a field that is a text; an empty text where it is missing or something else."""
    value = get(document, field)
    return value if isinstance(value, str) else ""


def texts(document: Mapping[str, Any], field: str) -> list[str]:
    """The texts of a field that holds one or several, such as `process.args`."""
    value = get(document, field)
    if isinstance(value, str):
        return [value]
    if isinstance(value, list | tuple):
        return [each for each in value if isinstance(each, str)]
    return []


def number(document: Mapping[str, Any], field: str) -> int:
    """The value of a field that is a whole number, or 0."""
    value = get(document, field)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def severity_word(document: Mapping[str, Any]) -> Severity:
    """The word for a document's `event.severity`."""
    severity = number(document, "event.severity")
    word: Severity = "low"
    for each, least in SEVERITY_NUMBER.items():
        if severity >= least:
            word = each
    return word
