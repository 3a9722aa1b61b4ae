"""Docker's API as it should be, and as it should not: every answer bounded in time and size."""

from __future__ import annotations

import json
import queue
import threading
from typing import TYPE_CHECKING, Any

import pytest
from fake_daemon import Daemon, body, chunks, raw

from sensor.containers.container import MAX_LABELS, Container
from sensor.containers.docker import DockerSource
from sensor.containers.source import Change, SourceGarbageError, SourceTimeoutError
from sensor.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

A = "a" * 64
LONG_S = 10.0
INSPECT: dict[str, Any] = {
    "Id": A,
    "Name": "/web",
    "Created": "2026-01-02T03:04:05.678901234Z",
    "Image": "sha256:" + "1" * 64,
    "Path": "sh",
    "RestartCount": 3,
    "Args": ["-c", "true"],
    "Config": {"Image": "registry:5000/web:1.2", "Labels": {"team": "blue"}},
    "State": {"Running": True, "Pid": 4242, "StartedAt": "2026-01-02T03:04:06Z"},
    "HostConfig": {
        "Privileged": False,
        "NetworkMode": "bridge",
        "PidMode": "",
        "CapAdd": ["SYS_ADMIN"],
        "CgroupParent": "",
    },
    "Mounts": [
        {"Type": "bind", "Source": "/etc", "Destination": "/host", "RW": False},
        {"Type": "volume", "Source": "/var/lib/v", "Destination": "/data", "RW": True},
    ],
    "NetworkSettings": {"IPAddress": "", "Networks": {"x": {"IPAddress": "172.18.0.2"}}},
}


def source(daemon: Daemon) -> DockerSource:
    return DockerSource(f"unix://{daemon.path}", timeout_s=0.3)


def event(action: str, container_id: str = A, **attributes: str) -> bytes:
    actor = {"ID": container_id, "Attributes": attributes}
    told = {"Type": "container", "Action": action, "Actor": actor, "timeNano": 1}
    return json.dumps(told).encode() + b"\n"


def test_an_inspect_becomes_one_whole_container(daemon: Daemon) -> None:
    daemon.answers[f"/containers/{A}/json"] = body(json.dumps(INSPECT).encode())
    digests = {"RepoTags": ["web:1"], "RepoDigests": ["registry:5000/web@sha256:" + "2" * 64]}
    daemon.answers["/images/"] = body(json.dumps(digests).encode())
    assert source(daemon).look_up(A) == Container(
        id=A,
        source="docker",
        runtime="docker",
        name="web",
        image_name="registry:5000/web",
        image_tag="1.2",
        image_digest="sha256:" + "2" * 64,
        image_id="sha256:" + "1" * 64,
        labels={"team": "blue"},
        created="2026-01-02T03:04:05.678Z",
        started="2026-01-02T03:04:06.000Z",
        restarts=3,
        privileged=False,
        ip="172.18.0.2",
        command=("sh", "-c", "true"),
        pid=4242,
        mounts=("/etc:/host:ro", "/var/lib/v:/data:rw"),
        host_mounts=("/etc:/host:ro",),
        network_mode="bridge",
        pid_mode="private",
        cap_add=("SYS_ADMIN",),
        complete=True,
    )


def test_a_container_started_from_an_image_id_gets_the_image_s_name(daemon: Daemon) -> None:
    answer = INSPECT | {"Config": {"Image": "1" * 12, "Labels": None}}
    daemon.answers[f"/containers/{A}/json"] = body(json.dumps(answer).encode())
    daemon.answers["/images/"] = body(b'{"RepoTags":["web:3"],"RepoDigests":null}')
    found = source(daemon).look_up(A)
    assert found is not None
    assert (found.image_name, found.image_tag, found.labels) == ("web", "3", {})


def test_an_image_is_asked_for_once(daemon: Daemon) -> None:
    daemon.answers[f"/containers/{A}/json"] = body(json.dumps(INSPECT).encode())
    daemon.answers["/images/"] = body(b"{}")
    docker = source(daemon)
    docker.look_up(A)
    docker.look_up(A)
    assert sum(path.startswith("/images/") for path in daemon.asked) == 1


def test_the_last_images_are_remembered(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sensor.containers.docker._MAX_IMAGES", 2)
    daemon.answers["/images/"] = body(b"{}")
    docker = source(daemon)
    for number in range(4):
        image = INSPECT | {"Image": f"sha256:{str(number) * 64}"}
        daemon.answers[f"/containers/{A}/json"] = body(json.dumps(image).encode())
        docker.look_up(A)
    assert list(docker._images) == [f"sha256:{digit * 64}" for digit in "23"]


def test_an_image_that_cannot_be_read_costs_only_its_digest(daemon: Daemon) -> None:
    daemon.answers[f"/containers/{A}/json"] = body(json.dumps(INSPECT).encode())
    daemon.answers["/images/"] = body(b"no json")
    found = source(daemon).look_up(A)
    assert found is not None
    assert (found.name, found.image_digest) == ("web", None)


def test_what_is_not_there_is_none(daemon: Daemon) -> None:
    assert source(daemon).look_up(A) is None


@pytest.mark.parametrize("name", ["web", "../images/x", "a" * 63, "A" * 64, "a" * 64 + "\n"])
def test_names_are_never_asked_for(daemon: Daemon, name: str) -> None:
    """Docker would answer for its own container of that name."""
    assert (source(daemon).look_up(name), daemon.asked) == (None, [])


@pytest.mark.parametrize(
    "answer",
    [
        body(b"no json"),
        body(b"[]"),
        body(b"{}"),
        body(b'{"Id": 5}'),
        body(b'{"Id": "\xff"}'),
        body(b'{"Id":"x","Config":{"Labels":' + b"[" * 100_000),
        body(b'{"Id":"x","Created":[]}'),
    ],
)
def test_garbage_in_an_answer_is_said_to_be_garbage(daemon: Daemon, answer: Any) -> None:
    daemon.answers[f"/containers/{A}/json"] = answer
    with pytest.raises(SourceGarbageError):
        source(daemon).look_up(A)


@pytest.mark.parametrize(
    "answer",
    [
        raw(b"\x00\xff\xfe garbage\r\n\r\n"),
        raw(b""),
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}"),
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{}"),
        raw(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}"),
        raw(b"HTTP/1.1 301 X\r\nLocation: http://example.org/\r\nContent-Length: 0\r\n\r\n"),
        raw(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000 + b"\r\n"),
        body(b"broken", status=500),
    ],
)
@pytest.mark.parametrize("where", ["/version", f"/containers/{A}/json"])
def test_garbage_in_the_protocol_raises_nothing_but_source_error(
    daemon: Daemon, answer: Any, where: str
) -> None:
    daemon.answers[where] = answer
    with pytest.raises(SourceError):
        source(daemon).look_up(A)


def test_ten_megabytes_of_labels_are_read_and_cut_down(daemon: Daemon) -> None:
    labels = {f"k{i}": "v" * 1000 for i in range(10_000)}
    answer = INSPECT | {"Config": {"Image": "web:1", "Labels": labels}}
    daemon.answers[f"/containers/{A}/json"] = body(json.dumps(answer).encode())
    found = source(daemon).look_up(A)
    assert found is not None
    assert (found.name, found.labels_dropped) == ("web", 10_000 - MAX_LABELS)
    assert sum(map(len, (found.labels or {}).values())) <= MAX_LABELS * 512


def test_an_answer_over_the_bound_is_not_read_to_its_end(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sensor.containers.docker.MAX_ANSWER_BYTES", 1 << 20)
    daemon.answers[f"/containers/{A}/json"] = chunks(*[b" " * 100_000] * 100)
    with pytest.raises(SourceGarbageError, match="over 1 MiB"):
        source(daemon).look_up(A)


def test_a_daemon_that_hangs_before_and_in_its_answer_times_out(daemon: Daemon) -> None:
    daemon.answers[f"/containers/{A}/json"] = lambda _: daemon.release.wait()
    with pytest.raises(SourceTimeoutError):
        source(daemon).look_up(A)
    daemon.answers[f"/containers/{A}/json"] = chunks(b"{", then=daemon.release.wait)
    with pytest.raises(SourceTimeoutError):
        source(daemon).look_up(A)


def test_the_first_answer_may_take_longer_than_others(daemon: Daemon) -> None:
    """Podman runs other programs for its own: with a busy machine that is seconds."""
    version = daemon.answers["/version"]

    def late(connection: Any) -> None:
        daemon.release.wait(0.5)
        version(connection)

    daemon.answers["/version"] = late
    daemon.answers[f"/containers/{A}/json"] = body(json.dumps(INSPECT).encode())
    found = source(daemon).look_up(A)
    assert found is not None
    assert found.name == "web"


def test_a_daemon_that_is_away_is_said_to_be(tmp_path: Any) -> None:
    with pytest.raises(SourceError, match="No such file"):
        DockerSource(f"unix://{tmp_path}/none.sock").look_up(A)


def test_podman_says_that_it_is(daemon: Daemon) -> None:
    daemon.answers["/version"] = body(
        b'{"ApiVersion":"1.41","Components":[{"Name":"Podman Engine"}]}'
    )
    daemon.answers[f"/containers/{A}/json"] = body(
        json.dumps(INSPECT | {"Image": "1" * 64}).encode()
    )
    found = source(daemon).look_up(A)
    assert found is not None
    assert (found.runtime, found.image_id) == ("podman", "sha256:" + "1" * 64)


class Watched:
    """A watch on a thread, its changes in a queue and its end in another."""

    def __init__(self, docker: DockerSource) -> None:
        self.docker = docker
        self.changes: queue.Queue[Change] = queue.Queue()
        self.ends: queue.Queue[BaseException | None] = queue.Queue()
        self.stop = threading.Event()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            self.docker.watch(self.changes.put, self.stop)
        except SourceError as error:
            self.ends.put(error)
        else:
            self.ends.put(None)

    def kinds(self, number: int) -> list[str]:
        return [self.changes.get(timeout=LONG_S).kind for _ in range(number)]

    def end(self) -> BaseException | None:
        return self.ends.get(timeout=LONG_S)


@pytest.fixture
def watch(daemon: Daemon) -> Iterator[Callable[[], Watched]]:
    running: list[Watched] = []

    def make() -> Watched:
        running.append(Watched(source(daemon)))
        return running[-1]

    yield make
    for watched in running:
        watched.stop.set()
        watched.docker.interrupt()


def test_events_become_changes(daemon: Daemon, watch: Callable[[], Watched]) -> None:
    daemon.answers["/containers/json"] = body(
        json.dumps(
            [{"Id": A, "Names": ["/other/alias", "/web"], "Image": "web:1", "Created": 1767323045}]
        ).encode()
    )
    daemon.answers["/events"] = chunks(
        event("create", "b" * 64, image="job:2", name="job", team="red"),
        event("start", "b" * 64) + event("exec_create: grep x", "b" * 64, execID="e1"),
        event("attach", "b" * 64) + event("health_status: healthy", "b" * 64),
        event("rename", "b" * 64, name="job2", oldName="/job"),
        event("die", "b" * 64, exitCode="0") + event("destroy", "b" * 64),
        then=daemon.release.wait,
    )
    watched = watch()
    seed, create, start, execs, rename, die, destroy = (
        watched.changes.get(timeout=LONG_S) for _ in range(7)
    )
    assert (
        seed.containers[0].name,
        seed.containers[0].created,
    ) == ("web", "2026-01-02T03:04:05.000Z")
    assert create.containers == (
        Container(
            id="b" * 64,
            source="docker",
            runtime="docker",
            name="job",
            image_name="job",
            image_tag="2",
            labels={"team": "red"},
        ),
    )
    assert [change.kind for change in (start, execs, rename, die, destroy)] == [
        "start",
        "exec",
        "rename",
        "die",
        "destroy",
    ]
    assert (execs.exec_id, rename.name) == ("e1", "job2")


def test_an_event_over_the_bound_makes_the_list_be_taken_again(
    daemon: Daemon, watch: Callable[[], Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sensor.containers.docker.MAX_EVENT_BYTES", 5000)
    daemon.answers["/events"] = chunks(
        event("create", name="x" * 10_000), event("start"), then=daemon.release.wait
    )
    assert watch().kinds(4) == ["seed", "unreadable", "seed", "start"]


@pytest.mark.parametrize("text", [b"no json\n", b"[]\n", b"\xff\n", b'{"Actor":5}\n'])
def test_garbage_on_the_stream_ends_it(
    daemon: Daemon, watch: Callable[[], Watched], text: bytes
) -> None:
    daemon.answers["/events"] = chunks(text, then=daemon.release.wait)
    assert isinstance(watch().end(), SourceGarbageError)


def test_the_end_of_the_stream_is_an_error(daemon: Daemon, watch: Callable[[], Watched]) -> None:
    daemon.answers["/events"] = chunks(event("start"))
    assert "the event stream ended" in str(watch().end())


def test_a_quiet_stream_is_opened_again_and_is_no_error(
    daemon: Daemon, watch: Callable[[], Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sensor.containers.docker._IDLE_S", 0.05)
    daemon.answers["/events"] = chunks(then=daemon.release.wait)
    watched = watch()
    assert watched.kinds(2) == ["seed", "seed"]
    assert watched.ends.empty()


def test_a_watch_can_be_interrupted(daemon: Daemon, watch: Callable[[], Watched]) -> None:
    daemon.answers["/events"] = chunks(event("start"), then=daemon.release.wait)
    watched = watch()
    watched.kinds(2)
    watched.stop.set()
    watched.docker.interrupt()
    watched.end()
