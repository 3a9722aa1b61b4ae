"""The API's pods of one node: who owns them, when they go, and what a bad server may send."""

from __future__ import annotations

import json
import queue
import threading
from typing import TYPE_CHECKING, Any

import pytest
from fake_daemon import TcpDaemon, body, chunks

from sensor.containers.container import Container
from sensor.containers.kubernetes import KubernetesSource
from sensor.containers.source import SourceGarbageError
from sensor.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

A = "a" * 64
LONG_S = 10.0


def pod(*ids: str, state: str = "running", **metadata: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "uid": "u-1",
            "name": "web-7d4b9c6f5-abcde",
            "namespace": "shop",
            "resourceVersion": "7",
            "labels": {"app": "web", "pod-template-hash": "7d4b9c6f5"},
            "ownerReferences": [
                {"kind": "ReplicaSet", "name": "web-7d4b9c6f5", "controller": True}
            ],
            **metadata,
        },
        "spec": {
            "hostPID": True,
            "containers": [
                {
                    "name": "app",
                    "securityContext": {"privileged": True, "capabilities": {"add": ["SYS_ADMIN"]}},
                }
            ],
        },
        "status": {
            "podIP": "10.0.0.1",
            "containerStatuses": [
                {
                    "name": "app",
                    "image": "docker.io/library/web:1.2",
                    "imageID": "docker.io/library/web@sha256:d",
                    "containerID": f"containerd://{container_id}",
                    "state": {state: {}},
                    "restartCount": 2,
                }
                for container_id in ids
            ],
        },
    }


def pods(*items: dict[str, Any]) -> bytes:
    return json.dumps({"metadata": {"resourceVersion": "5"}, "items": items}).encode()


def event(kind: str, item: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": item}).encode() + b"\n"


@pytest.fixture
def server() -> Iterator[TcpDaemon]:
    served = TcpDaemon()
    thread = threading.Thread(target=served.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield served
    served.release.set()
    served.shutdown()
    served.server_close()
    thread.join()


@pytest.fixture
def changes(server: TcpDaemon, tmp_path: Any) -> Iterator[Callable[[], queue.Queue[Any]]]:
    (tmp_path / "token").write_text("secret\n")
    source = KubernetesSource(server.url, "node-1", token_file=tmp_path / "token", timeout_s=0.5)
    stop = threading.Event()
    told: queue.Queue[Any] = queue.Queue()
    threads: list[threading.Thread] = []

    def run() -> None:
        try:
            source.watch(told.put, stop)
        except SourceError as error:
            told.put(error)

    def start() -> queue.Queue[Any]:
        threads.append(threading.Thread(target=run, daemon=True))
        threads[0].start()
        return told

    yield start
    stop.set()
    source.interrupt()
    server.release.set()
    for thread in threads:
        thread.join(LONG_S)
        assert not thread.is_alive()


def watching(server: TcpDaemon, listed: bytes, *events: bytes) -> None:
    server.answers["/api/v1/pods?fieldSelector=spec.nodeName%3Dnode-1&watch"] = chunks(
        *events, then=server.release.wait
    )
    server.answers["/api/v1/pods"] = body(listed)


def test_a_pod_s_containers_are_known_with_their_workload(
    server: TcpDaemon, changes: Callable[[], queue.Queue[Any]]
) -> None:
    watching(server, pods(pod(A)))
    assert changes().get(timeout=LONG_S).containers == (
        Container(
            id=A,
            source="kubernetes",
            runtime="containerd",
            name="app",
            image_name="docker.io/library/web",
            image_tag="1.2",
            image_digest="sha256:d",
            restarts=2,
            privileged=True,
            cap_add=("SYS_ADMIN",),
            network_mode="pod",
            pid_mode="host",
            pod_uid="u-1",
            pod_name="web-7d4b9c6f5-abcde",
            pod_namespace="shop",
            pod_ip="10.0.0.1",
            pod_labels={"app": "web", "pod-template-hash": "7d4b9c6f5"},
            workload_kind="Deployment",
            workload_name="web",
        ),
    )
    assert server.headers[0]["Authorization"] == "Bearer secret"


@pytest.mark.parametrize(
    ("owners", "workload"),
    [
        ([{"kind": "DaemonSet", "name": "agent", "controller": True}], ("DaemonSet", "agent")),
        ([{"kind": "ReplicaSet", "name": "bare", "controller": True}], ("ReplicaSet", "bare")),
        ([{"kind": "Node", "name": "n"}], (None, None)),
        ([], (None, None)),
    ],
)
def test_owners(
    server: TcpDaemon,
    changes: Callable[[], queue.Queue[Any]],
    owners: list[dict[str, Any]],
    workload: tuple[str | None, str | None],
) -> None:
    watching(server, pods(pod(A, ownerReferences=owners)))
    found = changes().get(timeout=LONG_S).containers[0]
    assert workload == (found.workload_kind, found.workload_name)


def test_a_static_pod_has_the_uid_that_its_cgroups_have(
    server: TcpDaemon, changes: Callable[[], queue.Queue[Any]]
) -> None:
    watching(server, pods(pod(A, annotations={"kubernetes.io/config.hash": "9" * 32})))
    assert changes().get(timeout=LONG_S).containers[0].pod_uid == "9" * 32


def test_changes_of_pods_become_changes_of_containers(
    server: TcpDaemon, changes: Callable[[], queue.Queue[Any]]
) -> None:
    waiting = pod("", state="waiting")
    watching(
        server,
        pods(waiting),
        event("MODIFIED", pod(A)),
        event("BOOKMARK", {"metadata": {"resourceVersion": "8"}}),
        event("MODIFIED", pod(A, state="terminated")),
        event("ADDED", pod("b" * 64)),
        event("DELETED", pod("b" * 64)),
    )
    told = changes()
    assert told.get(timeout=LONG_S).containers == ()
    seen = [told.get(timeout=LONG_S) for _ in range(4)]
    assert [(c.kind, c.container_id or c.containers[0].id) for c in seen] == [
        ("update", A),
        ("die", A),
        ("update", "b" * 64),
        ("die", "b" * 64),
    ]


def test_a_watch_that_is_too_old_ends_and_starts_with_a_list(
    server: TcpDaemon, changes: Callable[[], queue.Queue[Any]]
) -> None:
    watching(server, pods(), event("ERROR", {"status": "Failure", "code": 410, "message": "old"}))
    told = changes()
    told.get(timeout=LONG_S)
    assert "too old" in str(told.get(timeout=LONG_S))


@pytest.mark.parametrize(
    "listed", [b"no json", b"[]", b'{"metadata":{},"items":[5]}', b'{"metadata":{"uid":1}}']
)
def test_garbage_in_the_list_is_said_to_be_garbage(
    server: TcpDaemon, changes: Callable[[], queue.Queue[Any]], listed: bytes
) -> None:
    watching(server, listed)
    assert isinstance(changes().get(timeout=LONG_S), SourceGarbageError)


def test_garbage_in_the_watch_is_said_to_be_garbage(
    server: TcpDaemon, changes: Callable[[], queue.Queue[Any]]
) -> None:
    watching(server, pods(), b'{"type": 5}\n')
    told = changes()
    told.get(timeout=LONG_S)
    assert isinstance(told.get(timeout=LONG_S), SourceGarbageError)


def test_a_refused_account_is_said_with_its_status(
    server: TcpDaemon, changes: Callable[[], queue.Queue[Any]]
) -> None:
    server.answers["/api/v1/pods"] = body(b"{}", status=403)
    assert "403" in str(changes().get(timeout=LONG_S))


def test_nothing_is_ever_asked_for_singly(server: TcpDaemon) -> None:
    assert KubernetesSource(server.url, "node-1").look_up(A) is None
    assert server.asked == []
