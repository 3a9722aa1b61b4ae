"""How many records are taken from the rings at once."""

from __future__ import annotations

import ctypes as ct
import errno

from sensor.kernel.ring import BATCH_MAX, Rings


def test_a_batch_ends_when_it_is_full_and_the_record_at_hand_is_in_it() -> None:
    subject = Rings.__new__(Rings)  # without a ring: what libbpf calls is looked at
    subject._batch = []
    record = ct.create_string_buffer(b"12345678", 8)
    answers = [subject._take(1, None, ct.addressof(record), 8) for _ in range(BATCH_MAX)]
    assert answers == [0] * (BATCH_MAX - 1) + [-errno.ECANCELED]
    assert subject._batch == [(1, b"12345678")] * BATCH_MAX
