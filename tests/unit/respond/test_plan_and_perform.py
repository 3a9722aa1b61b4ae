"""From a container and an action to a record: refused, unneeded, done, failed, and taken back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pytest

from sensor.alerts.encode import encode
from sensor.alerts.sinks.protocol import Outgoing
from sensor.config import Protect, Respond
from sensor.config.schema import Automatic
from sensor.containers.container import Container
from sensor.errors import ConfigurationError, SourceError
from sensor.respond import sink as sink_module
from sensor.respond.audit import Actor, Audit
from sensor.respond.control import Action, Network, Seen, State
from sensor.respond.controls import find_target
from sensor.respond.errors import ResponseError
from sensor.respond.perform import Cause, perform
from sensor.respond.plan import make_plan
from sensor.respond.protection import Protection
from sensor.respond.sink import RespondSink

if TYPE_CHECKING:
    from pathlib import Path

ID = "a" * 64
SHOP = Network(name="shop", addresses=("10.0.0.2",), settings={"id": "n1", "aliases": ["web"]})
WEB = Container(id=ID, source="docker", name="web", labels={"team": "shop"}, complete=True)
SEEN = Seen(container=WEB, state=State.RUNNING, networks=(SHOP,))
AFTER = {
    Action.PAUSE: {"state": State.PAUSED},
    Action.UNPAUSE: {"state": State.RUNNING},
    Action.STOP: {"state": State.STOPPED},
    Action.KILL: {"state": State.STOPPED},
    Action.DISCONNECT: {"networks": ()},
}


@dataclass
class MemoryControl:
    """An engine that does what it is told, unless `failure` says otherwise."""

    seen: Seen | None = SEEN
    failure: SourceError | None = None
    works: bool = True
    name: str = "docker"
    acted: list[Action] = field(default_factory=list)

    def see(self, container_id: str) -> Seen | None:
        return self.seen if self.seen and container_id == self.seen.container.id else None

    def list(self) -> tuple[Container, ...]:
        return () if self.seen is None else (self.seen.container,)

    def refusal(self, action: Action, seen: Seen) -> str | None:
        return None

    def act(
        self, action: Action, seen: Seen, *, grace_s: int, networks: tuple[Network, ...]
    ) -> None:
        self.acted.append(action)
        if self.failure is not None:
            raise self.failure
        if self.works and self.seen is not None:
            change: dict[str, Any] = AFTER.get(action, {"networks": networks})
            self.seen = replace(self.seen, **change)

    def close(self) -> None:
        pass


def run(control: MemoryControl, action: Action, audit: Audit, **options: Any) -> str:
    assert control.seen is not None
    plan = make_plan(action, control.seen, control, Protection(), **options)
    return perform(plan, audit=audit, actor=Actor(login="ann", effective="root"), cause=Cause())


def stages(path: Path) -> list[str]:
    return [json.loads(line)["response"]["stage"] for line in path.read_text().splitlines()]


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    return Audit(tmp_path / "r.ndjson")


@pytest.mark.parametrize("action", list(AFTER)[:1] + list(AFTER)[2:])
def test_what_is_done_is_verified_and_recorded(
    action: Action, audit: Audit, tmp_path: Path
) -> None:
    control = MemoryControl()
    assert run(control, action, audit).startswith("done, and verified")
    assert control.acted == [action]
    assert stages(tmp_path / "r.ndjson") == ["begun", "done"]


def test_an_engine_that_says_yes_and_does_nothing_is_a_failure(
    audit: Audit, tmp_path: Path
) -> None:
    with pytest.raises(ResponseError, match="does not hold"):
        run(MemoryControl(works=False), Action.PAUSE, audit)
    assert stages(tmp_path / "r.ndjson") == ["begun", "failed"]


def test_an_error_of_an_engine_that_did_it_all_the_same_is_no_failure(audit: Audit) -> None:
    control = MemoryControl(failure=SourceError("docker: did not answer in 15 s"))
    control.seen = replace(SEEN, state=State.RUNNING)
    plan = make_plan(Action.PAUSE, control.seen, control, Protection())
    control.seen = replace(SEEN, state=State.PAUSED)
    said = perform(plan, audit=audit, actor=Actor.current(), cause=Cause())
    assert said == "done, and verified: it is paused"


@pytest.mark.parametrize(
    ("action", "seen", "words"),
    [
        (Action.PAUSE, replace(SEEN, state=State.PAUSED), "it is paused already"),
        (Action.PAUSE, replace(SEEN, state=State.STOPPED), "it does not run"),
        (Action.KILL, replace(SEEN, state=State.STOPPED), "it does not run any more"),
        (Action.DISCONNECT, replace(SEEN, networks=()), "it has no network"),
    ],
)
def test_what_needs_no_doing_is_not_done(
    action: Action, seen: Seen, words: str, audit: Audit, tmp_path: Path
) -> None:
    control = MemoryControl(seen=seen)
    assert run(control, action, audit) == f"nothing to do: {words}"
    assert control.acted == []
    assert stages(tmp_path / "r.ndjson") == ["unneeded"]


@pytest.mark.parametrize(
    ("protect", "container", "reason"),
    [
        (Protect(names=["w?b"]), WEB, "its name is protected by 'w?b'"),
        (Protect(names=["we"]), WEB, None),
        (Protect(names=["x"]), replace(WEB, name=None), "its name is not known"),
        (Protect(labels=["team=shop"]), WEB, "its label 'team=shop' is protected"),
        (Protect(labels=["team"]), WEB, "its label 'team' is protected"),
        (Protect(labels=["team=other"]), WEB, None),
        (Protect(labels=["team"]), replace(WEB, labels=None), "not all of its labels"),
        (Protect(labels=["x"]), replace(WEB, labels_dropped=1), "not all of its labels"),
        (Protect(), replace(WEB, labels={"sensor.respond": "never"}), "has the label"),
        (Protect(), replace(WEB, pod_namespace="kube-system"), "namespace kube-system"),
        (Protect(namespaces=[]), replace(WEB, pod_namespace="kube-system"), None),
    ],
)
def test_protection(
    protect: Protect, container: Container, reason: str | None, tmp_path: Path
) -> None:
    found = Protection.of(protect, proc_root=tmp_path).reason(container)
    assert (found is None) == (reason is None), found
    assert reason is None or reason in str(found)


def test_the_sensors_own_container_is_protected(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "cgroup").write_text(f"0::/system.slice/docker-{ID}.scope\n")
    assert Protection.of(Protect(), proc_root=tmp_path).reason(WEB) == (
        "it is the sensor's own container"
    )


def test_the_record_holds_what_an_undo_needs(audit: Audit) -> None:
    control = MemoryControl()
    run(control, Action.DISCONNECT, audit)
    assert audit.to_undo(ID) == (Action.DISCONNECT, (SHOP,))
    assert audit.to_undo("b" * 64) is None
    assert run(control, Action.RECONNECT, audit, networks=(SHOP,)).endswith("in its networks")
    assert audit.to_undo(ID) is None


def test_what_was_cut_off_in_the_middle_can_be_undone(audit: Audit, tmp_path: Path) -> None:
    with pytest.raises(ResponseError):
        run(MemoryControl(works=False), Action.DISCONNECT, audit)
    run(MemoryControl(seen=replace(SEEN, networks=())), Action.DISCONNECT, audit)
    with (tmp_path / "r.ndjson").open("ab") as file:
        file.write(b'{"response": {"act')  # a full disk
    assert audit.to_undo(ID) == (Action.DISCONNECT, (SHOP,))


def test_nothing_is_done_that_cannot_be_recorded(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    control = MemoryControl()
    with pytest.raises(ConfigurationError, match=r"respond\.audit"):
        run(control, Action.KILL, Audit(tmp_path / "folder"))
    assert control.acted == []


def test_the_record_follows_no_link(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    (tmp_path / "second").hardlink_to(tmp_path / "target")
    for name in ("link", "second"):
        with pytest.raises(ConfigurationError):
            Audit(tmp_path / name).append({"a": 1})
    assert (tmp_path / "target").read_text() == "precious"


def test_an_engine_that_is_silent_is_not_a_container_that_is_gone() -> None:
    silent = MemoryControl(seen=None)
    with pytest.raises(ResponseError, match="is gone"):
        find_target([silent], ID, [])
    with pytest.raises(ResponseError, match="containerd: down") as caught:
        find_target([silent], ID, ["containerd: down"])
    assert "is gone" not in str(caught.value)


# --- by itself ----------------------------------------------------------------------------------


@pytest.fixture
def automatic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    control = MemoryControl()
    monkeypatch.setattr(sink_module, "make_controls", lambda sources: ([control], []))
    now = [0.0]

    def make(**options: Any) -> tuple[RespondSink, MemoryControl, list[float]]:
        config = Respond(
            audit=str(tmp_path / "r.ndjson"),
            automatic=Automatic(rules={"loud": "pause"}, **options),
        )
        return RespondSink(config, [], name="respond", clock=lambda: now[0]), control, now

    return make


def outgoing(rule: str = "loud", container_id: str = ID, **more: Any) -> Outgoing:
    document = {"rule": {"id": rule}, "container": {"id": container_id}, **more}
    return Outgoing(payload=encode(document), severity=47)


def test_by_default_it_only_says_what_it_would_do(automatic: Any, tmp_path: Path) -> None:
    sink, control, _ = automatic()
    sink.deliver([outgoing()])
    assert control.acted == []
    assert stages(tmp_path / "r.ndjson") == ["dry_run"]


def test_it_acts_once_for_a_container_and_for_no_other_rule(automatic: Any) -> None:
    sink, control, _ = automatic(dry_run=False)
    for item in (outgoing("quiet"), outgoing(sensor={"update_of": "x"}), outgoing(), outgoing()):
        sink.deliver([item])
    assert control.acted == [Action.PAUSE]
    assert sink.counters() == {"done": 1, "failed": 0, "held_back": 0}


def test_beyond_the_limit_it_holds_back_until_the_hour_is_over(automatic: Any) -> None:
    sink, _, now = automatic(dry_run=False, max_per_hour=1)
    for container_id in (ID, "b" * 64):
        sink.deliver([outgoing(container_id=container_id)])
    assert sink.counters() == {"done": 1, "failed": 0, "held_back": 1}
    now[0] = 3600.0
    sink.deliver([outgoing(container_id="b" * 64)])
    assert sink.counters() == {"done": 1, "failed": 1, "held_back": 1}
