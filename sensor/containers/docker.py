"""Docker, and whatever else serves its API on a socket (Podman), as a source of containers.

The one module that imports `docker`. That package makes the connection; answers are read here,
because it would read one of any size and wait for it as long as it takes.
"""

from __future__ import annotations

import contextlib
import errno
import re
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final

import requests
import urllib3
from docker.api.client import APIClient
from docker.errors import DockerException
from docker.types.daemon import CancellableStream
from docker.utils import kwargs_from_env

from sensor.containers import docker_answers as answers
from sensor.containers.lines import bounded_lines
from sensor.containers.source import (
    MAX_ANSWER_BYTES,
    MAX_EVENT_BYTES,
    MAX_LIST_BYTES,
    Change,
    SourceGarbageError,
    SourceTimeoutError,
)
from sensor.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from sensor.containers.container import Container

_ID: Final = re.compile(r"[0-9a-f]{64}")
_READ_BYTES: Final = 1 << 16
# So many times as long as others the first answer may take: for its version Podman asks other programs and
# the package manager for theirs, seconds on a busy machine.
_FIRST_PATIENCE: Final = 5
# A quiet stream is opened anew after this time, with everything since: a daemon that is gone
# without closing the connection (a TCP host) is found out so.
_IDLE_S: Final = 60.0
# Events made while the stream was being opened are told again; dockerd keeps the last 256.
_OVERLAP_S: Final = 2.0
_MAX_IMAGES: Final = 256
# Podman answers a state that it does not know with an error.
_LIST_FILTER: Final = {
    "docker": '{"status":["created","restarting","running","paused"]}',
    "podman": '{"status":["created","initialized","running","paused"]}',
}
_EVENT_FILTER: Final = '{"type":["container"]}'
_UNREACHABLE: Final = {
    errno.ENOENT: "is the engine running? Another socket is named with --socket or `containers.sockets`",
    errno.ECONNREFUSED: "is the engine running?",
    errno.EACCES: "it takes root, or the group that owns the socket",
}


class DockerSource:
    """One daemon, by its URL (`unix:///path` or DOCKER_HOST's `tcp://…`)."""

    def __init__(
        self, url: str, *, timeout_s: float = 2.0, environ: Mapping[str, str] | None = None
    ) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._environ = dict(environ or {})
        self.name = "podman" if "podman" in url else "docker"
        self._asking = _PerThread()
        self._images: OrderedDict[str, answers.Image] = OrderedDict()
        self._stream: CancellableStream[bytes] | None = None
        self._last_event_s: float | None = None

    @property
    def url(self) -> str:
        """Where the daemon is."""
        return self._url

    def socket_paths(self) -> tuple[str, ...]:
        return (self._url.removeprefix("unix://"),) if self._url.startswith("unix://") else ()

    def look_up(self, container_id: str) -> Container | None:
        """Inspect one container. Names are not asked for: Docker's ids are 64 hex digits."""
        found = self.inspect(container_id)
        return None if found is None else found[0]

    def inspect(self, container_id: str) -> tuple[Container, bytes] | None:
        """The container, and the daemon's answer (JSON) with all that is not read of it here."""
        if not _ID.fullmatch(container_id):
            return None
        connection = self._asking.connection
        if connection is None:
            connection = self._asking.connection = self._connect()
        try:
            body = connection.get(f"/containers/{container_id}/json", MAX_ANSWER_BYTES)
            if body is None:
                return None
            answer = answers.decode(body, answers.Inspected, self.name)
            image = self._image(connection, answer.image)
        except SourceError:
            # The daemon may come back as another version: begin from the beginning.
            self._asking.connection = None
            connection.close()
            raise
        found = answers.inspected(answer, image, source=self.name, runtime=connection.runtime)
        return found, body

    def watch(self, tell: Callable[[Change], None], stop: threading.Event) -> None:
        """Open the stream first and list then, so that nothing falls in between."""
        connection = self._connect()
        try:
            while not stop.is_set():
                with contextlib.suppress(_QuietStreamError):
                    self._watch(connection, tell, stop)
        finally:
            self._stream = None
            connection.close()

    def interrupt(self) -> None:
        stream = self._stream
        if stream is not None:
            # Races with the end of the stream in many ways, all of which mean that it has ended.
            with contextlib.suppress(Exception):
                stream.close()

    def list(self) -> tuple[Container, ...]:
        """Return what runs or is about to, each as far as a list knows it."""
        connection = self._connect()
        try:
            return self._list(connection)
        finally:
            connection.close()

    def _connect(self) -> _Connection:
        return _Connection(self.name, self._url, self._timeout_s, self._environ)

    def _watch(
        self, connection: _Connection, tell: Callable[[Change], None], stop: threading.Event
    ) -> None:
        since = (self._last_event_s or time.time()) - _OVERLAP_S
        parameters = {"filters": _EVENT_FILTER, "since": f"{since:.9f}"}
        with connection.stream("/events", parameters) as response:
            chunks = connection.chunks(response)
            self._stream = CancellableStream(chunks, response)
            if stop.is_set():
                return
            tell(Change(kind="seed", containers=self._list(connection)))
            for line in bounded_lines(_until_quiet(chunks), MAX_EVENT_BYTES):
                if line is None:
                    tell(Change(kind="unreadable"))
                    tell(Change(kind="seed", containers=self._list(connection)))
                elif line.strip():
                    event = answers.decode(line, answers.Event, self.name)
                    self._last_event_s = (event.time_nano / 1e9) or None
                    change = answers.change(event, source=self.name, runtime=connection.runtime)
                    if change is not None:
                        tell(change)
        if not stop.is_set():
            raise SourceError(f"{self.name}: the event stream ended")

    def _list(self, connection: _Connection) -> tuple[Container, ...]:
        parameters = {"all": "1", "filters": _LIST_FILTER[connection.runtime]}
        body = connection.get("/containers/json", MAX_LIST_BYTES, parameters)
        found = answers.decode(body or b"[]", list[answers.Listed], self.name)
        return answers.listed(found, source=self.name, runtime=connection.runtime)

    def _image(self, connection: _Connection, image_id: str | None) -> answers.Image | None:
        """Return tags and digests of an image, asked for once; a failure costs only the digest."""
        if not image_id or "/" in image_id:
            return None
        image = self._images.get(image_id)
        if image is None:
            try:
                body = connection.get(f"/images/{image_id}/json", MAX_ANSWER_BYTES)
                image = answers.decode(body or b"{}", answers.Image, self.name)
            except SourceGarbageError:
                image = answers.Image()
            self._images[image_id] = image
            if len(self._images) > _MAX_IMAGES:
                self._images.popitem(last=False)
        return image


class _PerThread(threading.local):
    """Look-ups come from several threads, and an HTTP session is one thread's."""

    connection: _Connection | None = None


class _QuietStreamError(SourceError):
    """Nothing came for _IDLE_S: no loss, but worth a new stream."""


def _until_quiet(chunks: Iterator[bytes]) -> Iterator[bytes]:
    try:
        yield from chunks
    except SourceTimeoutError as error:
        raise _QuietStreamError("quiet") from error


class _Connection:
    """One HTTP session with a daemon, every answer of it bounded in time and size."""

    def __init__(self, name: str, url: str, timeout_s: float, environ: Mapping[str, str]) -> None:
        self._name = name
        self._place = url.removeprefix("unix://")
        self._timeout_s = timeout_s
        # Given a version, the client asks nothing by itself.
        options: dict[str, Any] = {"base_url": url, "version": "1.44", "timeout": timeout_s}
        if not url.startswith("unix://"):
            options.update(kwargs_from_env(environment=dict(environ)))
        try:
            self._client = APIClient(**options)
        except DockerException as error:
            raise SourceError(f"{name}: {error}") from error
        # No proxies and no .netrc: the environment has no say about a local socket.
        self._client.trust_env = False
        self._prefix = self._client.base_url
        answer = self.get("/version", 1 << 20, patience_s=timeout_s * _FIRST_PATIENCE)
        version = answers.decode(answer or b"", answers.Version, name)
        self.runtime = "podman" if version.is_podman else "docker"
        if not re.fullmatch(r"[0-9]{1,3}\.[0-9]{1,3}", version.api_version):
            raise SourceGarbageError(f"{name}: no API version in its answer")
        self._prefix += f"/v{version.api_version}"

    def close(self) -> None:
        self._client.close()

    def get(
        self,
        path: str,
        limit: int,
        parameters: Mapping[str, str] | None = None,
        *,
        patience_s: float | None = None,
    ) -> bytes | None:
        """Return the body of the answer, None where there is no such thing (404)."""
        deadline = time.monotonic() + self._timeout_s * 5
        body = bytearray()
        with self._get(path, parameters, patience_s or self._timeout_s) as response:
            if response.status_code == requests.codes.not_found:
                return None
            self._check(response)
            for chunk in self.chunks(response):
                body += chunk
                if len(body) > limit:
                    raise SourceGarbageError(f"{self._name}: an answer of over {limit >> 20} MiB")
                if time.monotonic() > deadline:
                    raise SourceTimeoutError(f"{self._name}: an answer that does not end")
        return bytes(body)

    def stream(self, path: str, parameters: Mapping[str, str]) -> requests.Response:
        response = self._get(path, parameters, _IDLE_S)
        self._check(response)
        return response

    def chunks(self, response: requests.Response) -> Iterator[bytes]:
        """Yield what has come, as it comes."""
        try:
            yield from response.iter_content(_READ_BYTES)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise self._failure(error) from error
        except (ValueError, AttributeError) as error:  # urllib3, when `interrupt` closed its socket
            raise SourceError(f"{self._name}: the connection was closed") from error

    def _get(
        self, path: str, parameters: Mapping[str, str] | None, read_timeout_s: float
    ) -> requests.Response:
        try:
            return self._client.get(
                self._prefix + path,
                params=parameters,
                stream=True,
                allow_redirects=False,
                timeout=(self._timeout_s, read_timeout_s),
            )
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise self._failure(error, read_timeout_s) from error
        except ValueError as error:  # http.client: what came is no HTTP
            raise SourceGarbageError(f"{self._name}: {error}"[:200]) from error

    def _check(self, response: requests.Response) -> None:
        if response.status_code != requests.codes.ok:
            said = next(self.chunks(response), b"")[:160].decode(errors="replace")
            raise SourceError(f"{self._name}: HTTP status {response.status_code}: {said}")

    def _failure(self, error: Exception, waited_s: float | None = None) -> SourceError:
        # requests wraps a read that times out in a body as a ConnectionError.
        causes = (error, *error.args)
        if any(
            isinstance(cause, (requests.Timeout, urllib3.exceptions.TimeoutError, TimeoutError))
            for cause in causes
        ):
            waited_s = waited_s or self._timeout_s
            return SourceTimeoutError(f"{self._name}: did not answer in {waited_s:g} s")
        cause = _innermost(error)
        if isinstance(cause, OSError) and cause.errno in _UNREACHABLE:
            advice = _UNREACHABLE[cause.errno]
            return SourceError(f"{self._name}: {self._place}: {cause.strerror}: {advice}"[:400])
        return SourceError(f"{self._name}: {cause}"[:200])


def _innermost(error: BaseException) -> BaseException:
    """Find the cause worth reading: `[Errno 111] Connection refused`, not the layers round it."""
    while error.__context__ is not None:
        error = error.__context__
    return error
