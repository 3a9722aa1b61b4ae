"""The Kubernetes API as a source: the pods of the sensor's own node, with their workloads.

It adds to the engine's word what only the API knows: the pod's owner, its labels as they are now.
It never delays a look-up: all it knows, it has told.
"""

from __future__ import annotations

import contextlib
import http.client
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar
from urllib.parse import urlencode, urlsplit

import msgspec

from sensor.containers.kubernetes_answers import (
    DECODERS,
    ContainerState,
    PodEvent,
    PodList,
    containers_of,
)
from sensor.containers.lines import bounded_lines
from sensor.containers.source import (
    MAX_LIST_BYTES,
    Change,
    SourceGarbageError,
    SourceTimeoutError,
)
from sensor.errors import ConfigurationError, SourceError

if TYPE_CHECKING:
    import socket
    import threading
    from collections.abc import Callable, Iterator, Mapping

    from sensor.containers.container import Container

T = TypeVar("T")

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
MAX_POD_BYTES: Final = 4 << 20  # etcd holds 1.5 MiB at most
_READ_BYTES: Final = 1 << 16
_WATCH_S: Final = 300  # the server ends a watch after this time
_IDLE_S: Final = 120.0  # it sends a bookmark about every minute
_GONE: Final = 410


class KubernetesSource:
    """One API server, asked for the pods of one node."""

    def __init__(
        self,
        url: str,
        node_name: str,
        *,
        token_file: Path | None = None,
        ca_file: Path | None = None,
        timeout_s: float = 2.0,
    ) -> None:
        self.name = "kubernetes"
        self._url = urlsplit(url)
        self._node_name = node_name
        self._token_file = token_file
        self._tls = (
            ssl.create_default_context(cafile=ca_file) if self._url.scheme == "https" else None
        )
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._told: dict[str, frozenset[str]] = {}  # pod uid -> ids of its running containers

    @classmethod
    def in_cluster(
        cls, node_name: str, *, timeout_s: float, environ: Mapping[str, str]
    ) -> KubernetesSource:
        """Use what every pod is given: the service's address and the account's token."""
        host, port = (
            environ["KUBERNETES_SERVICE_HOST"],
            environ.get("KUBERNETES_SERVICE_PORT", "443"),
        )
        host = f"[{host}]" if ":" in host else host
        try:
            return cls(
                f"https://{host}:{port}",
                node_name,
                token_file=SERVICE_ACCOUNT / "token",
                ca_file=SERVICE_ACCOUNT / "ca.crt",
                timeout_s=timeout_s,
            )
        except OSError as error:
            raise ConfigurationError(f"the Kubernetes API's certificate: {error}") from error

    def socket_paths(self) -> tuple[str, ...]:
        return ()

    def look_up(self, container_id: str) -> Container | None:  # noqa: ARG002 - the Source protocol
        """Nothing is asked for singly: whatever is known has been told."""
        return None

    def watch(self, tell: Callable[[Change], None], stop: threading.Event) -> None:
        version = self._list(tell)
        while not stop.is_set():
            with contextlib.suppress(_QuietWatchError):
                for event in self._events(version):
                    if event.type == "ERROR":
                        if event.object.code == _GONE:
                            raise SourceError(f"{self.name}: the watch is too old")
                        raise SourceError(f"{self.name}: {event.object.message}"[:200])
                    version = event.object.metadata.resource_version or version
                    for change in self._changes(event):
                        tell(change)

    def interrupt(self) -> None:
        connected = self._socket
        if connected is not None:
            with contextlib.suppress(OSError):
                connected.shutdown(2)

    def _list(self, tell: Callable[[Change], None]) -> str:
        # "0": what the server has at hand. Every node asks this, and the watch catches up.
        response = self._get({"resourceVersion": "0"}, self._timeout_s)
        body = bytearray()
        for chunk in self._chunks(response, self._timeout_s * 5):
            body += chunk
            if len(body) > MAX_LIST_BYTES:
                raise SourceGarbageError(f"{self.name}: a list of over {MAX_LIST_BYTES >> 20} MiB")
        pods = self._decode(bytes(body), PodList)
        self._told = {}
        containers: list[Container] = []
        for pod in pods.items:
            running = [c for c, state in containers_of(pod) if state is not ContainerState.ENDED]
            self._told[pod.metadata.uid] = frozenset(container.id for container in running)
            containers.extend(running)
        tell(Change(kind="seed", containers=tuple(containers)))
        return pods.metadata.resource_version

    def _changes(self, event: PodEvent) -> Iterator[Change]:
        if event.type not in ("ADDED", "MODIFIED", "DELETED"):
            return
        pod = event.object
        known = [c for c, state in containers_of(pod) if state is not ContainerState.ENDED]
        running = frozenset(container.id for container in known)
        if event.type == "DELETED":
            running = frozenset()
        elif known:
            yield Change(kind="update", containers=tuple(known))
        for container_id in self._told.pop(pod.metadata.uid, frozenset()) - running:
            yield Change(kind="die", container_id=container_id)
        if running:
            self._told[pod.metadata.uid] = running

    def _events(self, version: str) -> Iterator[PodEvent]:
        parameters = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(_WATCH_S),
        }
        response = self._get(parameters, _IDLE_S)
        try:
            for line in bounded_lines(self._chunks(response, None), MAX_POD_BYTES):
                if line is None:
                    raise SourceGarbageError(
                        f"{self.name}: an event over {MAX_POD_BYTES >> 20} MiB"
                    )
                if line.strip():
                    yield self._decode(line, PodEvent)
        except SourceTimeoutError as error:
            raise _QuietWatchError("quiet") from error

    def _get(self, parameters: Mapping[str, str], timeout_s: float) -> http.client.HTTPResponse:
        host, port = self._url.hostname or "", self._url.port
        if self._tls is not None:
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=self._timeout_s, context=self._tls
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=self._timeout_s)
        query = urlencode({"fieldSelector": f"spec.nodeName={self._node_name}", **parameters})
        headers = {"Accept": "application/json", "User-Agent": "ebpf-container-sensor"}
        try:
            if self._token_file is not None:
                # Read each time: kubelet replaces it before it expires.
                headers["Authorization"] = f"Bearer {self._token_file.read_text().strip()}"
            connection.connect()
            self._socket = connection.sock
            connection.request("GET", f"/api/v1/pods?{query}", headers=headers)
            response = connection.getresponse()
            connection.sock.settimeout(timeout_s)
        except TimeoutError as error:
            raise SourceTimeoutError(
                f"{self.name}: did not answer in {self._timeout_s:g} s"
            ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise SourceError(f"{self.name}: {error}"[:200]) from error
        if response.status != http.client.OK:
            response.close()
            raise SourceError(f"{self.name}: HTTP status {response.status}")
        return response

    def _chunks(
        self, response: http.client.HTTPResponse, within_s: float | None
    ) -> Iterator[bytes]:
        deadline = None if within_s is None else time.monotonic() + within_s
        with response:
            try:
                while chunk := response.read1(_READ_BYTES):
                    yield chunk
                    if deadline is not None and time.monotonic() > deadline:
                        raise SourceTimeoutError(f"{self.name}: an answer that does not end")
            except TimeoutError as error:
                raise SourceTimeoutError(f"{self.name}: silent") from error
            except (OSError, http.client.HTTPException, ValueError) as error:
                raise SourceError(f"{self.name}: {error}"[:200]) from error

    def _decode(self, body: bytes, kind: type[T]) -> T:
        try:
            answer: T = DECODERS[kind].decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise SourceGarbageError(f"{self.name}: {error}"[:200]) from error
        return answer


class _QuietWatchError(SourceError):
    """Nothing came for _IDLE_S: no loss, but worth a new watch."""
