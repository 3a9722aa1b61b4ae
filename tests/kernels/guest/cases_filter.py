"""Cases: the filter finds what it must and keeps the rest in the kernel; losses are counted."""

from __future__ import annotations

import ctypes as ct
import json
import os
from collections.abc import Callable

from harness import MATCHING, OTHERS, Guest, in_child

from sensor.kernel import privileges
from sensor.kernel.automaton import build
from sensor.kernel.filter import Filter
from sensor.kernel.layout import Mode
from sensor.kernel.libbpf import libbpf

PADDING = ["p" * 1000] * 120
BIG = ["b" * 1000] * 200


def found_after_padding(guest: Guest) -> None:
    """the filter finds a whole argument behind 120 KiB of others, in any case"""
    mark = guest.mark()
    with guest.filtering(b"\0needle-at-the-end\0"), guest.counting() as moved:
        argv = guest.busybox(mark, *PADDING, "Needle-AT-the-End")
        assert guest.event(mark, MATCHING).args == tuple(argv)
        assert moved() == {"execs": 1, "sent": 1}


def found_in_the_name(guest: Guest) -> None:
    """the filter finds the name of the executable"""
    with guest.filtering(b"\0busybox\0"):
        mark = guest.mark()
        guest.busybox(mark)
        guest.event(mark, MATCHING)


def not_matching_is_kept_back(guest: Guest) -> None:
    """execs without a match are counted as filtered and not told, short or 120 KiB long"""
    needle, other = guest.mark(), guest.mark()
    literal = b"\0" + needle.encode() + b"\0"
    with guest.filtering(literal), guest.counting() as moved:
        guest.busybox(other)
        guest.busybox(other, needle + "x")
        guest.busybox(other, *PADDING)
        guest.busybox(needle)
        guest.event(needle)
        assert guest.with_mark(other) == []
        assert moved() == {"execs": 4, "filtered": 3, "sent": 1}


def others_have_their_own_ring(guest: Guest) -> None:
    """when all execs are asked for, those without a match come by a ring of their own"""
    needle, other = guest.mark(), guest.mark()
    with guest.filtering(needle.encode(), mode=Mode.ALL):
        guest.busybox(other)
        guest.busybox(needle)
        guest.event(other, OTHERS)
        guest.event(needle, MATCHING)


def others_never_displace_matches(guest: Guest) -> None:
    """a flood of execs without a match is shed and counted; a match behind it is told"""
    needle, other = guest.mark(), guest.mark()
    with guest.filtering(needle.encode(), mode=Mode.ALL), guest.counting() as moved:
        execs = _flood(lambda: guest.busybox(other), lambda: moved().get("shed", 0) >= 3)
        guest.busybox(needle)
        guest.event(needle, MATCHING)
        counted = moved()
        assert counted["execs"] == execs + 1
        assert counted["execs"] == counted["sent"] + counted["shed"]
        guest.wait(other, counted["sent"] - 1, OTHERS)


def a_full_ring_is_counted(guest: Guest) -> None:
    """execs that find the ring full are counted as lost; what was sent can be read, then all goes on"""
    mark, after = guest.mark(), guest.mark()
    with guest.counting() as moved:
        execs = _flood(lambda: guest.busybox(mark, *BIG), lambda: moved().get("ring_full", 0) >= 3)
        counted = moved()
        assert counted["execs"] == execs
        assert counted["execs"] == counted["sent"] + counted["ring_full"]
        for event in guest.wait(mark, counted["sent"]):
            assert event.args is not None
            assert event.args_truncated == (event.args[3:] != tuple(BIG))
    guest.busybox(after)
    guest.event(after)


def _flood(run: Callable[[], object], is_enough: Callable[[], bool]) -> int:
    """Runs something, without reading the rings, until it is enough; returns how many times."""
    for number in range(1, 2000):
        run()
        if is_enough():
            return number
    raise AssertionError("nothing was ever lost")


def without_privileges(guest: Guest) -> dict[str, object]:
    """as nobody, without capabilities: counters are read, the filter is changed, the ring is read"""
    needle, other = guest.mark(), guest.mark()
    said, told = os.pipe()

    def as_nobody() -> None:
        left = privileges.drop("nobody")
        assert left.are_none
        assert left.uid == 65534
        key = ct.c_uint32()
        descriptor = guest.probe._descriptors["sn_stats"]
        refused = libbpf().bpf_map_get_next_key(descriptor, None, ct.byref(key)) != 0
        guest.probe.set_filter(Filter.searching(build([needle.encode()])))
        guest.probe.set_mode(Mode.MATCHING)
        with guest.counting() as moved:
            guest.busybox(other)
            guest.busybox(needle)
            event = guest.event(needle, MATCHING)
            assert event.process.uid == 65534
            counted = moved()
        os.write(told, json.dumps({"counted": counted, "bpf_refused": refused}).encode())

    in_child(as_nobody)
    report = json.loads(os.read(said, 1 << 16))
    os.close(said)
    os.close(told)
    try:
        assert report["counted"] == {"execs": 2, "filtered": 1, "sent": 1}
        with guest.counting() as moved:  # the child's filter is still at work
            guest.busybox(other)
            assert moved() == {"execs": 1, "filtered": 1}
    finally:
        guest.no_filter()
    return {"bpf_refused_to_nobody": report["bpf_refused"]}
