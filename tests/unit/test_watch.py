"""The sensor's watch over itself: losses that grow, and a canary that stays away."""

from __future__ import annotations

from typing import Any

import pytest

from sensor.canary import Canary
from sensor.watch import Watch


class Bird(Canary):
    """Comes back only when told to."""

    def send(self) -> None:
        self.sent += 1


def watch(counters: dict[str, int], canary: Canary, interval_s: float = 60) -> Watch:
    return Watch(counters=lambda: counters, canary=canary, common={}, canary_interval_s=interval_s)


def codes(documents: list[dict[str, Any]]) -> list[str]:
    return [document["rule"]["id"] for document in documents]


def test_a_loss_is_said_once_with_what_grew() -> None:
    counters = {"execs": 10, "ring_full": 3}
    subject = watch(counters, Bird(), interval_s=0)
    (first,) = subject.tick(100.0)
    assert first["sensor"]["kernel_loss"]["grown"] == {"ring_full": 3}
    assert subject.tick(106.0) == []
    counters["ring_full"] = 5
    (second,) = subject.tick(112.0)
    assert second["sensor"]["kernel_loss"] == {"grown": {"ring_full": 2}, "total": {"ring_full": 5}}


def test_what_is_no_loss_is_not_said() -> None:
    assert watch({"execs": 10, "filtered": 9}, Bird(), interval_s=0).tick(100.0) == []


def test_a_canary_that_comes_back_says_nothing() -> None:
    bird = Bird()
    subject = watch({}, bird)
    assert subject.tick(100.0) == []
    bird.seen += 1
    assert subject.tick(101.0) == []
    assert subject.blind is False


def test_a_canary_that_stays_away_means_blind_until_one_comes() -> None:
    bird = Bird()
    subject = watch({}, bird)
    subject.tick(100.0)
    assert subject.tick(104.0) == []
    assert codes(subject.tick(105.0)) == ["sensor.blind"]
    assert subject.blind is True
    subject.tick(160.0)
    assert codes(subject.tick(166.0)) == []
    subject.tick(220.0)
    bird.seen += 1
    assert codes(subject.tick(221.0)) == ["sensor.sight_regained"]
    assert subject.blind is False


@pytest.mark.parametrize(("interval_s", "sent"), [(0, 0), (60, 1)])
def test_an_interval_of_zero_sends_none(interval_s: float, sent: int) -> None:
    bird = Bird()
    watch({}, bird, interval_s).tick(100.0)
    assert bird.sent == sent


def test_where_no_canary_can_be_started_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    bird = Bird()
    monkeypatch.setattr(bird, "send", lambda: (_ for _ in ()).throw(OSError("no memory")))
    assert codes(watch({}, bird).tick(100.0)) == ["sensor.canary_failed"]
