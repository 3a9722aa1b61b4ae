"""What must occur in an exec for a query to match it, for the filter in the kernel.

In: a compiled query. Out: for each of its events, byte strings, at least one of which occurs in the text
of every exec the event matches, or None where no such strings are known. The text is, folded to
lower-case ASCII,

    NUL executable's name NUL invoked name NUL argv[0] NUL ... NUL argv[n] NUL

so that a NUL at an end of a literal stands for the end of a name or an argument. Where paths are asked
for, there comes behind it: NUL, the executable's name and those of its folders up to the root, each ended
by a NUL, and one more NUL. `process.name`, `process.args`, `process.command_line` (the arguments joined with single
spaces) and, as a path, `process.executable` are in that text, and no other field.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from sensor.rules import ast, live, lucene

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable

    from sensor.rules.compile import Query

# A byte string, and whether it is looked for in the executable's path.
Literal: TypeAlias = tuple[bytes, bool]
Needed = TypeVar("Needed", bound="Hashable")
# The fields whose values stand in the text, each as a whole between two NULs.
_WHOLE = {"process.name", "process.args"}
_JOINED = "process.command_line"
_PATH = "process.executable"
_FEW = 8


@dataclass(frozen=True, slots=True)
class Needs:
    """What an exec must have to matter to an event of a query.

    `literals`: one of them is in its text; None: that may be without any, none: no exec matters.
    `paths`: some of them are looked for in the executable's path. `container`: it has a `container.id`.
    """

    literals: frozenset[bytes] | None
    paths: bool
    container: bool


def needs_of(
    query: Query, *, min_length: int = 2, facts: live.Facts = live.FACTS
) -> tuple[Needs, ...]:
    """Say for each event of the query that may occur what an exec needs to matter to it.

    `facts` are those of the execs that are asked about: all that succeed, or that fail. Each literal has `min_length` bytes or more, NULs included. For a sequence an exec matters that any
    of its events, missing ones and `until` may match.
    """
    if query.inactive_reason and not query.replay_only:
        return ()
    joined = _joined_by_container(query)
    found = []
    for event in ast.filters_of(query.ast):
        if not live.is_possible(event, facts):
            continue
        literals = necessary(
            event.condition,
            lambda node: _leaf(node, min_length, facts),
            lambda some: (
                -min((len(text) for text, _ in some), default=0),
                any(in_path for _, in_path in some),
                len(some),
            ),
        )
        found.append(
            Needs(
                None if literals is None else frozenset(text for text, _ in literals),
                any(in_path for _, in_path in literals or ()),
                joined or _needs_container(event.condition, facts),
            )
        )
    return tuple(found)


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


def _leaf(node: ast.Expression, min_length: int, facts: live.Facts) -> frozenset[Literal] | None:
    if live.decide(node, facts) is False:
        return frozenset()
    found = _strings(node)
    if found is None:
        return None
    field, strings = found
    if field == _PATH and facts is live.FAILED:
        return None  # the path that was asked for is in the text as it was given, or in part
    literals = set()
    for string in strings:
        match field:
            case "process.executable":
                pieces = _path_pieces(string)
            case "process.command_line":
                # A space may be the end of an argument: only what has no space is whole.
                pieces = re.split("[ \0]", string)
            case _:
                pieces = [string]
        try:
            encoded = [piece.encode("utf-8", "surrogateescape").lower() for piece in pieces]
        except UnicodeEncodeError:
            return None
        literal = max(encoded, key=len, default=b"")
        if len(literal) < min_length or not literal.strip(b"\0"):
            return None
        literals.add((literal, field == _PATH))
    # Many short strings are in nearly every text.
    if len(literals) > _FEW and min(len(text) for text, _ in literals) <= min_length:
        return None
    return frozenset(literals)


def _path_pieces(string: str) -> list[str]:
    """Turn a piece of a path, NULs standing for its ends, into pieces of the text: leaf first."""
    first, *rest = string.strip("\0").split("/")
    starts, ends = string.startswith("\0"), string.endswith("\0")
    if "" in rest[:-1] or (starts and first):
        return []  # no path is like this
    if not rest:
        return [first + "\0" * ends]
    *whole, last = rest
    pieces = ["\0" + last + "\0" * ends]
    if ends:
        whole.append(last)
    if whole:
        pieces.append("\0".join(["", *reversed(whole), ""]) + "\0" * starts)
    if not starts:
        pieces.append(first + "\0")
    return pieces


def _strings(node: ast.Expression) -> tuple[str, Iterable[str]] | None:
    """Give a field of the text and strings one of which is in it, NULs standing for its ends."""
    match node:
        case ast.Compare(
            operator="==", left=ast.Field(name=name), right=ast.Literal(value=str() as value)
        ):
            strings = [_glob_needs(name, value, wild=False)]
        case ast.Compare(
            operator="==", left=ast.Literal(value=str() as value), right=ast.Field(name=name)
        ):
            strings = [_glob_needs(name, value, wild=False)]
        case ast.In(operand=ast.Field(name=name), values=members):
            texts = [
                m.value for m in members if isinstance(m, ast.Literal) and isinstance(m.value, str)
            ]
            if len(texts) < len(members):
                return None
            strings = [_glob_needs(name, text, wild=False) for text in texts]
        case ast.Like(operand=ast.Field(name=name), patterns=patterns):
            strings = [_glob_needs(name, pattern, wild=True) for pattern in patterns]
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
    return (name, strings) if name in _WHOLE or name in (_JOINED, _PATH) else None


def _glob_needs(name: str, pattern: str, *, wild: bool) -> str:
    """Give the longest piece that has no wildcard; for a path, that of which the longest remains."""
    whole = f"\0{pattern}\0"
    if not wild:
        return whole
    pieces = re.split("[*?]", whole)
    if name == _PATH:
        return max(pieces, key=lambda piece: max(map(len, _path_pieces(piece)), default=0))
    return max(pieces, key=len)


def _regex_needs(
    name: str, patterns: tuple[str, ...], *, insensitive: bool
) -> tuple[str, Iterable[str]] | None:
    if name not in _WHOLE and name != _JOINED:
        return None
    only = frozenset(["\0"])
    end = lucene.Regex("", exact="\0", starts=only, stops=only)
    strings: set[str] = set()
    for pattern in patterns:
        regex = lucene.translate(pattern, insensitive=insensitive)
        necessary_here = lucene.concatenate([end, regex, end]).necessary(wide=True)
        if necessary_here is None:
            return None
        strings |= necessary_here
    return name, strings


def requires_container(query: Query, *, live_only: bool = True) -> bool:
    """Tell whether only events with a `container.id` matter to the query.

    With `live_only` that is said of live events, without it of any document.
    """
    return _joined_by_container(query) or all(
        _needs_container(event.condition, live.FACTS if live_only else None)
        for event in ast.filters_of(query.ast)
    )


def _joined_by_container(query: Query) -> bool:
    body = query.ast.body
    return isinstance(body, ast.Sequence) and any(
        _is_of_container(key) and not key.optional for key in body.by
    )


def _is_of_container(node: ast.Expression) -> bool:
    """Whether this is a field that is only there in a container."""
    return (
        isinstance(node, ast.Field)
        and node.name.startswith("container.")
        and not node.name.startswith("container.identity.")
    )


def _needs_container(node: ast.Expression, facts: live.Facts | None) -> bool:
    if facts is not None and live.decide(node, facts) is False:
        return True
    match node:
        case ast.And(operands=operands):
            return any(_needs_container(operand, facts) for operand in operands)
        case ast.Or(operands=operands):
            return all(_needs_container(operand, facts) for operand in operands)
        case ast.Not(operand=ast.Compare(operator="==", left=left, right=right)):
            differs = ast.Compare(operator="!=", left=left, right=right)
            return _needs_container(differs, facts)
        case ast.Not(operand=ast.Not(operand=inner)):
            return _needs_container(inner, facts)
        case ast.Compare(operator="!=", left=left, right=right):
            return (_is_of_container(left) and ast.is_null(right)) or (
                _is_of_container(right) and ast.is_null(left)
            )
        case ast.Compare(operator="==", left=left, right=right):
            return any(
                _is_of_container(one) and isinstance(other, ast.Literal) and other.value is not None
                for one, other in ((left, right), (right, left))
            )
        case ast.Field():
            return _is_of_container(node)
        case ast.In(operand=operand) | ast.Like(operand=operand) | ast.Regex(operand=operand):
            return _is_of_container(operand)
        case _:
            return False
