"""From grammar rules to nodes of the syntax tree.

In: the children of each rule of `eql.lark`, which are tokens and nodes. Out: nodes, or `Refused` where a
rule was followed but makes no sense, such as a sequence of one event.
"""

from __future__ import annotations

import math
import re
from typing import Any, NoReturn

from sensor.rules import ast
from sensor.rules.errors import Refused

MAX_RUNS = 100

_UNITS_NS = {
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
    "d": 86_400_000_000_000,
}
_ESCAPE = re.compile(r"\\(?:u\{([0-9A-Fa-f]{2,8})\}|(.))", re.DOTALL)
_SIMPLE_ESCAPES = {
    "b": "\b",
    "t": "\t",
    "n": "\n",
    "f": "\f",
    "r": "\r",
    '"': '"',
    "'": "'",
    "\\": "\\",
}


def _refuse(message: str, position: int) -> NoReturn:
    raise Refused(message, position)


class TreeBuilder:
    """One method a grammar rule: children in, node out."""

    def start(self, children: list[Any]) -> ast.Query:
        return ast.Query(body=children[0], pipes=tuple(children[1:]))

    # Events and sequences

    def any_category(self, children: list[Any]) -> tuple[int, str | None]:
        return children[0].start_pos, None

    def named_category(self, children: list[Any]) -> tuple[int, str | None]:
        return children[0].start_pos, str(children[0])

    def quoted_category(self, children: list[Any]) -> tuple[int, str | None]:
        return children[0].start_pos, _unquote(children[0])

    def event_filter(self, children: list[Any]) -> ast.EventFilter:
        (position, category), condition = children
        return ast.EventFilter(category=category, condition=condition, position=position)

    def by(self, children: list[Any]) -> _By:
        return _By(children)

    def span(self, children: list[Any]) -> _Span:
        number, *unit = children
        if not unit:
            _refuse(f"maxspan needs a unit: one of {', '.join(_UNITS_NS)}", number.start_pos)
        if str(unit[0]) not in _UNITS_NS:
            _refuse(f"maxspan's unit is one of {', '.join(_UNITS_NS)}", unit[0].start_pos)
        span = _integer(number) * _UNITS_NS[str(unit[0])]
        if not 0 < span < 2**63:
            _refuse("maxspan is out of range", number.start_pos)
        return _Span(span)

    def runs(self, children: list[Any]) -> _Runs:
        name, number = children
        if name != "runs":
            _refuse('only "runs" can follow "with" here', name.start_pos)
        count = _integer(number)
        if not 1 <= count <= MAX_RUNS:
            _refuse(f"runs is a number from 1 to {MAX_RUNS}", number.start_pos)
        return _Runs(count)

    def present_term(self, children: list[Any]) -> ast.Term:
        body, *rest = children
        by = next((tuple(part) for part in rest if isinstance(part, _By)), ())
        runs = next((int(part) for part in rest if isinstance(part, _Runs)), 1)
        return ast.Term(filter=body, by=by, runs=runs, position=body.position)

    def missing_term(self, children: list[Any]) -> ast.Term:
        body, *rest = children
        by = tuple(rest[0]) if rest else ()
        return ast.Term(filter=body, by=by, missing=True, position=body.position)

    def until(self, children: list[Any]) -> _Until:
        return _Until(self.present_term(children))

    def sequence(self, children: list[Any]) -> ast.Sequence:
        terms = tuple(child for child in children if isinstance(child, ast.Term))
        by = next((tuple(child) for child in children if isinstance(child, _By)), ())
        span = next((int(child) for child in children if isinstance(child, _Span)), None)
        until = next((child.term for child in children if isinstance(child, _Until)), None)
        _check_sequence(terms, span, until)
        return ast.Sequence(
            terms=terms, by=by, maxspan_ns=span, until=until, position=terms[0].position
        )

    def unsupported_join(self, children: list[Any]) -> NoReturn:
        _refuse("join is not supported; a sequence may say the same", children[0].start_pos)

    def unsupported_sample(self, children: list[Any]) -> NoReturn:
        _refuse("sample looks at stored events and cannot run live", children[0].start_pos)

    def pipe(self, children: list[Any]) -> ast.Pipe:
        name, *arguments = children
        if name not in ("head", "tail"):
            _refuse(f"the pipe {name} is not supported, only head and tail", name.start_pos)
        count = arguments[0].value if arguments and isinstance(arguments[0], ast.Literal) else None
        if len(arguments) != 1 or type(count) is not int or count < 0:
            _refuse(f"{name} takes one whole number", name.start_pos)
        return ast.Pipe(name=str(name), count=count, position=name.start_pos)

    # Conditions

    def any_of(self, children: list[Any]) -> ast.Or:
        operands = _flatten(children, ast.Or)
        return ast.Or(operands=operands, position=operands[0].position)

    def all_of(self, children: list[Any]) -> ast.And:
        operands = _flatten(children, ast.And)
        return ast.And(operands=operands, position=operands[0].position)

    def logical_not(self, children: list[Any]) -> ast.Not:
        return ast.Not(operand=children[1], position=children[0].start_pos)

    def compare(self, children: list[Any]) -> ast.Compare:
        left, operator, right = children
        return ast.Compare(
            operator=str(operator), left=left, right=right, position=operator.start_pos
        )

    def member(self, children: list[Any]) -> ast.In:
        operand, operator, *values = children
        return ast.In(
            operand=operand,
            values=tuple(values),
            insensitive=operator.endswith("~"),
            position=operator.start_pos,
        )

    def not_member(self, children: list[Any]) -> ast.Not:
        operand, negation, *rest = children
        return ast.Not(operand=self.member([operand, *rest]), position=negation.start_pos)

    def match(self, children: list[Any]) -> ast.Like | ast.Regex:
        operand, operator, *strings = children
        kind = ast.Regex if operator.startswith("regex") else ast.Like
        return kind(
            operand=operand,
            patterns=tuple(_unquote(string) for string in strings),
            insensitive=operator == ":" or operator.endswith("~"),
            position=operator.start_pos,
        )

    # Values

    def arithmetic(self, children: list[Any]) -> ast.Arithmetic:
        left, operator, right = children
        return ast.Arithmetic(
            operator=str(operator), left=left, right=right, position=operator.start_pos
        )

    def minus(self, children: list[Any]) -> ast.Expression:
        sign, operand = children
        if isinstance(operand, ast.Literal) and type(operand.value) in (int, float):
            return ast.Literal(value=-operand.value, position=sign.start_pos)  # type: ignore[operator]
        return ast.Negate(operand=operand, position=sign.start_pos)

    def plus(self, children: list[Any]) -> ast.Expression:
        operand: ast.Expression = children[1]
        return operand

    def string(self, children: list[Any]) -> ast.Literal:
        return ast.Literal(value=_unquote(children[0]), position=children[0].start_pos)

    def integer(self, children: list[Any]) -> ast.Literal:
        return ast.Literal(value=_integer(children[0]), position=children[0].start_pos)

    def decimal(self, children: list[Any]) -> ast.Literal:
        value = float(children[0])
        if math.isinf(value):
            _refuse("the number is too large", children[0].start_pos)
        return ast.Literal(value=value, position=children[0].start_pos)

    def true(self, children: list[Any]) -> ast.Literal:
        return ast.Literal(value=True, position=children[0].start_pos)

    def false(self, children: list[Any]) -> ast.Literal:
        return ast.Literal(value=False, position=children[0].start_pos)

    def null(self, children: list[Any]) -> ast.Literal:
        return ast.Literal(value=None, position=children[0].start_pos)

    def call(self, children: list[Any]) -> ast.Call:
        name, *arguments = children
        return ast.Call(
            name=name.rstrip("~"),
            arguments=tuple(arguments),
            insensitive=name.endswith("~"),
            position=name.start_pos,
        )

    def unsupported_relation(self, children: list[Any]) -> NoReturn:
        _refuse(f'"{children[0]} of" is not supported', children[0].start_pos)

    def field(self, children: list[Any]) -> ast.Field:
        optional = children[0].type == "OPTIONAL"
        names = children[1:] if optional else children
        parts = [
            str(name)[1:-1].replace("``", "`") if name.type == "QUOTED_NAME" else str(name)
            for name in names
        ]
        if not all(parts):
            _refuse("a field's name cannot be empty", children[0].start_pos)
        return ast.Field(name=".".join(parts), optional=optional, position=children[0].start_pos)


class _By(list[ast.Field]):
    """The fields of a `by`, told apart from other children."""


class _Span(int):
    """The nanoseconds of a `with maxspan`."""


class _Runs(int):
    """The number of a `with runs`."""


class _Until:
    def __init__(self, term: ast.Term) -> None:
        self.term = term


def _flatten(children: list[Any], kind: type[ast.And | ast.Or]) -> tuple[ast.Expression, ...]:
    # Parentheses leave no node, so (a and b) and c is one conjunction of three.
    operands: list[ast.Expression] = []
    for child in children:
        operands.extend(child.operands if isinstance(child, kind) else (child,))
    return tuple(operands)


def _integer(token: Any) -> int:
    # Bounded before int(), which refuses thousands of digits with an error of its own.
    if len(token) > 19 or int(token) > 2**63 - 1:
        _refuse("the number is too large", token.start_pos)
    return int(token)


def _unquote(token: Any) -> str:
    text = str(token)
    if text.startswith('"""'):
        return text[3:-3]

    def replace(match: re.Match[str]) -> str:
        code, simple = match.groups()
        position = token.start_pos + 1 + match.start()
        if code is not None:
            number = int(code, 16)
            if number > 0x10FFFF or 0xD800 <= number <= 0xDFFF:
                _refuse(f"there is no character \\u{{{code}}}", position)
            return chr(number)
        if simple not in _SIMPLE_ESCAPES:
            _refuse(
                f"unknown escape \\{simple}; a backslash is written \\\\, "
                'or the string in three quotes """…"""',
                position,
            )
        return _SIMPLE_ESCAPES[simple]

    return _ESCAPE.sub(replace, text[1:-1])


def _check_sequence(terms: tuple[ast.Term, ...], span: int | None, until: ast.Term | None) -> None:
    if sum(term.runs for term in terms) < 2:
        _refuse("a sequence needs two events or more", terms[0].position)
    if sum(term.runs for term in terms) > MAX_RUNS:
        _refuse(f"a sequence has at most {MAX_RUNS} events", terms[0].position)
    keys = len(terms[0].by)
    for term in (*terms, until) if until else terms:
        if len(term.by) != keys:
            _refuse("each event of a sequence needs the same number of by fields", term.position)
    missing = [term for term in terms if term.missing]
    if missing and span is None:
        _refuse("a missing event needs with maxspan", missing[0].position)
    if len(missing) == len(terms):
        _refuse("a sequence needs one event that is not missing", terms[0].position)
