"""A container runtime behind the Kubernetes CRI (containerd, CRI-O) as a source of containers.

The one module that imports grpc. Where the runtime serves GetContainerEvents they fill ahead; where
it does not (containerd before 1.7), the list is taken every second and single containers are asked
for in between.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.protobuf.message import DecodeError

from sensor.containers import cri_answers as answers
from sensor.containers.container import bounded_text
from sensor.containers.cri_answers import pb
from sensor.containers.source import (
    MAX_ANSWER_BYTES,
    Change,
    SourceGarbageError,
    SourceTimeoutError,
)
from sensor.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sensor.containers.container import Container
    from sensor.containers.source import ChangeKind

POLL_S: Final = 1.0
_SERVICE: Final = "/runtime.v1.RuntimeService/"
_ID: Final = re.compile(r"[0-9a-f]{64}")
_MAX_SANDBOXES: Final = 1024
_EVENTS: Final[dict[int, ChangeKind]] = {0: "update", 1: "start", 2: "die", 3: "destroy"}


class CriSource:
    """One runtime, by the path of its socket."""

    def __init__(self, path: str, *, timeout_s: float = 2.0) -> None:
        self._path = path
        self._timeout_s = timeout_s
        self.name = "cri-o" if "crio" in path else "containerd"
        self._asking = _PerThread()
        self._pods: OrderedDict[str, answers.Pod] = OrderedDict()
        self._stream: Any = None

    @property
    def path(self) -> str:
        """The runtime's socket."""
        return self._path

    def socket_paths(self) -> tuple[str, ...]:
        return (self._path,)

    def look_up(self, container_id: str) -> Container | None:
        """Ask for a container's status, then for a pod sandbox of that id (its pause process)."""
        if not _ID.fullmatch(container_id):
            return None
        channel = self._asking.channel
        if channel is None:
            channel = self._asking.channel = self._connect()
        try:
            answer = channel.ask(
                "ContainerStatus",
                pb.ContainerStatusRequest(container_id=container_id, verbose=True),
                pb.ContainerStatusResponse,
            )
            if answer is not None:
                info = answers.info_of(answer, self.name)
                return answers.container_of(
                    answer.status,
                    info,
                    self._pod(channel, info.sandbox_id),
                    source=self.name,
                    runtime=channel.runtime,
                )
            answer = channel.ask(
                "PodSandboxStatus",
                pb.PodSandboxStatusRequest(pod_sandbox_id=container_id, verbose=True),
                pb.PodSandboxStatusResponse,
            )
            if answer is None:
                return None
            return answers.sandbox_of(
                answer.status,
                answers.info_of(answer, self.name),
                self._remember(answer.status),
                source=self.name,
                runtime=channel.runtime,
            )
        except SourceError:
            self._asking.channel = None
            channel.close()
            raise

    def watch(self, tell: Callable[[Change], None], stop: threading.Event) -> None:
        channel = self._connect()
        try:
            if not self._follow(channel, tell, stop):
                self._poll(channel, tell, stop)
        finally:
            self._stream = None
            channel.close()

    def interrupt(self) -> None:
        stream = self._stream
        if stream is not None:
            stream.cancel()

    def list(self) -> tuple[Container, ...]:
        """Return what runs, each as far as a list knows it."""
        channel = self._connect()
        try:
            return self._listed(channel, *self._lists(channel))
        finally:
            channel.close()

    def _connect(self) -> Channel:
        return Channel(self.name, self._path, self._timeout_s)

    def _follow(
        self, channel: Channel, tell: Callable[[Change], None], stop: threading.Event
    ) -> bool:
        """Follow the runtime's events until stopped; False if it has none to give."""
        self._stream = channel.stream("GetContainerEvents", pb.GetEventsRequest())
        if stop.is_set():
            return True
        tell(Change(kind="seed", containers=self._listed(channel, *self._lists(channel))))
        try:
            for body in self._stream:
                event = channel.parse(body, pb.ContainerEventResponse)
                kind = _EVENTS.get(event.container_event_type)
                if kind is not None and event.container_id:
                    tell(Change(kind=kind, container_id=event.container_id))
        except grpc.RpcError as error:
            if stop.is_set():
                return True
            if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                return False
            raise channel.failure(error) from error
        raise SourceError(f"{self.name}: the event stream ended")

    def _poll(
        self, channel: Channel, tell: Callable[[Change], None], stop: threading.Event
    ) -> None:
        last: tuple[bytes, bytes] | None = None
        while not stop.is_set():
            lists = self._lists(channel)
            if lists != last:
                tell(Change(kind="seed", containers=self._listed(channel, *lists)))
            last = lists
            stop.wait(POLL_S)

    def _lists(self, channel: Channel) -> tuple[bytes, bytes]:
        return (
            channel.raw("ListContainers", pb.ListContainersRequest()) or b"",
            channel.raw("ListPodSandbox", pb.ListPodSandboxRequest()) or b"",
        )

    def _listed(
        self, channel: Channel, containers: bytes, sandboxes: bytes
    ) -> tuple[Container, ...]:
        return answers.listed(
            channel.parse(containers, pb.ListContainersResponse),
            channel.parse(sandboxes, pb.ListPodSandboxResponse),
            source=self.name,
            runtime=channel.runtime,
        )

    def _pod(self, channel: Channel, sandbox_id: str) -> answers.Pod | None:
        """Return what the sandbox says of the pod, asked for once: labels and address stay."""
        pod = self._pods.get(sandbox_id)
        if pod is None and sandbox_id:
            answer = channel.ask(
                "PodSandboxStatus",
                pb.PodSandboxStatusRequest(pod_sandbox_id=sandbox_id),
                pb.PodSandboxStatusResponse,
            )
            pod = None if answer is None else self._remember(answer.status)
        return pod

    def _remember(self, status: Any) -> answers.Pod:
        pod = answers.pod_of(status)
        self._pods[status.id] = pod
        if len(self._pods) > _MAX_SANDBOXES:
            self._pods.popitem(last=False)
        return pod


class _PerThread(threading.local):
    """Look-ups come from several threads; one that fails closes no other's channel."""

    channel: Channel | None = None


class Channel:
    """One gRPC connection; every answer of it bounded in time and size."""

    def __init__(self, name: str, path: str, timeout_s: float) -> None:
        self._name = name
        self._timeout_s = timeout_s
        self._channel = grpc.insecure_channel(
            f"unix://{path}",
            options=[
                ("grpc.max_receive_message_length", MAX_ANSWER_BYTES),
                ("grpc.enable_http_proxy", 0),
                # Reconnecting is the feed's business: a channel that is lost is thrown away.
                ("grpc.enable_retries", 0),
            ],
        )
        try:
            version = self.ask("Version", pb.VersionRequest(), pb.VersionResponse)
        except SourceError:
            self.close()
            raise
        self.runtime = bounded_text(version.runtime_name, 64) if version is not None else None

    def close(self) -> None:
        with contextlib.suppress(grpc.RpcError):
            self._channel.close()

    def ask(self, method: str, request: Any, kind: Any) -> Any:
        """Return the answer; None where there is no such thing. Raises SourceError."""
        body = self.raw(method, request)
        return None if body is None else self.parse(body, kind)

    def raw(self, method: str, request: Any) -> bytes | None:
        call = self._channel.unary_unary(_SERVICE + method)
        try:
            body: bytes = call(request.SerializeToString(), timeout=self._timeout_s)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return None
            raise self.failure(error) from error
        return body

    def stream(self, method: str, request: Any) -> Any:
        return self._channel.unary_stream(_SERVICE + method)(request.SerializeToString())

    def parse(self, body: bytes, kind: Any) -> Any:
        try:
            return kind.FromString(body)
        except DecodeError as error:
            raise SourceGarbageError(f"{self._name}: {error}"[:200]) from error

    def failure(self, error: Any) -> SourceError:
        """Say what went wrong in a call."""
        code = error.code()
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return SourceTimeoutError(f"{self._name}: did not answer in {self._timeout_s:g} s")
        text = f"{self._name}: {code.name.lower()}: {error.details()}"[:200]
        if code in (grpc.StatusCode.INTERNAL, grpc.StatusCode.RESOURCE_EXHAUSTED):
            return SourceGarbageError(text)
        return SourceError(text)
