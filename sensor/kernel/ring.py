"""The rings: records from the kernel, copied out one by one, in the order they were written.

In: the ring maps' descriptors. Out: batches of records as `bytes`. libbpf does the reading, for its memory
barriers are right on every architecture.
"""

from __future__ import annotations

import ctypes as ct
import errno
import os
from functools import partial

from sensor.errors import ProbeError
from sensor.kernel.layout import Header
from sensor.kernel.libbpf import SAMPLE_CALLBACK, libbpf

# Records before the caller gets a turn; the kernel goes on filling meanwhile. They are held together, up to
# 8 KiB each.
BATCH_MAX = 128

_TIME = slice(Header.exec_ns.offset + Header.exec_ns.size - 1, Header.exec_ns.offset - 1, -1)


def by_time(batch: list[tuple[int, bytes]]) -> list[tuple[int, bytes]]:
    """The records of several rings in the order of their execs; those of one exec stay together."""
    return sorted(batch, key=lambda entry: entry[1][_TIME])


class Rings:
    """Opens the rings: this asks the kernel about the maps and so may need privileges; polling not.

    A record comes with the number of its ring, in the order of `fds`: records of one exec follow
    each other within a ring only. The first goes before the second. A third, `apart`, has its turn in
    each batch, behind the others, however full they are. `drained`: the last poll left nothing in the
    others.
    """

    def __init__(self, *fds: int, apart: int | None = None) -> None:
        self._lib = libbpf()
        self._batch: list[tuple[int, bytes]] = []
        self._limit = BATCH_MAX
        self.drained = True
        fds = fds if apart is None else (*fds, apart)
        self.count = len(fds)
        # kept: libbpf holds no reference to them
        self._callbacks = [SAMPLE_CALLBACK(partial(self._take, ring)) for ring in range(len(fds))]
        self._rings = self._lib.ring_buffer__new(fds[0], self._callbacks[0], None, None)
        if not self._rings:
            raise ProbeError(f"the ring cannot be opened: {os.strerror(ct.get_errno())}")
        for fd, callback in zip(fds[1:], self._callbacks[1:], strict=True):
            result = self._lib.ring_buffer__add(self._rings, fd, callback, None)
            if result < 0:
                raise ProbeError(f"a ring cannot be opened: {os.strerror(-result)}")
        # Once more, for its turn; with the others it wakes who waits for any of them.
        self._apart = None
        if apart is not None:
            self._apart = self._lib.ring_buffer__new(apart, self._callbacks[-1], None, None)
            if not self._apart:
                raise ProbeError(f"a ring cannot be opened: {os.strerror(ct.get_errno())}")

    def _take(self, ring: int, _context: object, data: int, size: int) -> int:
        self._batch.append((ring, ct.string_at(data, size)))
        # A negative answer ends the poll; the record at hand counts as taken.
        return -errno.ECANCELED if len(self._batch) >= self._limit else 0

    def poll(self, timeout_s: float) -> list[tuple[int, bytes]]:
        """Waits for records and returns those there are; empty after the timeout or a signal.

        Raises `ProbeError` when the rings can no longer be read.
        """
        result = self._lib.ring_buffer__poll(self._rings, int(timeout_s * 1000))
        if result == 0:
            # The kernel wakes a reader only for the record right behind what was read: should a
            # wake-up ever be missed, there would be no other. A look costs nothing.
            result = self._lib.ring_buffer__consume(self._rings)
        self._check(result)
        self.drained = len(self._batch) < BATCH_MAX
        if self._apart:
            self._limit = len(self._batch) + BATCH_MAX // 4
            self._check(self._lib.ring_buffer__consume(self._apart))
            self._limit = BATCH_MAX
        batch, self._batch = self._batch, []
        return batch

    def _check(self, result: int) -> None:
        if result < 0 and result not in (-errno.EINTR, -errno.ECANCELED):
            raise ProbeError(f"the ring cannot be read: {os.strerror(-result)}")

    def close(self) -> None:
        for rings in filter(None, (self._rings, self._apart)):
            self._lib.ring_buffer__free(rings)
        self._rings = self._apart = None
