"""Elastic's TOML rule files, as they are: text in, a `RuleFile` and the place of its query out.

Keys that mean nothing to a sensor are passed over, as are rules in a language other than EQL: those
come back with the reason why they cannot run.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from sensor.rules.rule_file import RuleFile, dotted, explain
from sensor.rules.source import QueryPlace, error_at

if TYPE_CHECKING:
    from sensor.errors import RuleError

_KEYS = (
    "name", "query", "rule_id", "description", "severity", "risk_score", "tags", "threat", "interval",
    "from", "max_signals", "version", "author", "license", "references", "note", "false_positives",
    "enabled",
)  # fmt: skip

_LANGUAGES = {"kuery": "KQL", "lucene": "Lucene", "esql": "ES|QL"}

_OPENING = re.compile(r"""^[ \t]*query[ \t]*=[ \t]*('''\n?|\"""\n?|'|")""", re.MULTILINE)
_PLACE = re.compile(
    r"(?P<text>.*?) \(at (?:line (?P<line>\d+), column (?P<column>\d+)|end of document)\)"
)
_SPACE = re.compile(r"\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class TomlRule:
    """A rule of Elastic's. `other_language` says what its query is written in where that is not EQL."""

    file: RuleFile
    place: QueryPlace
    other_language: str | None = None


def read_toml_rule(text: str, path: str) -> TomlRule | list[RuleError]:
    """Read the rule in the text of a TOML file, or say what is wrong with it."""
    try:
        table = tomllib.loads(text).get("rule")
    except tomllib.TOMLDecodeError as error:
        return [_syntax_error(error, text, path)]
    except (RecursionError, ValueError):
        # Deep nesting, or a number beyond what Python converts.
        return [error_at("not TOML that a rule needs", path=path, text=text, index=0)]
    if not isinstance(table, dict):
        return [error_at("there is no [rule] table", path=path, text=text, index=0)]
    try:
        file = msgspec.convert({key: table[key] for key in _KEYS if key in table}, RuleFile)
    except msgspec.ValidationError as error:
        message, step = explain(error)
        index = _key_index(text, str(step[0])) if step else 0
        return [error_at(f"{dotted(step)}: {message}", path=path, text=text, index=index)]
    other_language = _other_language(table)
    if other_language is None and not file.query.strip():
        index = _key_index(text, "query")
        return [error_at("query: missing or empty", path=path, text=text, index=index)]
    place = _place(text, path, file.query)
    return TomlRule(file=file, place=place, other_language=other_language)


def _other_language(table: dict[str, Any]) -> str | None:
    kind = table.get("type", "eql")
    if kind == "eql":
        return None
    language = table.get("language")
    if kind in ("query", "esql", "saved_query") and isinstance(language, str):
        return f"{_LANGUAGES.get(language, language)} query"
    return f"rule type {kind!r}"


def _place(text: str, path: str, query: str) -> QueryPlace:
    """Where the query begins: the first `query =` that is followed by the query's first word."""
    word = query.split(maxsplit=1)[0] if query.strip() else ""
    for match in _OPENING.finditer(text):
        space = _SPACE.match(text, match.end())
        if space and text.startswith(word, space.end()):
            return QueryPlace(
                path=path, text=text, query=query, start=match.end(), escapes='"' in match[1]
            )
    return QueryPlace(path=path, text=text, query=query, start=0)


def _syntax_error(error: tomllib.TOMLDecodeError, text: str, path: str) -> RuleError:
    """Make our error of tomllib's, which says the place in its message only."""
    match = _PLACE.fullmatch(str(error))
    if match is None:
        return error_at(f"not TOML: {error}", path=path, text=text, index=0)
    index = len(text)
    if match["line"]:
        lines = text.split("\n")[: int(match["line"]) - 1]
        index = sum(len(line) + 1 for line in lines) + int(match["column"]) - 1
    message = match["text"]
    return error_at(
        f"not TOML: {message[0].lower()}{message[1:]}",
        path=path,
        text=text,
        index=min(index, len(text)),
    )


def _key_index(text: str, key: str) -> int:
    """Return the index of the line that sets a key or opens its table, or where it would stand."""
    match = re.search(rf"^[ \t]*(?:\[+rule\.)?{re.escape(key)}\b", text, re.MULTILINE)
    return match.start() if match else max(0, text.find("[rule]"))
