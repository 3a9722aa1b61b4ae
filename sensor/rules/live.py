"""What is known of every live event, and what a query can therefore never find.

In: an event filter. Out: the reason why no live event can satisfy it, or None. The judgement is sound:
a filter is called impossible only where the known fields alone decide it.
"""

from __future__ import annotations

from sensor.rules import ast
from sensor.rules.patterns import Globs, fold

# Every event of this sensor is an exec. `ecs.py` writes these fields, and nothing else into them.
FACTS = {"event.category": "process", "event.type": "start", "event.action": "exec"}


def impossible(event: ast.EventFilter) -> str | None:
    """Say why no live event can satisfy the filter; None where one may."""
    if event.category not in (None, FACTS["event.category"]):
        return f"needs {event.category} events, which this sensor does not have"
    if decide(event.condition) is not False:
        return None
    wanted = {name: sorted(values) for name, values in _wanted(event.condition).items() if values}
    if "event.category" in wanted:
        names = " or ".join(wanted["event.category"])
        return f"needs {names} events, which this sensor does not have"
    for name, values in wanted.items():
        return f"needs {name} {' or '.join(values)}, which no event of this sensor has"
    return "its condition is never true"


def decide(node: ast.Expression) -> bool | None:
    """Evaluate with the known fields only; None where the rest of the event matters."""
    match node:
        case ast.Literal(value=bool() as value):
            return value
        case ast.Not(operand=operand):
            inner = decide(operand)
            return None if inner is None else not inner
        case ast.And(operands=operands):
            results = [decide(operand) for operand in operands]
            return False if False in results else (None if None in results else True)
        case ast.Or(operands=operands):
            results = [decide(operand) for operand in operands]
            return True if True in results else (None if None in results else False)
        case ast.Compare(operator="!="):
            equal = decide(ast.Compare(operator="==", left=node.left, right=node.right))
            return None if equal is None else not equal
        case _:
            return _decide_leaf(node)


def _decide_leaf(node: ast.Expression) -> bool | None:
    field = _known_field(node)
    if field is None:
        return None
    fact = FACTS[field]
    match node:
        case ast.Compare(operator="==", left=left, right=right):
            literal = right if isinstance(right, ast.Literal) else left
            return isinstance(literal, ast.Literal) and literal.value == fact
        case ast.In(values=members, insensitive=insensitive):
            values = [member.value for member in members if isinstance(member, ast.Literal)]
            if len(values) < len(members):
                return None
            texts = [value for value in values if isinstance(value, str)]
            return fact in ([fold(text) for text in texts] if insensitive else texts)
        case ast.Like(patterns=patterns, insensitive=insensitive):
            return Globs(patterns, insensitive=insensitive).test()(fact)
        case _:
            return None


def _known_field(node: ast.Expression) -> str | None:
    match node:
        case ast.Compare(left=ast.Field(name=name), right=ast.Literal()) if name in FACTS:
            return name
        case ast.Compare(left=ast.Literal(), right=ast.Field(name=name)) if name in FACTS:
            return name
        case ast.In(operand=ast.Field(name=name)) | ast.Like(operand=ast.Field(name=name)) if (
            name in FACTS
        ):
            return name
        case _:
            return None


def _wanted(node: ast.Expression) -> dict[str, set[str]]:
    """Collect the values of known fields that a condition asks for and no event has, for the message."""
    found: dict[str, set[str]] = {name: set() for name in FACTS}
    pending = [node]
    while pending:
        part = pending.pop()
        if isinstance(part, ast.And | ast.Or):
            pending.extend(part.operands)
        elif decide(part) is False and (name := _known_field(part)):
            match part:
                case (
                    ast.Compare(operator="==", left=ast.Literal(value=value))
                    | ast.Compare(operator="==", right=ast.Literal(value=value))
                ):
                    found[name].add(str(value))
                case ast.In(values=members):
                    found[name].update(
                        str(member.value) for member in members if isinstance(member, ast.Literal)
                    )
                case ast.Like(patterns=patterns):
                    found[name].update(patterns)
    return found
