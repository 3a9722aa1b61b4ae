"""The canary: its own exec, and nobody else's."""

from __future__ import annotations

from events import exec_event, process

from sensor.canary import Canary
from sensor.event import Failure


def test_two_canaries_do_not_take_each_other() -> None:
    one, two = Canary(), Canary()
    event = exec_event(process(args=("true", one.literal.strip(b"\0").decode())))
    assert (two.take(event), one.take(event), one.seen, two.seen) == (False, True, 1, 0)


def test_an_unreadable_argv_is_nobodys() -> None:
    assert Canary().take(exec_event(args=None)) is False


def test_a_failed_exec_proves_nothing() -> None:
    canary = Canary()
    subject = process(args=("true", canary.literal.strip(b"\0").decode()))
    failure = Failure(error=2, executable=None, args=None)
    assert canary.take(exec_event(subject, failure=failure)) is False


def test_it_waits_until_its_exec_comes_through() -> None:
    canary = Canary()
    event = exec_event(process(args=("true", canary.literal.strip(b"\0").decode())))
    assert canary.await_(lambda _timeout: canary.take(event) and None, 5.0) is True


def test_it_says_when_nothing_comes() -> None:
    canary = Canary()
    assert canary.await_(lambda _timeout: None, 0.01) is False
    assert canary.sent == 1
