"""The CRI as containerd and CRI-O serve it, with and without events, and as nobody should."""

# ruff: noqa: E402 - what is tested cannot be imported without the extra
from __future__ import annotations

import json
import queue
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

grpc = pytest.importorskip("grpc", reason="the extra `cri` is not installed")

from sensor.containers.container import Container
from sensor.containers.cri import CriSource
from sensor.containers.cri_answers import pb
from sensor.containers.source import Change, SourceGarbageError, SourceTimeoutError
from sensor.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

A = "a" * 64
P = "c" * 64
LONG_S = 10.0
LABELS = {
    "io.kubernetes.container.name": "app",
    "io.kubernetes.pod.name": "web-1",
    "io.kubernetes.pod.namespace": "shop",
    "io.kubernetes.pod.uid": "u-1",
}
SPEC = {
    "process": {"args": ["nginx", "-g", "daemon off;"]},
    "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "network"}]},
}
CONTAINERD_INFO = {
    "sandboxID": P,
    "pid": 4242,
    "config": {
        "linux": {
            "security_context": {
                "privileged": True,
                "capabilities": {"add_capabilities": ["NET_ADMIN"]},
            }
        }
    },
    "runtimeSpec": SPEC,
}


def status(info: Any) -> Any:
    answer = pb.ContainerStatusResponse(info={"info": json.dumps(info)})
    answer.status.id = A
    answer.status.metadata.name = "app"
    answer.status.metadata.attempt = 2
    answer.status.state = 1
    answer.status.created_at = 1_767_323_045_678_901_234
    answer.status.started_at = 1_767_323_046_000_000_000
    answer.status.image.image = "docker.io/library/web:1.2"
    answer.status.image_ref = "docker.io/library/web@sha256:d"
    answer.status.labels.update(LABELS)
    answer.status.mounts.add(container_path="/host", host_path="/etc", readonly=True)
    answer.status.mounts.add(container_path="/etc/hosts", host_path="/var/lib/kubelet/pods/x/hosts")
    return answer


def sandbox() -> Any:
    answer = pb.PodSandboxStatusResponse(info={"info": json.dumps({"pid": 7, "runtimeSpec": SPEC})})
    answer.status.id = P
    answer.status.metadata.name = "web-1"
    answer.status.metadata.uid = "u-1"
    answer.status.metadata.namespace = "shop"
    answer.status.network.ip = "10.0.0.1"
    answer.status.labels.update({"app": "web"})
    return answer


class Runtime:
    """Answers by method name: bytes to send, an Exception's code to abort with, or a callable."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.asked: list[str] = []
        self.release = threading.Event()
        self.answers: dict[str, Any] = {
            "Version": pb.VersionResponse(runtime_name="containerd", runtime_version="1.7"),
            "ListContainers": pb.ListContainersResponse(),
            "ListPodSandbox": pb.ListPodSandboxResponse(),
        }
        handler = grpc.GenericRpcHandler
        runtime = self

        class Handler(handler):  # type: ignore[misc, valid-type]
            def service(self, call: Any) -> Any:
                method = call.method.rpartition("/")[2]
                runtime.asked.append(method)
                if method == "GetContainerEvents":
                    return (
                        grpc.unary_stream_rpc_method_handler(runtime.stream)
                        if method in runtime.answers
                        else None
                    )
                return grpc.unary_unary_rpc_method_handler(
                    lambda request, context: runtime.answer(method, request, context)
                )

        self.server = grpc.server(ThreadPoolExecutor(8), handlers=[Handler()])
        self.server.add_insecure_port(f"unix://{self.path}")
        self.server.start()

    def answer(self, method: str, request: bytes, context: Any) -> bytes:
        answer = self.answers.get(method, grpc.StatusCode.NOT_FOUND)
        if callable(answer):
            answer = answer(request)
        if isinstance(answer, grpc.StatusCode):
            context.abort(answer, "as told")
        if isinstance(answer, bytes):
            return answer
        return bytes(answer.SerializeToString())

    def stream(self, _: bytes, __: Any) -> Iterator[bytes]:
        for event in self.answers["GetContainerEvents"]:
            yield event if isinstance(event, bytes) else event.SerializeToString()
        self.release.wait()


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[Runtime]:
    served = Runtime(tmp_path / "containerd.sock")
    yield served
    served.release.set()
    served.server.stop(None).wait()


@pytest.fixture
def source(runtime: Runtime) -> CriSource:
    return CriSource(runtime.path, timeout_s=0.5)


def test_a_status_becomes_one_whole_container(runtime: Runtime, source: CriSource) -> None:
    runtime.answers["ContainerStatus"] = status(CONTAINERD_INFO)
    runtime.answers["PodSandboxStatus"] = sandbox()
    assert source.look_up(A) == Container(
        id=A,
        source="containerd",
        runtime="containerd",
        name="app",
        restarts=2,
        image_name="docker.io/library/web",
        image_tag="1.2",
        image_digest="sha256:d",
        labels=LABELS,
        created="2026-01-02T03:04:05.678Z",
        started="2026-01-02T03:04:06.000Z",
        privileged=True,
        ip="10.0.0.1",
        command=("nginx", "-g", "daemon off;"),
        pid=4242,
        mounts=("/etc:/host:ro", "/var/lib/kubelet/pods/x/hosts:/etc/hosts:rw"),
        host_mounts=("/etc:/host:ro",),
        network_mode="pod",
        pid_mode="private",
        cap_add=("NET_ADMIN",),
        pod_uid="u-1",
        pod_name="web-1",
        pod_namespace="shop",
        pod_ip="10.0.0.1",
        pod_labels={"app": "web"},
        complete=True,
    )


def test_what_cri_o_says_otherwise_is_understood(runtime: Runtime, source: CriSource) -> None:
    spec = SPEC | {"linux": {"namespaces": [{"type": "mount"}]}}
    runtime.answers["ContainerStatus"] = status(
        {"pid": 1, "privileged": False, "runtimeSpec": spec}
    )
    found = source.look_up(A)
    assert found is not None
    assert (
        found.privileged,
        found.cap_add,
        found.network_mode,
        found.pid_mode,
    ) == (False, None, "host", "host")


def test_a_pod_in_the_node_s_namespaces_shows_it_on_its_containers(
    runtime: Runtime, source: CriSource
) -> None:
    """Their own specs list a namespace all the same: the one they join."""
    runtime.answers["ContainerStatus"] = status(CONTAINERD_INFO)
    pod = sandbox()
    pod.status.linux.namespaces.options.network = 2
    pod.status.linux.namespaces.options.pid = 2
    runtime.answers["PodSandboxStatus"] = pod
    found = source.look_up(A)
    assert found is not None
    assert (found.network_mode, found.pid_mode) == ("host", "host")


def test_a_pod_s_sandbox_is_known_by_its_id(runtime: Runtime, source: CriSource) -> None:
    runtime.answers["PodSandboxStatus"] = sandbox()
    found = source.look_up(P)
    assert found is not None
    assert (found.is_sandbox, found.pod_name, found.pid) == (True, "web-1", 7)


def test_a_sandbox_is_asked_for_once(runtime: Runtime, source: CriSource) -> None:
    runtime.answers["ContainerStatus"] = status(CONTAINERD_INFO)
    runtime.answers["PodSandboxStatus"] = sandbox()
    source.look_up(A)
    source.look_up(A)
    assert runtime.asked.count("PodSandboxStatus") == 1


def test_the_last_pods_are_remembered(
    runtime: Runtime, source: CriSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sensor.containers.cri._MAX_SANDBOXES", 2)
    for digit in "1234":
        answer = sandbox()
        answer.status.id = digit * 64
        runtime.answers["PodSandboxStatus"] = answer
        source.look_up(digit * 64)
    assert list(source._pods) == [digit * 64 for digit in "34"]


def test_what_is_not_there_is_none(source: CriSource) -> None:
    assert source.look_up(A) is None


def test_names_are_never_asked_for(runtime: Runtime, source: CriSource) -> None:
    assert (source.look_up("redis"), runtime.asked) == (None, [])


@pytest.mark.parametrize(
    "answer",
    [
        b"\xff\xff\xff",
        pb.ContainerStatusResponse(info={"info": "no json"}),
        pb.ContainerStatusResponse(info={"info": '{"pid": "x"}'}),
        pb.ContainerStatusResponse(info={"info": "[" * 100_000}),
        b"\x00" * (17 << 20),
        grpc.StatusCode.INTERNAL,
    ],
    ids=["bytes", "text", "types", "depth", "size", "internal"],
)
def test_garbage_is_said_to_be_garbage(runtime: Runtime, source: CriSource, answer: Any) -> None:
    runtime.answers["ContainerStatus"] = answer
    with pytest.raises(SourceGarbageError):
        source.look_up(A)


def test_ten_megabytes_of_labels_are_cut_down(runtime: Runtime, source: CriSource) -> None:
    answer = status(CONTAINERD_INFO)
    answer.status.labels.update({f"k{i}": "v" * 1000 for i in range(10_000)})
    runtime.answers["ContainerStatus"] = answer
    found = source.look_up(A)
    assert found is not None
    assert (found.pod_name, len(found.labels or {})) == ("web-1", 64)


def test_a_runtime_that_hangs_times_out(runtime: Runtime, source: CriSource) -> None:
    runtime.answers["ContainerStatus"] = lambda _: runtime.release.wait()
    with pytest.raises(SourceTimeoutError):
        source.look_up(A)


def test_a_runtime_that_is_away_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="unavailable"):
        CriSource(f"{tmp_path}/none.sock", timeout_s=0.5).look_up(A)


def test_a_socket_that_speaks_something_else_is_an_error(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/x.sock")
        listener.listen()

        def answer() -> None:
            connection, _ = listener.accept()
            connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 100)
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(SourceError):
            CriSource(f"{tmp_path}/x.sock", timeout_s=0.5).look_up(A)


@pytest.fixture
def changes(source: CriSource) -> Iterator[Callable[[], queue.Queue[Any]]]:
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
    for thread in threads:
        thread.join(LONG_S)
        assert not thread.is_alive()


def lists(runtime: Runtime, *containers: str) -> None:
    answer = pb.ListContainersResponse()
    for container_id in containers:
        item = answer.containers.add(id=container_id, pod_sandbox_id=P, state=1)
        item.metadata.name = "app"
        item.image.image = "web:1"
        item.labels.update(LABELS)
    answer.containers.add(id="e" * 64, state=2)
    runtime.answers["ListContainers"] = answer
    pods = pb.ListPodSandboxResponse()
    pods.items.add(id=P).labels.update({"app": "web"})
    runtime.answers["ListPodSandbox"] = pods


def test_events_fill_ahead_where_they_are_served(
    runtime: Runtime, changes: Callable[[], queue.Queue[Any]]
) -> None:
    lists(runtime, A)
    runtime.answers["GetContainerEvents"] = [
        pb.ContainerEventResponse(container_id="b" * 64, container_event_type=kind)
        for kind in (0, 1, 2, 3, 99)
    ]
    told = changes()
    seed: Change = told.get(timeout=LONG_S)
    assert [(c.id, c.is_sandbox, c.name) for c in seed.containers] == [
        (P, True, None),
        (A, False, "app"),
    ]
    assert (seed.containers[1].pod_name, seed.containers[1].pod_labels) == ("web-1", {"app": "web"})
    assert [told.get(timeout=LONG_S).kind for _ in range(4)] == [
        "update",
        "start",
        "die",
        "destroy",
    ]


def test_without_events_the_list_is_taken_again_and_told_when_it_changed(
    runtime: Runtime,
    changes: Callable[[], queue.Queue[Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sensor.containers.cri.POLL_S", 0.01)
    lists(runtime, A)
    told = changes()
    told.get(timeout=LONG_S)  # before it is known that there are no events
    told.get(timeout=LONG_S)
    taken = runtime.asked.count("ListContainers")
    while runtime.asked.count("ListContainers") < taken + 3:
        threading.Event().wait(0.01)
    assert told.empty()
    lists(runtime, A, "b" * 64)
    assert {P, A, "b" * 64} == {c.id for c in told.get(timeout=LONG_S).containers}


def test_garbage_on_the_stream_ends_it(
    runtime: Runtime, changes: Callable[[], queue.Queue[Any]]
) -> None:
    runtime.answers["GetContainerEvents"] = [b"\xff\xff\xff"]
    told = changes()
    told.get(timeout=LONG_S)
    assert isinstance(told.get(timeout=LONG_S), SourceGarbageError)
