"""Which rules are worth evaluating for a document.

In: compiled queries, then documents. Out: the positions of the queries that may match, never fewer.

Nearly all that rules ask for are names and arguments, as whole texts. So these are looked up first, each
name and argument of the document once, in a table that says which tests it meets. After that the
conditions of all rules are one function, in which most tests are already answered and no other is made
twice. A single-event query is a candidate only where it matches, a sequence for each event that it takes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sensor.rules import ast
from sensor.rules.fields import texts
from sensor.rules.writer import Writer, event_condition

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sensor.rules.compile import Query

_FIELDS = ("process.name", "process.args")
_MAX_REMEMBERED = 4096


class RuleIndex:
    """An index over queries, by the order they were given in."""

    def __init__(self, queries: Sequence[Query]) -> None:
        self._all = tuple(range(len(queries)))
        self._evaluate = _write(queries)
        self._remembered: dict[int, tuple[int, ...]] = {0: ()}

    def candidates(self, document: dict[str, Any]) -> Sequence[int]:
        """Give the positions of all queries that could match, in order."""
        try:
            found = self._evaluate(document)
        except Exception:  # noqa: BLE001 (whichever query it was, all are candidates, and it will show)
            return self._all
        positions = self._remembered.get(found)
        return positions if positions is not None else self._positions(found)

    def _positions(self, found: int) -> tuple[int, ...]:
        positions = tuple(n for n in self._all if found >> n & 1)
        # The sets that occur are few; who makes them many only makes them be counted out again.
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[found] = positions
        return positions


def _write(queries: Sequence[Query]) -> Callable[[dict[str, Any]], int]:
    """Write the function from a document to the candidates, an integer with one bit a query."""
    wanted = []
    for query in queries:
        conditions = [event_condition(event) for event in ast.filters_of(query.ast)]
        wanted.append(ast.Or(operands=tuple(conditions)) if len(conditions) > 1 else conditions[0])
    writer = _TableWriter(wanted)
    lines = ["found = 0"]
    for position, condition in enumerate(wanted):
        lines.append(f"if {writer.condition(condition)}: found |= {1 << position}")
    lines.append("return found")
    return writer.function("\n".join([*writer.lookups(), *lines]))


class _TableWriter(Writer):
    """Writes tests for whole names and arguments as questions to a set, `met`, of numbers of tests."""

    def __init__(self, conditions: Sequence[ast.Expression]) -> None:
        super().__init__(conditions)
        self._tables: dict[str, dict[str, set[int]]] = {field: {} for field in _FIELDS}
        self._tests: dict[ast.Expression, int] = {}

    def lookups(self) -> list[str]:
        """Write what fills the set, after all conditions were written."""
        lines = ["met = set()"]
        self.names["look_up"] = _look_up
        for number, (field, table) in enumerate(self._tables.items()):
            if table:
                # Values with the same tests share one set.
                shared: dict[frozenset[int], frozenset[int]] = {}
                self.names[f"table{number}"] = {
                    text: shared.setdefault(frozenset(tests), frozenset(tests))
                    for text, tests in table.items()
                }
                lines.append(f"look_up({self.value(field)[0]}, table{number}, met)")
        return lines

    def leaf(self, node: ast.Expression) -> str:
        found = _whole_texts(node)
        if found is None:
            return super().leaf(node)
        field, wanted = found
        number = self._tests.setdefault(node, len(self._tests))
        for text in wanted:
            self._tables[field].setdefault(text, set()).add(number)
        return f"({number} in met)"


def _look_up(raw: Any, table: dict[str, frozenset[int]], met: set[int]) -> None:
    if raw is None:
        return
    for value in (raw,) if type(raw) is str else raw if type(raw) is list else texts(raw):
        if type(value) is str:
            if value in table:
                met |= table[value]
        else:
            for text in texts(value):
                met |= table.get(text, frozenset())


def _whole_texts(node: ast.Expression) -> tuple[str, list[str]] | None:
    """Give the field and the texts, one of which it must have, where that is all the node asks."""
    found: list[Any]
    match node:
        case ast.Compare(operator="==", left=ast.Field(name=name), right=ast.Literal(value=value)):
            found = [value]
        case ast.Compare(operator="==", left=ast.Literal(value=value), right=ast.Field(name=name)):
            found = [value]
        case ast.In(operand=ast.Field(name=name), values=members, insensitive=False):
            found = [m.value if isinstance(m, ast.Literal) else None for m in members]
        case ast.Like(operand=ast.Field(name=name), patterns=patterns, insensitive=False) if (
            not any("*" in pattern or "?" in pattern for pattern in patterns)
        ):
            found = list(patterns)
        case _:
            return None
    wanted = [value for value in found if isinstance(value, str)]
    return (name, wanted) if name in _FIELDS and len(wanted) == len(found) else None
