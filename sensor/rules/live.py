"""What is known of every live event, and what a query can therefore never find.

In: an event filter. Out: the reason why no live event can satisfy it, or None. The judgement is sound:
a filter is called impossible only where the known fields alone decide it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sensor.rules import ast
from sensor.rules.patterns import Globs, fold

Facts = Mapping[str, str]

# Every event of this sensor is an exec. `ecs.py` writes these fields, and nothing else into them.
FACTS: Facts = {
    "event.category": "process",
    "event.type": "start",
    "event.action": "exec",
    "event.outcome": "success",
}
# The same for an exec that failed. No process starts by one.
FAILED: Facts = {**FACTS, "event.type": "info", "event.outcome": "failure"}


def is_failed_exec(document: Mapping[str, Any]) -> bool:
    """Whether a document is of an exec that failed, as this sensor tells of one."""
    event = document.get("event")
    return (
        isinstance(event, dict)
        and event.get("outcome") == FAILED["event.outcome"]
        and event.get("action") == FAILED["event.action"]
        and event.get("type") == [FAILED["event.type"]]
    )


def asks_of_failures(condition: ast.Expression) -> bool:
    """Whether a condition is about execs that failed, too: it names what tells the two apart.

    All other conditions mean execs that succeeded, as they do where failed ones are not told.
    """
    return any(
        field.name == "event.outcome" or field.name.startswith("error.")
        for field in ast.fields_of(condition)
    )


def is_possible(event: ast.EventFilter, facts: Facts) -> bool:
    """Whether a live event of which these facts are known may satisfy the filter."""
    return (
        event.category in (None, facts["event.category"])
        and (facts is FACTS or asks_of_failures(event.condition))
        and decide(event.condition, facts) is not False
    )


def waits_for_failures(tree: ast.Query) -> bool:
    """Whether only execs that failed can make a query match, or one event of its sequence."""
    if isinstance(tree.body, ast.EventFilter):
        needed = [tree.body]
    else:
        needed = [term.filter for term in tree.body.terms if not term.missing]
    return any(is_possible(event, FAILED) and not is_possible(event, FACTS) for event in needed)


def impossible(event: ast.EventFilter) -> str | None:
    """Say why no live event can satisfy the filter; None where one may."""
    if event.category not in (None, FACTS["event.category"]):
        return f"needs {event.category} events, which this sensor does not have"
    if is_possible(event, FACTS) or is_possible(event, FAILED):
        return None
    which, wanted = "event of this sensor", _wanted(event.condition, FACTS)
    if list(wanted) == ["event.outcome"] and (other := _wanted(event.condition, FAILED)):
        which, wanted = "exec that failed", other
    if "event.category" in wanted:
        names = " or ".join(wanted["event.category"])
        return f"needs {names} events, which this sensor does not have"
    for name, values in wanted.items():
        return f"needs {name} {' or '.join(values)}, which no {which} has"
    return "its condition is never true"


def decide(node: ast.Expression, facts: Facts = FACTS) -> bool | None:
    """Evaluate with the known fields only; None where the rest of the event matters."""
    match node:
        case ast.Literal(value=bool() as value):
            return value
        case ast.Not(operand=operand):
            inner = decide(operand, facts)
            return None if inner is None else not inner
        case ast.And(operands=operands):
            results = [decide(operand, facts) for operand in operands]
            return False if False in results else (None if None in results else True)
        case ast.Or(operands=operands):
            results = [decide(operand, facts) for operand in operands]
            return True if True in results else (None if None in results else False)
        case ast.Compare(operator="!="):
            equal = decide(ast.Compare(operator="==", left=node.left, right=node.right), facts)
            return None if equal is None else not equal
        case _:
            return _decide_leaf(node, facts)


def _decide_leaf(node: ast.Expression, facts: Facts) -> bool | None:
    if facts is FACTS and _asks_for_an_error(node):
        return False
    field = _known_field(node)
    if field is None:
        return None
    fact = facts[field]
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


def _asks_for_an_error(node: ast.Expression) -> bool:
    """Whether a test can only be true of an event that has one of the fields `error.*`."""
    match node:
        case ast.Compare(operator="==", left=ast.Field(name=name), right=ast.Literal(value=value)):
            return value is not None and name.startswith("error.")
        case ast.Compare(operator="==", left=ast.Literal(value=value), right=ast.Field(name=name)):
            return value is not None and name.startswith("error.")
        case ast.Like(operand=ast.Field(name=name)) | ast.Regex(operand=ast.Field(name=name)):
            return name.startswith("error.")
        case ast.In(operand=ast.Field(name=name), values=members):
            known = all(isinstance(m, ast.Literal) and m.value is not None for m in members)
            return known and name.startswith("error.")
        case _:
            return False


def _wanted(node: ast.Expression, facts: Facts) -> dict[str, list[str]]:
    """Collect the values of known fields that a condition asks for and no event has, for the message."""
    found: dict[str, set[str]] = {name: set() for name in facts}
    pending = [node]
    while pending:
        part = pending.pop()
        if isinstance(part, ast.And | ast.Or):
            pending.extend(part.operands)
        elif decide(part, facts) is False and (name := _known_field(part)):
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
    return {name: sorted(values) for name, values in found.items() if values}
