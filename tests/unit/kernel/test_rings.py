"""How many records are taken from the rings at once."""

from __future__ import annotations

import ctypes as ct
import errno

from records import args_record, exec_record

from sensor.kernel.ring import BATCH_MAX, Rings, by_time


def test_a_batch_ends_when_it_is_full_and_the_record_at_hand_is_in_it() -> None:
    subject = Rings.__new__(Rings)  # without a ring: what libbpf calls is looked at
    subject._batch, subject._limit = [], BATCH_MAX
    record = ct.create_string_buffer(b"12345678", 8)
    answers = [subject._take(1, None, ct.addressof(record), 8) for _ in range(BATCH_MAX)]
    assert answers == [0] * (BATCH_MAX - 1) + [-errno.ECANCELED]
    assert subject._batch == [(1, b"12345678")] * BATCH_MAX


def test_records_of_several_rings_come_in_the_order_of_their_execs() -> None:
    part, whole = args_record(b"x", exec_ns=0x1FF), exec_record(exec_ns=0x1FF)
    earlier, later = exec_record(exec_ns=0x100), exec_record(exec_ns=0x2000000000)
    batch = [(0, later), (1, part), (1, whole), (2, earlier)]
    assert by_time(batch) == [(2, earlier), (1, part), (1, whole), (0, later)]
