"""Which rules are worth evaluating for a document.

In: compiled queries, then documents. Out: the positions of the queries that may match, never fewer. Of
each query values are kept one of which must be in the document, such as the names it asks for; a query
that needs none is always a candidate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from sensor.rules import ast, semantics, values
from sensor.rules.literals import filters_of, necessary, requires_container
from sensor.rules.patterns import fold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sensor.rules.compile import Query

# A field, a value, and whether the value is folded to lower case.
Needed: TypeAlias = tuple[str, str, bool]

# Values that many execs have, so that asking for them tells little.
_COMMON = {"sh", "bash", "dash", "ash", "busybox", "/bin/sh", "-c"}
# Every event has these, and most the same values.
_COSTLY_FIELDS = ("event.", "host.", "data_stream.", "agent.", "ecs.")
_MAX_REMEMBERED = 4096


class RuleIndex:
    """An index over queries, by the order they were given in."""

    def __init__(self, queries: Sequence[Query]) -> None:
        # Sets of queries are integers with one bit a query: to unite two is one operation.
        self._always = 0
        self._in_containers = 0
        tables: dict[str, tuple[dict[str, int], dict[str, int]]] = {}
        for position, query in enumerate(queries):
            bit = 1 << position
            if requires_container(query, live_only=False):
                self._in_containers |= bit
            needed = _needed_values(query)
            if needed is None:
                self._always |= bit
                continue
            for field, value, folded in needed:
                table = tables.setdefault(field, ({}, {}))[folded]
                table[value] = table.get(value, 0) | bit
        self._tables = [
            (semantics.getter(field), exact, folded) for field, (exact, folded) in tables.items()
        ]
        self._container_id = semantics.getter("container.id")
        self._remembered: dict[int, tuple[int, ...]] = {}

    def candidates(self, document: dict[str, Any]) -> Sequence[int]:
        """Give the positions of all queries that could match, in order."""
        found = self._always
        for get, exact, folded in self._tables:
            raw = get(document)
            if raw is None:
                continue
            for value in (raw,) if type(raw) is str else semantics.texts(raw):
                if value in exact:
                    found |= exact[value]
                if folded and (lower := fold(value)) in folded:
                    found |= folded[lower]
        if found & self._in_containers and self._container_id(document) is None:
            found &= ~self._in_containers
        positions = self._remembered.get(found)
        return positions if positions is not None else self._positions(found)

    def _positions(self, found: int) -> tuple[int, ...]:
        positions = tuple(n for n in range(found.bit_length()) if found >> n & 1)
        # The sets that occur are few; who makes them many only makes them be counted out again.
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[found] = positions
        return positions


def _needed_values(query: Query) -> frozenset[Needed] | None:
    together: set[Needed] = set()
    for event in filters_of(query.ast):
        needed = necessary(event.condition, _leaf, _cost)
        if event.category is not None:
            category = frozenset([("event.category", event.category, False)])
            needed = category if needed is None else min(needed, category, key=_cost)
        if needed is None:
            return None
        together |= needed
    # Only documents of other kinds would be spared, at the price of looking: not worth it.
    if any(_field_cost(field) for field, _, _ in together):
        return None
    return frozenset(together)


def _cost(needed: frozenset[Needed]) -> int:
    return sum(1 + 100 * (value in _COMMON) + _field_cost(field) for field, value, _ in needed)


def _field_cost(field: str) -> int:
    return 10_000 if field.startswith(_COSTLY_FIELDS) else 0


def _leaf(node: ast.Expression) -> frozenset[Needed] | None:
    match node:
        case ast.Compare(operator="==", left=ast.Field(name=name), right=ast.Literal(value=value)):
            found = [value]
        case ast.Compare(operator="==", left=ast.Literal(value=value), right=ast.Field(name=name)):
            found = [value]
        case ast.In(operand=ast.Field(name=name), values=members):
            found = [m.value for m in members if isinstance(m, ast.Literal)]
            if len(found) < len(members):
                return None
        case ast.Like(operand=ast.Field(name=name), patterns=patterns):
            if any("*" in pattern or "?" in pattern for pattern in patterns):
                return None
            found = list(patterns)
        case _:
            return None
    insensitive = isinstance(node, ast.In | ast.Like) and node.insensitive
    texts = [values.text_of(value) for value in found if isinstance(value, str | bool)]
    if len(texts) < len(found):
        return None  # numbers are equal under several texts
    return frozenset(
        (name, fold(text) if insensitive else text, insensitive)
        for text in texts
        if text is not None
    )
