"""What is kept, for how long, and what goes first."""

from __future__ import annotations

from dataclasses import replace

from sensor.containers.container import Container
from sensor.containers.source import Change
from sensor.containers.store import Store


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def store(clock: Clock, *, most: int = 100) -> Store:
    return Store(max_containers=most, grace_s=60, clock=clock)


def one(container_id: str, **fields: object) -> Container:
    return Container(id=container_id, source="docker", **fields)  # type: ignore[arg-type]


def create(container: Container) -> Change:
    return Change(kind="create", containers=(container,))


def test_an_ended_container_is_known_for_the_grace_time_and_then_forgotten() -> None:
    clock = Clock()
    kept = store(clock)
    kept.apply("docker", create(one("a", name="web", pid=7)))
    kept.apply("docker", Change(kind="die", container_id="a"))
    kept.apply("docker", Change(kind="destroy", container_id="a"))
    clock.now = 59
    kept.sweep()
    assert (one("a", name="web", pid=0),) == kept.get("a")
    clock.now = 61
    kept.sweep()
    assert kept.get("a") == ()


def test_a_container_that_starts_again_is_not_forgotten() -> None:
    clock = Clock()
    kept = store(clock)
    kept.apply("docker", create(one("a", name="web")))
    kept.apply("docker", Change(kind="die", container_id="a"))
    kept.apply("docker", Change(kind="start", container_id="a"))
    clock.now = 100
    kept.sweep()
    assert kept.get("a")[0].name == "web"


def test_an_answer_that_comes_after_the_end_revives_nothing() -> None:
    clock = Clock()
    kept = store(clock)
    kept.apply("docker", create(one("a")))
    kept.apply("docker", Change(kind="die", container_id="a"))
    kept.put(one("a", name="web", pid=7, complete=True))
    assert (one("a", name="web", pid=0, complete=True),) == kept.get("a")
    clock.now = 100
    kept.sweep()
    assert len(kept) == 0


def test_an_id_that_is_given_again_keeps_nothing_of_the_old_container() -> None:
    kept = store(Clock())
    kept.put(replace(one("redis", name="old"), source="cri"))
    kept.apply("docker", create(one("redis", name="old")))
    kept.apply("docker", Change(kind="die", container_id="redis"))
    kept.apply("docker", create(one("redis", name="new")))
    assert (one("redis", name="new"),) == kept.get("redis")


def test_a_list_shows_an_id_given_again_by_its_time_of_creation() -> None:
    kept = store(Clock())
    kept.put(one("redis", name="old", created="2026-01-01T00:00:00.500Z", complete=True))
    new = one("redis", name="new", created="2026-01-01T00:00:09.000Z")
    kept.apply("docker", Change(kind="seed", containers=(new,)))
    assert (new,) == kept.get("redis")


def test_a_list_ends_what_is_missing_and_takes_new_names_but_not_less_knowledge() -> None:
    clock = Clock()
    kept = store(clock)
    whole = one("a", name="web", created="2026-01-01T00:00:00.500Z", pid=7, complete=True)
    kept.put(whole)
    kept.put(one("b", name="gone", complete=True))
    listed = one("a", name="renamed", created="2026-01-01T00:00:00.000Z")
    kept.apply("docker", Change(kind="seed", containers=(listed,)))
    clock.now = 100
    kept.sweep()
    assert ((replace(whole, name="renamed"),), ()) == (kept.get("a"), kept.get("b"))


def test_a_renamed_container_has_its_new_name_at_once() -> None:
    kept = store(Clock())
    kept.apply("docker", create(one("a", name="old")))
    kept.apply("docker", Change(kind="rename", container_id="a", name="new"))
    assert (one("a", name="new"),) == kept.get("a")


def test_execs_are_remembered_over_a_later_answer() -> None:
    kept = store(Clock())
    kept.apply("docker", create(one("a")))
    kept.apply("docker", Change(kind="exec", container_id="a", exec_id="e1"))
    kept.put(one("a", complete=True))
    assert (one("a", complete=True, exec_ids=("e1",)),) == kept.get("a")


def test_a_hundred_thousand_containers_leave_no_more_than_the_bound() -> None:
    clock = Clock()
    kept = store(clock, most=1000)
    for number in range(100_000):
        container_id = f"{number:064x}"
        kept.apply("docker", create(one(container_id, name=f"job-{number}")))
        kept.apply("docker", Change(kind="destroy", container_id=container_id))
    assert (len(kept), kept.evicted) == (1000, 99_000)


def test_at_the_bound_ended_containers_go_before_running_ones() -> None:
    kept = store(Clock(), most=2)
    kept.apply("docker", create(one("running")))
    kept.apply("docker", create(one("ended")))
    kept.apply("docker", Change(kind="die", container_id="ended"))
    kept.apply("docker", create(one("new")))
    assert [one("running"), one("new")] == kept.all()
