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
    subject.tick(106.0)
    assert codes(subject.tick(112.0)) == []
    subject.tick(113.0)
    bird.seen += 1
    assert codes(subject.tick(114.0)) == ["sensor.sight_regained"]
    assert (subject.blind, subject.lost) == (False, None)


def miss(subject: Watch, times: int, start: float = 100.0, *, behind: bool = False) -> list[str]:
    """Let canaries stay away one after the other, the rings empty or not; the codes of what is said."""
    said = []
    for number in range(times):
        for offset in (0.0, 5.0):
            said += codes(subject.tick(start + 10.0 * number + offset))
            subject.drained += not behind
    return said


@pytest.mark.parametrize(
    ("grows", "reason"),
    [(0, "its program in the kernel does not run"), (7, "does not come through")],
)
def test_three_canaries_that_stay_away_mean_that_sight_is_lost(grows: int, reason: str) -> None:
    class Counted(Bird):
        def send(self) -> None:
            super().send()
            counters["execs"] += grows

    counters = {"execs": 10, "ring_full": 4}
    subject = watch(counters, Counted())
    subject._losses = {"ring_full": 4}
    assert miss(subject, 2) == ["sensor.blind"]
    assert subject.lost is None
    assert miss(subject, 1, start=120.0) == ["sensor.sight_lost"]
    assert reason in str(subject.lost)


def test_canaries_lost_in_a_storm_do_not_mean_that_sight_is_lost() -> None:
    class InStorm(Bird):
        def send(self) -> None:
            super().send()
            counters["ring_full"] += 1

    counters = {"execs": 10, "ring_full": 0}
    subject = watch(counters, InStorm())
    assert "sensor.sight_lost" not in miss(subject, 9)
    assert (subject.blind, subject.lost) == (True, None)


def test_canaries_behind_what_is_not_yet_read_do_not_mean_that_sight_is_lost() -> None:
    subject = watch({"execs": 10}, Bird())
    assert miss(subject, 9, behind=True) == ["sensor.blind"]
    assert (subject.blind, subject.lost) == (True, None)
    assert "sensor.sight_lost" in miss(subject, 3, start=200.0)


def test_one_that_comes_between_begins_the_count_anew() -> None:
    bird = Bird()
    subject = watch({"execs": 10}, bird, interval_s=1)
    miss(subject, 2)
    subject.tick(120.0)
    bird.seen += 1
    subject.tick(121.0)
    miss(subject, 2, start=130.0)
    assert subject.lost is None


def test_a_program_that_is_detached_means_that_sight_is_lost_without_a_canary() -> None:
    subject = watch({}, Bird(), interval_s=0)
    subject.detached = lambda: ["sched_process_exec"]
    assert codes(subject.tick(100.0)) == ["sensor.sight_lost"]
    assert subject.lost == "its program in the kernel is detached (sched_process_exec)"


@pytest.mark.parametrize(("interval_s", "sent"), [(0, 0), (60, 1)])
def test_an_interval_of_zero_sends_none(interval_s: float, sent: int) -> None:
    bird = Bird()
    watch({}, bird, interval_s).tick(100.0)
    assert bird.sent == sent


def test_where_no_canary_can_be_started_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    bird = Bird()
    monkeypatch.setattr(bird, "send", lambda: (_ for _ in ()).throw(OSError("no memory")))
    assert codes(watch({}, bird).tick(100.0)) == ["sensor.canary_failed"]
