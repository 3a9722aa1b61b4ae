"""What a query means before it runs, and what in it means nothing.

In: a syntax tree and, where fields are to be checked, a schema. Out: `Findings`, or `Refused` with the
place. Also judges whether live events can ever satisfy the query, from what is known of all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sensor.rules import ast
from sensor.rules.errors import Refused
from sensor.rules.functions import ANY, BOOLEAN, FUNCTIONS, NUMBER, STRING, Function, parse_block
from sensor.rules.live import impossible

if TYPE_CHECKING:
    from sensor.rules.schema import Schema

NULL = "null"
_TYPES = {str: STRING, int: NUMBER, float: NUMBER, bool: BOOLEAN, type(None): NULL}


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What `check` found. See `compile.Query` for the meaning of each."""

    fields: frozenset[str]
    categories: frozenset[str]
    warnings: tuple[str, ...]
    inactive_reason: str | None
    replay_only: bool


def check(tree: ast.Query, schema: Schema | None) -> Findings:
    """Check types, functions and (given a schema) fields. Raises `Refused`."""
    checker = _Checker(schema)
    sequence = tree.body if isinstance(tree.body, ast.Sequence) else None
    terms = [*sequence.terms] if sequence else []
    if sequence and sequence.until:
        terms.append(sequence.until)
    filters = [term.filter for term in terms] if sequence else [tree.body]
    for event in filters:
        if isinstance(event, ast.EventFilter):
            checker.condition(event.condition)
    keys = [*sequence.by, *(field for term in terms for field in term.by)] if sequence else []
    for key in keys:
        checker.type_of(key)
    categories = {
        event.category or "any" for event in filters if isinstance(event, ast.EventFilter)
    }
    never = _never(tree)
    replay_only = None if never else _replay_only(tree)
    return Findings(
        fields=frozenset(checker.fields),
        categories=frozenset(categories),
        warnings=tuple(dict.fromkeys(checker.warnings)),
        inactive_reason=never or replay_only,
        replay_only=replay_only is not None,
    )


def _never(tree: ast.Query) -> str | None:
    if isinstance(tree.body, ast.EventFilter):
        return impossible(tree.body)
    needed = [impossible(term.filter) for term in tree.body.terms if not term.missing]
    return next((reason for reason in needed if reason), None)


def _replay_only(tree: ast.Query) -> str | None:
    if tree.pipes:
        return f"| {tree.pipes[0].name} needs an end of the events, which only a replay has"
    if isinstance(tree.body, ast.Sequence) and tree.body.maxspan_ns is None:
        return "a sequence without maxspan would wait for ever; only a replay has an end"
    return None


class _Checker:
    def __init__(self, schema: Schema | None) -> None:
        self.schema = schema
        self.fields: set[str] = set()
        self.warnings: list[str] = []

    def condition(self, node: ast.Expression) -> None:
        found = self.type_of(node)
        if found not in (BOOLEAN, ANY):
            raise Refused(f"a condition is true or false, this is {found}", node.position)

    def type_of(self, node: ast.Expression) -> str:
        match node:
            case ast.Literal(value=value):
                return _TYPES[type(value)]
            case ast.Field():
                return self.field(node)
            case ast.Call():
                return self.call(node)
            case ast.Negate(operand=operand):
                self.operand(operand, NUMBER, node)
                return NUMBER
            case ast.Arithmetic(left=left, right=right):
                self.operand(left, NUMBER, node)
                self.operand(right, NUMBER, node)
                return NUMBER
            case ast.Compare():
                self.comparison(node)
            case ast.In(operand=operand, values=members):
                self.type_of(operand)
                for member in members:
                    self.constant(member, "a list is made of constants")
                    self.type_of(member)
            case ast.Like(operand=operand) | ast.Regex(operand=operand):
                found = self.type_of(operand)
                if found not in (STRING, ANY) and not isinstance(operand, ast.Field):
                    raise Refused(
                        f"a pattern is matched against a string, not {found}", node.position
                    )
            case ast.Not(operand=operand):
                self.condition(operand)
            case ast.And(operands=operands) | ast.Or(operands=operands):
                for operand in operands:
                    self.condition(operand)
        return BOOLEAN

    def comparison(self, node: ast.Compare) -> None:
        types = (self.type_of(node.left), self.type_of(node.right))
        if all(any(True for _ in ast.fields_of(side)) for side in (node.left, node.right)):
            raise Refused(
                "a field is compared with a constant, never with another field", node.position
            )
        if node.operator not in ("==", "!="):
            for found in types:
                if found == BOOLEAN:
                    raise Refused(f"{found} is neither more nor less than anything", node.position)

    def constant(self, node: ast.Expression, message: str) -> None:
        found = next(ast.fields_of(node), None)
        if found is not None:
            raise Refused(f"{message}, {found.name} is a field", found.position)

    def operand(self, node: ast.Expression, wanted: str, parent: ast.Node) -> None:
        found = self.type_of(node)
        if found not in (wanted, ANY, NULL) and not isinstance(node, ast.Field):
            raise Refused(f"this takes {wanted}, not {found}", parent.position)

    def call(self, node: ast.Call) -> str:
        function = FUNCTIONS.get(node.name)
        if function is None:
            raise Refused(_unknown("function", node.name, FUNCTIONS), node.position)
        if node.insensitive and function.insensitive is None:
            raise Refused(f"{node.name} has no form with ~", node.position)
        _check_count(node, function)
        for index, argument in enumerate(node.arguments):
            wanted = function.parameters[min(index, len(function.parameters) - 1)]
            found = self.type_of(argument)
            if wanted != ANY and found not in (wanted, ANY, NULL):
                # A field that holds numbers is text to a function of text, as in a keyword mapping.
                if isinstance(argument, ast.Field) and wanted != BOOLEAN:
                    continue
                raise Refused(
                    f"argument {index + 1} of {node.name} is {wanted}, not {found}",
                    argument.position,
                )
        if node.name == "cidrMatch":
            for block in node.arguments[1:]:
                self.constant(block, "an address block is a constant")
                if not (
                    isinstance(block, ast.Literal)
                    and isinstance(block.value, str)
                    and parse_block(block.value)
                ):
                    raise Refused("an address block is written like 10.0.0.0/8", block.position)
        return function.returns

    def field(self, node: ast.Field) -> str:
        self.fields.add(node.name)
        if self.schema is None:
            return ANY
        known = self.schema.get(node.name)
        if known is None:
            if node.optional:
                return ANY
            message = _unknown("field", node.name, self.schema.names())
            raise Refused(f"{message} (a leading ? would make it optional)", node.position)
        if known.source is None:
            self.warnings.append(
                f"{node.name} is a field of ECS that no event of this sensor has: "
                "what asks for it cannot fire"
            )
        return {"boolean": BOOLEAN, "long": NUMBER, "float": NUMBER}.get(known.type, STRING)


def _check_count(node: ast.Call, function: Function) -> None:
    given, most = len(node.arguments), len(function.parameters)
    least = most - function.optional
    if given < least or (given > most and not function.variadic):
        wanted = (
            f"{least} or more"
            if function.variadic
            else " or ".join(str(number) for number in range(least, most + 1))
        )
        raise Refused(f"{node.name} takes {wanted} arguments, not {given}", node.position)


def _unknown(kind: str, name: str, known: object) -> str:
    import difflib  # noqa: PLC0415 (memory: only for messages)

    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.75)  # type: ignore[call-overload]
    hint = f"; did you mean {close[0]}?" if close else ""
    return f"there is no {kind} {name}{hint}"
