"""What must occur in an exec for a query to match it, for the filter in the kernel.

In: a compiled query. Out: byte strings, at least one of which occurs in the text of every exec the query
matches, or None where no such strings are known. The text is, folded to lower-case ASCII,

    NUL invoked name NUL executable's name NUL argv[0] NUL ... NUL argv[n] NUL

so that a NUL at an end of a literal stands for the end of a name or an argument. Only `process.name`,
`process.args` and `process.command_line` (the arguments joined with single spaces) are in that text.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from sensor.rules import ast, live, lucene

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator

    from sensor.rules.compile import Query

Literals: TypeAlias = frozenset[bytes]
Needed = TypeVar("Needed", bound="Hashable")
# The fields whose values stand in the text, each as a whole between two NULs.
_WHOLE = {"process.name", "process.args"}
_JOINED = "process.command_line"


def necessary_literals(query: Query, *, min_length: int = 3) -> Literals | None:
    """Give strings one of which is in the text of every exec that matters to the query.

    Each has `min_length` bytes or more, NULs included. None: every exec may matter. The empty set: none
    can. For a sequence an exec matters that any of its events, missing ones and `until` may match.
    """
    if query.inactive_reason and not query.replay_only:
        return frozenset()
    needed: set[bytes] = set()
    for event in filters_of(query.ast):
        if live.impossible(event):
            continue
        found = necessary(
            event.condition,
            lambda node: _leaf(node, min_length),
            lambda texts: (-min(map(len, texts), default=0), len(texts)),
        )
        if found is None:
            return None
        needed |= found
    return frozenset(needed)


def filters_of(tree: ast.Query) -> Iterator[ast.EventFilter]:
    """Give the event filter, or all those of a sequence."""
    if isinstance(tree.body, ast.EventFilter):
        yield tree.body
        return
    for term in tree.body.terms:
        yield term.filter
    if tree.body.until:
        yield tree.body.until.filter


def necessary(
    node: ast.Expression,
    leaf: Callable[[ast.Expression], frozenset[Needed] | None],
    cost: Callable[[frozenset[Needed]], Any],
) -> frozenset[Needed] | None:
    """Combine what leaves need: of an `and` the cheapest operand, of an `or` all operands together."""
    match node:
        case ast.And(operands=operands):
            usable = [
                n for operand in operands if (n := necessary(operand, leaf, cost)) is not None
            ]
            return min(usable, key=cost, default=None)
        case ast.Or(operands=operands):
            together: set[Needed] = set()
            for operand in operands:
                found = necessary(operand, leaf, cost)
                if found is None:
                    return None
                together |= found
            return frozenset(together)
        case ast.Not(operand=ast.Not(operand=inner)):
            return necessary(inner, leaf, cost)
        case _:
            return leaf(node)


def _leaf(node: ast.Expression, min_length: int) -> Literals | None:
    if live.decide(node) is False:
        return frozenset()
    found = _strings(node)
    if found is None:
        return None
    field, strings = found
    literals = set()
    for string in strings:
        # Where arguments are joined, a space may be the end of one: only what has no space is whole.
        pieces = re.split("[ \0]", string) if field == _JOINED else [string]
        try:
            encoded = [piece.encode("utf-8", "surrogateescape").lower() for piece in pieces]
        except UnicodeEncodeError:
            return None
        literal = max(encoded, key=len)
        if len(literal) < min_length:
            return None
        literals.add(literal)
    return frozenset(literals)


def _strings(node: ast.Expression) -> tuple[str, Iterable[str]] | None:
    """Give a field of the text and strings one of which is in it, NULs standing for its ends."""
    match node:
        case ast.Compare(
            operator="==", left=ast.Field(name=name), right=ast.Literal(value=str() as value)
        ):
            strings = [_glob_needs(value, wild=False)]
        case ast.Compare(
            operator="==", left=ast.Literal(value=str() as value), right=ast.Field(name=name)
        ):
            strings = [_glob_needs(value, wild=False)]
        case ast.In(operand=ast.Field(name=name), values=members):
            texts = [
                m.value for m in members if isinstance(m, ast.Literal) and isinstance(m.value, str)
            ]
            if len(texts) < len(members):
                return None
            strings = [_glob_needs(text, wild=False) for text in texts]
        case ast.Like(operand=ast.Field(name=name), patterns=patterns):
            strings = [_glob_needs(pattern, wild=True) for pattern in patterns]
        case ast.Regex(operand=ast.Field(name=name), patterns=patterns):
            return _regex_needs(name, patterns, insensitive=node.insensitive)
        case ast.Call(
            name="startsWith" | "endsWith" | "stringContains" as function,
            arguments=(ast.Field(name=name), ast.Literal(value=str() as value)),
        ):
            before = "\0" if function == "startsWith" else ""
            strings = [before + value + ("\0" if function == "endsWith" else "")]
        case _:
            return None
    return (name, strings) if name in _WHOLE or name == _JOINED else None


def _glob_needs(pattern: str, *, wild: bool) -> str:
    whole = f"\0{pattern}\0"
    return max(re.split("[*?]", whole), key=len) if wild else whole


def _regex_needs(
    name: str, patterns: tuple[str, ...], *, insensitive: bool
) -> tuple[str, Iterable[str]] | None:
    if name not in _WHOLE and name != _JOINED:
        return None
    end = lucene.Regex("", exact="\0")
    strings: set[str] = set()
    for pattern in patterns:
        regex = lucene.translate(pattern, insensitive=insensitive)
        necessary_here = lucene.concatenate([end, regex, end]).necessary()
        if necessary_here is None:
            return None
        strings |= necessary_here
    return name, strings


def requires_container(query: Query, *, live_only: bool = True) -> bool:
    """Tell whether only events with a `container.id` matter to the query.

    With `live_only` that is said of live events, without it of any document.
    """
    body = query.ast.body
    if isinstance(body, ast.Sequence) and any(
        _is_container_id(key) and not key.optional for key in body.by
    ):
        return True
    return all(
        _needs_container(event.condition, live_only=live_only) for event in filters_of(query.ast)
    )


def _is_container_id(node: ast.Expression) -> bool:
    return isinstance(node, ast.Field) and node.name == "container.id"


def _needs_container(node: ast.Expression, *, live_only: bool) -> bool:
    if live_only and live.decide(node) is False:
        return True
    match node:
        case ast.And(operands=operands):
            return any(_needs_container(operand, live_only=live_only) for operand in operands)
        case ast.Or(operands=operands):
            return all(_needs_container(operand, live_only=live_only) for operand in operands)
        case ast.Not(operand=ast.Compare(operator="==", left=left, right=right)):
            differs = ast.Compare(operator="!=", left=left, right=right)
            return _needs_container(differs, live_only=live_only)
        case ast.Not(operand=ast.Not(operand=inner)):
            return _needs_container(inner, live_only=live_only)
        case ast.Compare(operator="!=", left=left, right=right):
            return (_is_container_id(left) and ast.is_null(right)) or (
                _is_container_id(right) and ast.is_null(left)
            )
        case ast.Compare(operator="==", left=left, right=right):
            return any(
                _is_container_id(one)
                and isinstance(other, ast.Literal)
                and isinstance(other.value, str)
                for one, other in ((left, right), (right, left))
            )
        case ast.In(operand=operand) | ast.Like(operand=operand) | ast.Regex(operand=operand):
            return _is_container_id(operand)
        case _:
            return False
