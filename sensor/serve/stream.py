"""New and changed alerts as server-sent events: a filter and a place to go on from in, bytes out.

A thread follows the store for each reader; one that does not keep up is told to load the list again.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sensor.store.errors import StoreError
from sensor.store.follow import follow
from sensor.store.records import Position

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sensor.serve.desk import Desk
    from sensor.store.filter import Filter

READERS_MAX: Final = 16
_QUEUE: Final = 2000
_BEAT_S: Final = 15.0
RELOAD: Final = b"event: reload\ndata: {}\n\n"


class Streams:
    """Counts the readers, and makes their streams."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._readers = 0

    @property
    def is_full(self) -> bool:
        """Whether no more readers are taken."""
        return self._readers >= READERS_MAX

    async def events(self, where: Filter, change: int) -> AsyncIterator[bytes]:
        """What changes after `change`, until the reader is gone."""
        self._readers += 1
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[bytes] = asyncio.Queue(_QUEUE)
        ended = threading.Event()
        arguments = (
            where,
            change,
            ended,
            lambda data: loop.call_soon_threadsafe(_put, queue, data),
        )
        threading.Thread(target=self._follow, args=arguments, name="follow", daemon=True).start()
        try:
            yield b"retry: 2000\n\n"
            while True:
                try:
                    data = await asyncio.wait_for(queue.get(), _BEAT_S)
                except TimeoutError:
                    # A line that says nothing shows that the other side is still there.
                    data = b": \n\n"
                yield data
                if data == RELOAD:
                    return
        finally:
            self._readers -= 1
            ended.set()

    def _follow(self, where: Filter, change: int, ended: threading.Event, put: Any) -> None:
        after = Position(change=change, sequence=0)
        try:
            changes = follow(self._desk.path, where, after=after, updates=True, wait=ended.wait)
            for _, summaries in changes:
                for each in summaries:
                    row = msgspec.json.encode(self._desk.row(each))
                    put(b"id: %d\nevent: alert\ndata: %s\n\n" % (each.change, row))
                if ended.is_set():
                    return
        except StoreError:
            put(RELOAD)
        except RuntimeError:
            return  # the loop has ended


def _put(queue: asyncio.Queue[bytes], data: bytes) -> None:
    if queue.full():
        while not queue.empty():
            queue.get_nowait()
        data = RELOAD
    queue.put_nowait(data)
