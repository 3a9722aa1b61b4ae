"""The shape of a rule file, and what to say of a file that has another one.

The same typed keys serve our YAML and the `rule` table of Elastic's TOML.
"""

from __future__ import annotations

import difflib
import re
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from sensor.rules.rule import SEVERITY_NUMBER, RuleTest, Severity, Threat

if TYPE_CHECKING:
    from collections.abc import Iterator

Path = tuple[str | int, ...]

MAX_ENTRIES = 1000

_Line = Annotated[str, msgspec.Meta(min_length=1, max_length=512)]
_Texts = str | list[str]

# msgspec ends a message with the path of the value it speaks of: " - at `$.threat[0].tactic`".
_MESSAGE = re.compile(r"(?P<text>.*?)(?: - at `\$(?P<path>[^`]*)`)?", re.DOTALL)
_TYPE_WORDS = {
    "str": "text", "bool": "true or false", "int": "a whole number", "float": "a number",
    "object": "a mapping", "array": "a list", "null": "nothing",
    "int | null": "a whole number", "str | null": "text", "str | array": "text or a list of texts",
    "object | null": "a mapping", "array | null": "a list", "str | array | null": "text or a list",
}  # fmt: skip
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")


class RuleFile(msgspec.Struct, frozen=True, kw_only=True, rename={"from_": "from"}):
    """The keys of a rule file. `rule_id`, `max_signals` and `from` are Elastic's names."""

    name: _Line
    query: str = ""
    id: _Line | None = None
    rule_id: _Line | None = None
    description: str = ""
    severity: Severity = "medium"
    risk_score: Annotated[int, msgspec.Meta(ge=0, le=100)] | None = None
    tags: _Texts = []
    threat: tuple[Threat, ...] = ()
    interval: Annotated[str, msgspec.Meta(pattern=r"^[1-9][0-9]{0,5}[smhd]$")] = "5m"
    # How far back a search looks. Events come as they happen here, so it has no effect.
    from_: str | None = None
    max_alerts: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    max_signals: Annotated[int, msgspec.Meta(ge=1, le=1_000_000)] | None = None
    version: Annotated[int, msgspec.Meta(ge=1)] = 1
    author: _Texts = []
    license: str | None = None
    references: _Texts = []
    note: str = ""
    false_positives: _Texts = []
    enabled: bool = True
    exceptions: Annotated[list[dict[str, Any]], msgspec.Meta(max_length=MAX_ENTRIES)] = []
    tests: Annotated[list[RuleTest], msgspec.Meta(max_length=MAX_ENTRIES)] = []


def unknown_keys(kind: Any, value: Any, step: Path = ()) -> Iterator[tuple[Path, str]]:
    """Yield the path of each key that the typed shape does not have, with what may have been meant."""
    info = kind if isinstance(kind, msgspec.inspect.Type) else msgspec.inspect.type_info(kind)
    if isinstance(info, msgspec.inspect.StructType) and isinstance(value, dict):
        fields = {field.encode_name: field.type for field in info.fields}
        for key, each in value.items():
            if key in fields:
                yield from unknown_keys(fields[key], each, (*step, key))
            else:
                # Comparing costs the square of the length, and the key may be anything.
                close = difflib.get_close_matches(key[:64], fields, n=1)
                yield (
                    (*step, key),
                    "no such key" + (f"; did you mean `{close[0]}`?" if close else ""),
                )
    elif isinstance(value, list):
        item = getattr(_inner(info), "item_type", None)
        if item is not None:
            for index, each in enumerate(value):
                yield from unknown_keys(item, each, (*step, index))


def _inner(info: msgspec.inspect.Type) -> msgspec.inspect.Type:
    """Return the type inside constraints: `Annotated` types come wrapped."""
    return _inner(info.type) if isinstance(info, msgspec.inspect.Metadata) else info


def explain(error: msgspec.ValidationError) -> tuple[str, Path]:
    """Msgspec's message in a rule author's words, and the path of the value it speaks of."""
    match = _MESSAGE.fullmatch(str(error))
    if match is None:
        return str(error), ()
    step: Path = tuple(
        int(index) if index else key for key, index in _STEP.findall(match["path"] or "")
    )
    message = match["text"]
    if missing := re.fullmatch(r"Object missing required field `(.*)`", message):
        return "this key is missing", (*step, missing[1])
    if message.startswith("Invalid enum value"):
        return f"expected one of {', '.join(SEVERITY_NUMBER)}", step
    if "regex" in message:
        return "expected a duration: a number and one of s, m, h, d, such as `5m`", step
    for typed, words in _TYPE_WORDS.items():
        message = message.replace(f"`{typed}`", words)
    return message[0].lower() + message[1:], step


def dotted(step: Path) -> str:
    """`("threat", 0, "tactic")` as `threat[0].tactic`."""
    text = ""
    for each in step:
        text += f"[{each}]" if isinstance(each, int) else f".{each}" if text else each
    return text
