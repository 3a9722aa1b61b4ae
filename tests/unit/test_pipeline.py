"""The pipeline with real stages and a metadata source in memory."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from events import CONTAINER_ID, HOST, exec_event, process

from sensor.canary import Canary
from sensor.containers.container import Container
from sensor.containers.resolver import Resolver
from sensor.containers.source import MemorySource
from sensor.errors import DecodeError, ProbeError
from sensor.event import Cgroup, ExecEvent, Namespaces, RecentExec
from sensor.pipeline import Pipeline
from sensor.rules import compile_query
from sensor.rules.engine import RuleEngine
from sensor.rules.load import load_rules
from sensor.rules.rule import Rule


class Feed:
    """In the decoder's place: a record is the number of the event to give."""

    incomplete = 0
    host_pid_ns: int | None = None
    host_mnt_ns: int | None = None

    def __init__(self, events: list[ExecEvent | Exception]) -> None:
        self.events = events

    def feed(self, record: bytes) -> ExecEvent | None:
        event = self.events[record[0]]
        if isinstance(event, Exception):
            raise event
        return event


class Outlet:
    def __init__(self) -> None:
        self.alerts: list[dict[str, Any]] = []
        self.updates: list[dict[str, Any]] = []

    def alert(
        self, documents: tuple[dict[str, Any], ...], rule: Any, time_ns: int
    ) -> dict[str, Any]:
        self.alerts.append(documents[-1])
        return documents[-1]

    def update(self, alert: dict[str, Any], rule: Any, place: dict[str, Any]) -> None:
        self.updates.append({**alert, **place})

    def needles(self) -> list[str]:
        return [document["process"]["args"][-1] for document in self.alerts]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def search(needle: str, **fields: Any) -> ExecEvent:
    return exec_event(process(args=("grep", "aws_access_key_id", needle)), **fields)


def pipeline(events: list[Any], resolver: Resolver, clock: Clock | None = None) -> Pipeline:
    loaded = load_rules()
    assert not loaded.errors
    return Pipeline(
        decoders=(Feed(events),),  # type: ignore[arg-type]
        host=HOST,
        resolver=resolver,
        engine=RuleEngine(loaded.rules),
        outlet=Outlet(),
        canary=Canary(),
        wait_s=0.25,
        clock=clock or Clock(),
    )


def silent_resolver() -> Resolver:
    return Resolver([MemorySource("memory", {})])


def alerts(subject: Pipeline) -> Outlet:
    assert isinstance(subject.outlet, Outlet)
    return subject.outlet


def test_a_sequence_that_waited_in_vain_is_told_with_its_own_exec_and_not_the_next() -> None:
    query = compile_query("""
      sequence by process.entity_id with maxspan=1s
        [process where process.args == "first"] ![process where process.args == "second"]""")
    rule = Rule(
        id="a", name="A", query_text="", path="a.yml", format="yaml", query=query
    )  # fmt: skip
    second = 1_000_000_000
    events = [
        search("first", time_ns=0, filename="/usr/bin/link"),
        search("other", time_ns=2 * second),
        search("first", time_ns=3 * second, filename="/usr/bin/link"),
    ]
    subject = pipeline(events, Resolver([]))
    subject.engine = RuleEngine([rule])
    for number in range(3):
        subject.record(0, bytes([number]))
    assert alerts(subject).needles() == ["first"]
    subject.expire(10 * second)
    assert alerts(subject).needles() == ["first", "first"]
    # the document, not the view that rules see, which has all names
    assert {alert["process"]["name"] for alert in alerts(subject).alerts} == {"grep"}


def test_without_a_source_the_alert_leaves_at_once_with_its_id() -> None:
    subject = pipeline([search("x")], Resolver([]))
    subject.record(0, b"\0")
    (document,) = alerts(subject).alerts
    assert document["container"]["id"] == CONTAINER_ID
    assert document["container"]["resolution"]["state"] == "unavailable"


@pytest.mark.parametrize(
    "fields",
    [
        {
            "cgroups": (Cgroup(id=1, path="/"),),
            "namespaces": Namespaces(pid=1, mnt=1, pid_is_host=True, mnt_is_host=True),
        },
        {"cgroups": ()},
    ],
)
def test_the_rule_is_quiet_where_no_container_is_known(fields: dict[str, Any]) -> None:
    subject = pipeline([search("x", **fields)], Resolver([]))
    subject.record(0, b"\0")
    assert alerts(subject).alerts == []


class Kernel:
    """What the program in the kernel is told of the host."""

    def __init__(self) -> None:
        self.host: tuple[int, int | None, int | None] | None = None
        self.cgroups: list[tuple[Cgroup, ...]] = []

    def know_the_host(self, sensor_tgid: int, pid_ns: int | None, mnt_ns: int | None) -> None:
        self.host = (sensor_tgid, pid_ns, mnt_ns)

    def note_host_cgroup(self, cgroups: tuple[Cgroup, ...]) -> None:
        self.cgroups.append(cgroups)


ON_HOST = Namespaces(pid=1, mnt=1, pid_is_host=True, mnt_is_host=True)
UNSHARED = Namespaces(pid=1, mnt=2, pid_is_host=True, mnt_is_host=False)
SESSION = (Cgroup(id=8, path="/user.slice/session-1.scope"),)


def test_only_what_is_known_to_be_the_host_is_told_to_the_kernel() -> None:
    events = [
        search("container"),
        search("container", namespaces=ON_HOST),
        search("unknown", cgroups=(), namespaces=ON_HOST),
        search("cut", cgroups=(Cgroup(id=9, path="/x", truncated=True),), namespaces=ON_HOST),
        search("unshared", cgroups=(Cgroup(id=9, path="/x"),), namespaces=UNSHARED),
        search("not read", cgroups=SESSION, namespaces=None),
        search("host", cgroups=SESSION, namespaces=ON_HOST),
    ]
    subject = pipeline(list(events), Resolver([]))
    subject.kernel = kernel = Kernel()
    for number in range(len(events)):
        subject.record(0, bytes([number]))
    assert kernel.cgroups == [SESSION]


def test_the_canary_tells_the_kernel_who_the_sensor_is() -> None:
    subject = pipeline([], Resolver([]))
    subject.kernel = kernel = Kernel()
    token = subject.canary.literal.strip(b"\0").decode()
    first = process(pid=1, pid_ns=5, mnt_ns=6)
    canary = exec_event(process(args=("true", token)), ppid=77, ancestors=(first,))
    subject.decoders[0].events.append(canary)  # type: ignore[attr-defined]
    subject.decoders[0].host_pid_ns = subject.decoders[0].host_mnt_ns = None
    subject.record(0, b"\0")
    assert kernel.host == (77, 5, 6)
    assert kernel.cgroups == []


def test_a_host_that_cannot_be_told_is_told_of_once(caplog: pytest.LogCaptureFixture) -> None:
    subject = pipeline([], Resolver([]))
    token = subject.canary.literal.strip(b"\0").decode()
    canaries = [exec_event(process(args=("true", token)), ppid=77) for _ in range(2)]
    subject.decoders[0].events.extend(canaries)  # type: ignore[attr-defined]
    subject.decoders[0].host_pid_ns = subject.decoders[0].host_mnt_ns = None
    subject.record(0, b"\0")
    subject.record(0, b"\1")
    assert [record.message.split(":")[0] for record in caplog.records] == [
        "which namespaces are the host's cannot be read"
    ]


def test_a_broken_record_is_counted_and_the_next_is_judged() -> None:
    subject = pipeline([DecodeError("broken"), search("x")], Resolver([]))
    subject.record(0, b"\0")
    subject.record(0, b"\1")
    assert subject.counts["decode_errors"] == 1
    assert alerts(subject).needles() == ["x"]


def test_an_event_that_cannot_be_handled_is_counted_and_the_next_is_judged() -> None:
    subject = pipeline([search("x", ancestors=(None,)), search("y")], Resolver([]))
    subject.record(0, b"\0")
    subject.record(0, b"\1")
    assert subject.counts["pipeline_errors"] == 1
    assert alerts(subject).needles() == ["y"]


def test_the_canary_goes_no_further() -> None:
    subject = pipeline([], Resolver([]))
    token = subject.canary.literal.strip(b"\0").decode()
    subject.decoders[0].events.append(exec_event(process(args=("true", token))))  # type: ignore[attr-defined]
    subject.record(0, b"\0")
    assert (subject.canary.seen, subject.counts["events"]) == (1, 0)


def test_an_event_waits_for_its_container_and_keeps_the_order() -> None:
    clock = Clock()
    resolver = Resolver([MemorySource("memory", {})])
    other = "ab" * 32
    subject = pipeline(
        [
            search("1"),
            search("2"),
            search("host", cgroups=(Cgroup(id=1, path=f"/docker/{other}"),)),
        ],
        resolver,
        clock,
    )
    for number in range(2):
        subject.record(0, bytes([number]))
    assert alerts(subject).alerts == []
    assert subject.is_waiting
    subject.turn()
    assert alerts(subject).alerts == []
    clock.now += 0.3
    subject.turn()
    assert alerts(subject).needles() == ["1", "2"]
    assert not subject.is_waiting


def test_at_the_end_nothing_waits_any_longer() -> None:
    subject = pipeline([search("1")], Resolver([MemorySource("memory", {})]))
    subject.record(0, b"\0")
    subject.flush()
    assert alerts(subject).needles() == ["1"]


def test_a_known_container_is_named_at_once() -> None:
    container = Container(id=CONTAINER_ID, name="web", runtime="docker", source="memory")
    resolver = Resolver([MemorySource("memory", {container.id: container})])
    resolver.start()
    try:
        assert resolver.resolve(CONTAINER_ID, timeout_s=5).state == "resolved"
        subject = pipeline([search("x")], resolver)
        subject.record(0, b"\0")
    finally:
        resolver.stop()
    (document,) = alerts(subject).alerts
    assert document["container"]["name"] == "web"


def test_a_late_answer_is_an_update_of_the_alert_that_left() -> None:
    container = Container(
        id=CONTAINER_ID, name="web", runtime="docker", source="memory", complete=True
    )
    gate = threading.Event()
    source = MemorySource("memory", {}, gate=gate)
    resolver = Resolver([source])
    resolver.start()
    clock = Clock()
    subject = pipeline([search("x")], resolver, clock)
    try:
        subject.record(0, b"\0")
        clock.now += 0.3
        subject.turn()
        assert alerts(subject).needles() == ["x"]
        assert "name" not in alerts(subject).alerts[0]["container"]
        source.containers[CONTAINER_ID] = container
        gate.set()
        answered = threading.Event()
        resolver.request(CONTAINER_ID, lambda _: answered.set())
        assert answered.wait(5)
        subject.turn()
    finally:
        gate.set()
        resolver.stop()
    (update,) = alerts(subject).updates
    assert update["container"]["name"] == "web"
    assert update["event"]["id"] == alerts(subject).alerts[0]["event"]["id"]


def test_what_waits_is_bounded_in_bytes_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    many = exec_event(process(args=("grep", "aws_access_key_id", *"y" * 200)))
    subject = pipeline([search("x" * 8_000), many, search("small")], silent_resolver())
    subject.record(0, b"\0")
    subject.record(0, b"\1")
    # 200 arguments of one character take far more than the 400 bytes they come to in the kernel.
    assert subject._waiting_bytes > 2 * 4_096 + 8_000 + 400 + 200 * 50
    monkeypatch.setattr("sensor.pipeline._WAITING_BYTES_MAX", subject._waiting_bytes + 4_096)
    subject.record(0, b"\2")
    assert alerts(subject).needles() == ["small"]
    assert subject.counts["not_awaited"] == 1
    subject.flush()
    assert (subject._waiting_bytes, len(alerts(subject).alerts)) == (0, 3)


def test_what_no_longer_waits_makes_room() -> None:
    clock = Clock()
    subject = pipeline([search("x")], silent_resolver(), clock)
    subject.record(0, b"\0")
    assert subject._waiting_bytes > 0
    clock.now += 0.3
    subject.turn()
    assert subject._waiting_bytes == 0


def test_alerts_to_be_sent_again_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sensor.pipeline._UNFINISHED_BYTES_MAX", 60_000)
    subject = pipeline([search(str(number)) for number in range(3)], silent_resolver())
    subject.wait_s = 0
    for number in range(3):
        subject.record(0, bytes([number]))
    assert alerts(subject).needles() == ["0", "1", "2"]
    assert subject.counts["updates_left_out"] == 1
    (container_id,) = subject._unfinished
    subject._finish(container_id, subject.resolver.get(container_id))
    assert (subject._unfinished, subject._unfinished_bytes) == ({}, 0)


def test_an_alert_leaves_without_its_past_where_that_cannot_be_read() -> None:
    class Unreadable:
        def last(self, cgroup_id: int, *, before_ns: int) -> tuple[RecentExec, ...]:
            raise ProbeError("sn_recorders cannot be mapped")

    event = exec_event(process(args=("grep", "aws_access_key_id"), cgroup_id=7))
    subject = pipeline([event], Resolver([]))
    subject.recorder = Unreadable()
    subject.record(0, b"\0")
    (document,) = alerts(subject).alerts
    assert "recent_activity" not in document["sensor"]
    assert subject.counts["recent_activity_errors"] == 1
