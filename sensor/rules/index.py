"""Which rules are worth evaluating for a document.

In: compiled queries, then documents. Out: the positions of the queries that may match; never fewer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sensor.rules.compile import Query


class RuleIndex:
    """An index over queries, by the order they were given in."""

    def __init__(self, queries: Sequence[Query]) -> None:
        self._all = range(len(queries))

    def candidates(self, document: dict[str, Any]) -> Iterable[int]:
        """Give the positions of all queries that could match."""
        del document
        return self._all
