"""From the syntax tree back to text.

In: a tree. Out: EQL that parses to an equal tree, on one line, with no more parentheses than it needs.
"""

from __future__ import annotations

import re
from typing import Final

from sensor.rules import ast

_NAME = re.compile(r"[A-Za-z_@][A-Za-z0-9_]*", re.ASCII)
KEYWORDS: Final = frozenset(
    {
        "and",
        "any",
        "by",
        "false",
        "in",
        "join",
        "like",
        "maxspan",
        "not",
        "null",
        "of",
        "or",
        "regex",
    }
    | {"sample", "sequence", "true", "until", "where", "with"}
)
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r", "\t": "\\t"}

# How tightly an expression binds; an operand that binds less tightly than its place needs parentheses.
_OR, _AND, _NOT, _COMPARE, _SUM, _PRODUCT, _UNARY, _PREDICATE, _PRIMARY = range(9)


def to_eql(query: ast.Query) -> str:
    """Print a query."""
    body = query.body
    text = _event(body) if isinstance(body, ast.EventFilter) else _sequence(body)
    return text + "".join(f" | {pipe.name} {pipe.count}" for pipe in query.pipes)


def _event(event: ast.EventFilter) -> str:
    category = "any" if event.category is None else event.category
    if event.category is not None and (not _NAME.fullmatch(category) or category in KEYWORDS):
        category = _string(category)
    return f"{category} where {expression(event.condition)}"


def _sequence(sequence: ast.Sequence) -> str:
    parts = ["sequence"]
    if sequence.by:
        parts.append(_by(sequence.by))
    if sequence.maxspan_ns is not None:
        parts.append(f"with maxspan={sequence.maxspan_ns // 1_000_000}ms")
    parts += map(_term, sequence.terms)
    if sequence.until:
        parts += ["until", _term(sequence.until)]
    return " ".join(parts)


def _term(term: ast.Term) -> str:
    by = f" {_by(term.by)}" if term.by else ""
    runs = f" with runs={term.runs}" if term.runs > 1 else ""
    return f"{'!' if term.missing else ''}[{_event(term.filter)}]{by}{runs}"


def _by(fields: tuple[ast.Field, ...]) -> str:
    return "by " + ", ".join(map(_field, fields))


def expression(node: ast.Expression, place: int = _OR) -> str:
    """Print an expression, in parentheses where its place binds more tightly than it does."""
    text, level = _expression(node)
    return text if level >= place else f"({text})"


def _expression(node: ast.Expression) -> tuple[str, int]:
    match node:
        case ast.Literal(value=value):
            return _literal(value)
        case ast.Field():
            return _field(node), _PRIMARY
        case ast.Call(name=name, arguments=arguments, insensitive=insensitive):
            listed = ", ".join(map(expression, arguments))
            return f"{name}{'~' if insensitive else ''}({listed})", _PRIMARY
        case ast.Negate(operand=operand):
            return f"-{expression(operand, _UNARY)}", _UNARY
        case ast.Arithmetic(operator=symbol, left=left, right=right):
            level = _SUM if symbol in "+-" else _PRODUCT
            return f"{expression(left, level)} {symbol} {expression(right, level + 1)}", level
        case ast.Compare(operator=symbol, left=left, right=right):
            return f"{expression(left, _SUM)} {symbol} {expression(right, _SUM)}", _COMPARE
        case ast.In(operand=operand, values=values, insensitive=insensitive):
            listed = ", ".join(map(expression, values))
            keyword = "in~" if insensitive else "in"
            return f"{expression(operand, _PRIMARY)} {keyword} ({listed})", _PREDICATE
        case ast.Like(operand=operand, patterns=patterns, insensitive=insensitive):
            return _pattern(operand, ":" if insensitive else "like", patterns), _PREDICATE
        case ast.Regex(operand=operand, patterns=patterns, insensitive=insensitive):
            return _pattern(operand, "regex~" if insensitive else "regex", patterns), _PREDICATE
        case ast.Not(operand=operand):
            return f"not {expression(operand, _NOT)}", _NOT
        case ast.And(operands=operands):
            return " and ".join(expression(operand, _NOT) for operand in operands), _AND
        case ast.Or(operands=operands):
            return " or ".join(expression(operand, _AND) for operand in operands), _OR


def _pattern(operand: ast.Expression, keyword: str, patterns: tuple[str, ...]) -> str:
    listed = ", ".join(map(_string, patterns))
    value = listed if len(patterns) == 1 else f"({listed})"
    return f"{expression(operand, _PRIMARY)} {keyword} {value}"


def _literal(value: ast.Scalar) -> tuple[str, int]:
    if value is None:
        return "null", _PRIMARY
    if isinstance(value, bool):
        return ("true" if value else "false"), _PRIMARY
    if isinstance(value, str):
        return _string(value), _PRIMARY
    text = repr(value)
    return text, _UNARY if text.startswith("-") else _PRIMARY


def _field(field: ast.Field) -> str:
    parts = field.name.split(".")
    if not all(parts):
        parts = [field.name]
    return ("?" if field.optional else "") + ".".join(map(_name, parts))


def _name(name: str) -> str:
    if _NAME.fullmatch(name) and name not in KEYWORDS:
        return name
    return "`" + name.replace("`", "``") + "`"


def _string(text: str) -> str:
    return '"' + "".join(map(_character, text)) + '"'


def _character(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable() or "\ud800" <= char <= "\udfff":
        return char
    return f"\\u{{{ord(char):02x}}}"
