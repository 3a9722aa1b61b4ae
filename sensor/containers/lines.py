"""Chunks of a stream in, its lines out, however long a line the other side sends."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def bounded_lines(chunks: Iterable[bytes], limit: int) -> Iterator[bytes | None]:
    """Yield each line without its end; None in place of one longer than `limit` bytes.

    Never holds more than `limit` bytes and one chunk. An unfinished last line is not yielded.
    """
    pending = bytearray()
    is_over = False
    for chunk in chunks:
        *ended, rest = chunk.split(b"\n")
        for part in ended:
            if is_over or len(pending) + len(part) > limit:
                yield None
            else:
                yield bytes(pending + part)
            pending.clear()
            is_over = False
        if is_over or len(pending) + len(rest) > limit:
            pending.clear()
            is_over = True
        else:
            pending += rest
