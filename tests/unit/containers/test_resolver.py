"""Look-ups never make the caller wait long, come late rather than never, and are remembered."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from sensor.containers.container import Container
from sensor.containers.resolver import Resolution, Resolver
from sensor.containers.source import Change, MemorySource, SourceGarbageError, SourceTimeoutError
from sensor.errors import SourceError

LONG_S = 10.0  # never reached unless the test fails
WEB = Container(id="web-id", source="docker", name="web", complete=True)

Start = Callable[..., Resolver]


@pytest.fixture
def start() -> Iterator[Start]:
    running: list[Resolver] = []

    def make(*sources: MemorySource, **options: float) -> Resolver:
        resolver = Resolver(sources, **options)  # type: ignore[arg-type]
        resolver.start()
        running.append(resolver)
        for source in sources:
            if source.failure is None:
                assert source.watching.wait(LONG_S)
        return resolver

    yield make
    for resolver in running:
        resolver.stop()


def late(resolver: Resolver, container_id: str) -> queue.Queue[Resolution]:
    answers: queue.Queue[Resolution] = queue.Queue()
    resolver.request(container_id, answers.put)
    return answers


def test_what_a_source_told_ahead_is_known_without_asking(start: Start) -> None:
    source = MemorySource("docker", {WEB.id: WEB})
    resolver = start(source)
    assert (
        (found := resolver.get(WEB.id)).state,
        found.container,
        found.source,
    ) == ("resolved", WEB, "docker")
    assert source.asked == []


def test_what_is_not_known_is_asked_for_once_whoever_waits(start: Start) -> None:
    gate = threading.Event()
    source = MemorySource("docker", gate=gate)
    resolver = start(source)
    source.containers[WEB.id] = WEB
    answers = [late(resolver, WEB.id) for _ in range(5)]
    gate.set()
    assert [answer.get(timeout=LONG_S).container for answer in answers] == [WEB] * 5
    assert [WEB.id] == source.asked


def test_an_event_names_a_container_although_it_is_gone_when_it_is_asked_for(start: Start) -> None:
    source = MemorySource("docker")
    resolver = start(source)
    partial = replace(WEB, complete=False)
    source.tell([Change(kind="create", containers=(partial,))])
    source.tell([Change(kind="destroy", container_id=WEB.id)])
    found = resolver.resolve(WEB.id, timeout_s=LONG_S)
    assert (
        found.state,
        found.container and found.container.name,
        found.reason,
    ) == ("resolved", "web", "not_inspected")


def test_what_was_looked_up_before_it_ran_is_asked_for_again_when_a_list_has_it(
    start: Start,
) -> None:
    """A runtime without events tells by a list alone that a container runs by now."""
    source = MemorySource("containerd")
    resolver = start(source)
    made = replace(WEB, source="containerd", pid=0)
    source.containers[WEB.id] = made
    assert resolver.resolve(WEB.id, timeout_s=LONG_S).container == made
    source.containers[WEB.id] = replace(made, pid=7)
    in_list = replace(made, pid=None, complete=False)
    for _ in range(2):
        source.tell([Change(kind="seed", containers=(in_list,))])
        deadline = time.monotonic() + LONG_S
        while (found := resolver.get(WEB.id).container) is None or found.pid != 7:
            assert time.monotonic() < deadline
            time.sleep(0.001)
    assert source.asked == [WEB.id] * 2


def test_a_wait_is_worth_it_only_while_an_answer_is_on_its_way(start: Start) -> None:
    gate = threading.Event()
    source = MemorySource("docker", gate=gate)
    resolver = start(source)
    assert resolver.get(WEB.id).may_improve  # never asked for
    partial = replace(WEB, complete=False)
    source.tell([Change(kind="create", containers=(partial,))])
    assert resolver.get(WEB.id).may_improve  # its inspection is under way
    gate.set()
    late(resolver, WEB.id).get(timeout=LONG_S)  # asked once more, and in vain
    found = resolver.get(WEB.id)
    assert (found.state, found.may_improve) == ("resolved", False)


def test_what_no_source_knows_is_said_and_remembered(start: Start) -> None:
    source = MemorySource("docker")
    resolver = start(source)
    first = resolver.resolve("nobody", timeout_s=LONG_S)
    asked = len(source.asked)
    second = resolver.resolve("nobody", timeout_s=LONG_S)
    assert (first.state, second.state) == ("not_found", "not_found")
    assert asked == len(source.asked)


def test_of_what_no_source_knows_only_the_last_is_remembered(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sensor.containers.resolver.MAX_REMEMBERED", 3)
    resolver = start(MemorySource("docker"))
    for number in range(5):
        assert late(resolver, f"id-{number}").get(timeout=LONG_S).state == "not_found"
    assert list(resolver._negative) == ["id-2", "id-3", "id-4"]


def test_what_is_asked_for_at_once_is_bounded_and_the_oldest_is_given_up(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sensor.containers.resolver.MAX_PENDING", 3)
    gate = threading.Event()
    resolver = start(MemorySource("docker", gate=gate))
    try:
        answers = [late(resolver, f"id-{number}") for number in range(5)]
        assert [answer.get(timeout=LONG_S).state for answer in answers[:2]] == ["not_found"] * 2
        assert list(resolver._pending) == ["id-2", "id-3", "id-4"]
    finally:
        gate.set()


def test_a_source_s_queue_is_bounded_and_what_it_refuses_is_counted(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sensor.containers.feed.MAX_QUEUED", 3)
    gate = threading.Event()
    resolver = start(MemorySource("docker", gate=gate))
    try:
        for number in range(9):
            late(resolver, f"id-{number}")
        # Two are being asked for at most, three wait.
        assert resolver.counters()["docker.lookup.queue_full"] >= 9 - 2 - 3
    finally:
        gate.set()


def test_a_create_event_ends_what_was_remembered_of_an_unknown_id(start: Start) -> None:
    source = MemorySource("docker")
    resolver = start(source)
    assert resolver.resolve(WEB.id, timeout_s=LONG_S).state == "not_found"
    source.tell([Change(kind="create", containers=(WEB,))])
    assert resolver.get(WEB.id).container == WEB


def test_a_hanging_source_costs_two_waits_and_answers_late(start: Start) -> None:
    gate = threading.Event()
    source = MemorySource("docker", gate=gate)
    resolver = start(source)
    assert [
        resolver.resolve(container_id, timeout_s=0.3).container for container_id in (WEB.id, "b")
    ] == [None, None]
    # It is known now that it hangs: nobody waits, or this test would take the whole LONG_S.
    found = resolver.resolve("c", timeout_s=LONG_S)
    assert (found.state, found.may_improve) == ("unavailable", False)
    assert "docker has not answered" in resolver.troubles()["docker"]
    answers = late(resolver, WEB.id)
    source.containers[WEB.id] = WEB
    gate.set()
    assert answers.get(timeout=LONG_S).container == WEB


def test_one_container_that_its_engine_holds_locked_delays_no_other(start: Start) -> None:
    gate = threading.Event()

    class Locked(MemorySource):
        def look_up(self, container_id: str) -> Container | None:
            if container_id == "locked":
                gate.wait()
            return MemorySource.look_up(self, container_id)

    source = Locked("docker")
    resolver = start(source)
    late(resolver, "locked")
    source.containers[WEB.id] = WEB
    assert resolver.resolve(WEB.id, timeout_s=LONG_S).container == WEB
    gate.set()


def test_a_hanging_source_does_not_hide_one_that_answers(start: Start) -> None:
    gate = threading.Event()
    hung = MemorySource("containerd", gate=gate)
    resolver = start(hung, MemorySource("docker"))
    resolver._feeds["docker"].source.containers[WEB.id] = WEB  # type: ignore[attr-defined]
    assert resolver.resolve(WEB.id, timeout_s=LONG_S).container == WEB
    gate.set()


@pytest.mark.parametrize(
    "failure", [SourceError("refused"), SourceTimeoutError("late"), SourceGarbageError("nonsense")]
)
def test_a_failing_look_up_is_retried_and_given_up_with_the_reason(
    start: Start, failure: SourceError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sensor.containers.resolver.RETRY_AFTER_S", (0.01, 0.01))
    source = MemorySource("docker", failure=failure)
    resolver = start(source)
    answer = late(resolver, WEB.id).get(timeout=LONG_S)
    assert ("unavailable", str(failure)) == (answer.state, answer.reason)
    assert [WEB.id] * 3 == source.asked
    assert resolver.counters()["docker.lookup.failed"] == 3


def test_a_source_that_comes_back_answers_what_was_asked_while_it_was_away(start: Start) -> None:
    source = MemorySource("docker", failure=SourceError("refused"))
    resolver = start(source)
    answers = late(resolver, WEB.id)
    source.containers[WEB.id] = WEB
    source.failure = None
    assert answers.get(timeout=LONG_S).container == WEB


def test_nonsense_about_one_container_does_not_stop_waiting_for_others(start: Start) -> None:
    source = MemorySource("docker")
    resolver = start(source)
    source.failure = SourceGarbageError("nonsense")
    resolver.resolve("poison", timeout_s=0.05)
    assert resolver.troubles() == {}


def test_a_lost_stream_is_opened_again_and_the_list_taken_anew(start: Start) -> None:
    source = MemorySource("docker")
    resolver = start(source)
    source.containers[WEB.id] = WEB
    source.interrupt()
    assert resolver.resolve(WEB.id, timeout_s=LONG_S).container == WEB
    source.watching.clear()
    assert source.watching.wait(LONG_S)
    assert resolver.counters()["docker.watch.lost"] == 1


def test_a_source_s_bug_ends_no_thread(start: Start) -> None:
    class Broken(MemorySource):
        def look_up(self, container_id: str) -> Container | None:
            if container_id == "poison":
                raise ZeroDivisionError
            return MemorySource.look_up(self, container_id)

    source = Broken("docker")
    resolver = start(source)
    resolver.resolve("poison", timeout_s=0.01)
    source.containers[WEB.id] = WEB
    assert resolver.resolve(WEB.id, timeout_s=LONG_S).container == WEB
    assert resolver.counters()["docker.lookup.crashed"] >= 1


def test_a_callback_s_bug_ends_no_thread(start: Start) -> None:
    resolver = start(MemorySource("docker", {WEB.id: WEB}))
    resolver.request(WEB.id, lambda _: 1 / 0)  # type: ignore[arg-type]
    assert late(resolver, WEB.id).get(timeout=LONG_S).container == WEB
    assert resolver.counters()["callback.crashed"] == 1


def test_callbacks_run_on_the_resolver_s_thread(start: Start) -> None:
    resolver = start(MemorySource("docker", {WEB.id: WEB}))
    names: queue.Queue[str] = queue.Queue()
    resolver.request(WEB.id, lambda _: names.put(threading.current_thread().name))
    assert names.get(timeout=LONG_S) == "resolver"


def test_two_sources_that_differ_are_both_shown(start: Start) -> None:
    other = replace(WEB, source="containerd", name="db")
    resolver = start(
        MemorySource("docker", {WEB.id: WEB}), MemorySource("containerd", {WEB.id: other})
    )
    found = resolver.get(WEB.id)
    assert {"docker", "containerd"} == set((found.source or "").split("+"))
    assert len(found.disagreement) == 1
    assert "'web'" in found.disagreement[0]
    assert "'db'" in found.disagreement[0]


def test_an_answer_for_another_id_is_no_answer(start: Start) -> None:
    """Engines answer for names, too: LXC's container `web` is not Docker's named `web`."""
    source = MemorySource("docker", {})
    resolver = start(source)
    source.containers["web"] = WEB
    assert resolver.resolve("web", timeout_s=LONG_S).state == "not_found"
    assert resolver.counters()["docker.lookup.other_id"] >= 1


def test_without_any_source_nothing_is_waited_for() -> None:
    resolver = Resolver(())
    resolver.start()
    found = resolver.resolve(WEB.id, timeout_s=LONG_S)
    assert (found.state, found.reason) == ("unavailable", "no_source")
    resolver.stop()


def test_stopping_answers_those_who_still_wait(start: Start) -> None:
    gate = threading.Event()
    resolver = start(MemorySource("docker", gate=gate))
    answers = late(resolver, WEB.id)
    resolver.stop()
    gate.set()
    assert answers.get(timeout=LONG_S).container is None


def test_sources_must_have_distinct_names() -> None:
    with pytest.raises(ValueError, match="same name"):
        Resolver([MemorySource("docker"), MemorySource("docker")])
