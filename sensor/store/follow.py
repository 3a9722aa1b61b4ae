"""Alerts as they come: the store's path in, each new one out, soon after it was written.

A look costs some microseconds while nothing is written: SQLite's own counter is read from shared memory.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from sensor.store.errors import StoreMissingError
from sensor.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from sensor.store.filter import Filter
    from sensor.store.records import Position, Summary

_LOOK_S: Final = 0.25
_BATCH: Final = 500


def follow(
    path: Path,
    where: Filter,
    *,
    after: Position,
    updates: bool = False,
    wait: Callable[[float], object] = time.sleep,
) -> Iterator[tuple[Store, list[Summary]]]:
    """Alerts that were written after a position, with the store to read them from.

    With `updates` an alert comes again when more became known of it. `wait` is called between looks, and
    ends it with a true answer, as an `Event.wait` that is set. A store that was replaced is opened again, one that is gone is waited for. Raises StoreError.
    """
    store: Store | None = None
    version = -1
    change, sequence = after.change, after.sequence
    try:
        while True:
            if store is not None and not store.is_current():
                store.close()
                store, sequence = None, 0
            if store is None:
                try:
                    store = Store.open(path)
                    version = -1
                except StoreMissingError:
                    if wait(_LOOK_S):
                        return
                    continue
            now = store.version()
            if now == version:
                if wait(_LOOK_S):
                    return
                continue
            version = now
            while new := store.changed_after(change, where, limit=_BATCH):
                change = new[-1].change
                # One that is new may have an update already.
                wanted = [each for each in new if updates or each.sequence > sequence]
                sequence = max(sequence, *(each.sequence for each in new))
                if wanted:
                    yield store, wanted
    finally:
        if store is not None:
            store.close()
