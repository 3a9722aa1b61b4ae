"""A bounded queue of documents between threads: what does not fit drops the least severe first."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sensor.alerts.sinks.protocol import Outgoing


class Outbox:
    """First in, first out. When it is full, the oldest of the lowest severity makes room.

    `put` never blocks: the lock is held for a few instructions only, by either side.
    """

    def __init__(self, *, max_items: int = 10_000, max_bytes: int = 16 << 20) -> None:
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._condition = threading.Condition(threading.Lock())
        self._by_severity: dict[int, deque[tuple[int, Outgoing]]] = {}
        self._next = 0
        self._items = 0
        self._bytes = 0
        self._woken = False

    def __len__(self) -> int:
        return self._items

    def put(self, item: Outgoing) -> list[Outgoing]:
        """Queue the item; what had to go for it is returned, which may be the item itself."""
        with self._condition:
            self._by_severity.setdefault(item.severity, deque()).append((self._next, item))
            self._next += 1
            self._items += 1
            self._bytes += len(item.payload)
            dropped = []
            while self._items > self._max_items or (
                self._bytes > self._max_bytes and self._items > 1
            ):
                dropped.append(self._take(min(self._by_severity)))
            self._condition.notify()
        return dropped

    def take(self, limit: int) -> list[Outgoing]:
        """Up to `limit` items, oldest first; an empty list where there are none."""
        with self._condition:
            return [self._take(self._oldest()) for _ in range(min(limit, self._items))]

    def peek(self) -> list[Outgoing]:
        """All that is queued, oldest first, left where it is."""
        with self._condition:
            queued = [each for items in self._by_severity.values() for each in items]
        queued.sort(key=lambda each: each[0])
        return [item for _, item in queued]

    def wait(self, timeout: float | None, ready: Callable[[], bool]) -> None:
        """Block until there is an item, `ready` says so after a `wake`, or the time is up."""
        with self._condition:
            self._condition.wait_for(lambda: self._items or self._woken or ready(), timeout)
            self._woken = False

    def wake(self) -> None:
        """Let a waiting thread look around."""
        with self._condition:
            self._woken = True
            self._condition.notify_all()

    def _oldest(self) -> int:
        return min(self._by_severity, key=lambda severity: self._by_severity[severity][0][0])

    def _take(self, severity: int) -> Outgoing:
        items = self._by_severity[severity]
        _, item = items.popleft()
        if not items:
            del self._by_severity[severity]
        self._items -= 1
        self._bytes -= len(item.payload)
        return item
