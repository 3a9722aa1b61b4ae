"""What surrounds the sensor, in trouble: sockets that answer wrongly, receivers that do not, engines that stop.

Each is a context manager, or a function that answers one connection.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/live"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/live/containers"))

import images
from daemons import PAUSE, Containerd, Podman
from docker_engine import DockerEngine

SEARCH = (
    "i=0; while :; do i=$((i+1)); /bin/grep aws_session_token no-$i 2>/dev/null; sleep 0.01; done"
)
SEARCHING = ("sh", "-c", SEARCH)
LABELS = b'"' + b"x" * 100 + b'":"' + b"y" * 900 + b'",'
# A process of its own: a thread here would hold up what is measured.
CHURN = """
import sys, time, docker, requests
while True:
    try:
        client = docker.DockerClient(base_url=sys.argv[1], timeout=10)
        client.containers.run(sys.argv[2], ["true"], network_mode="none", remove=True)
        client.close()
    except (docker.errors.DockerException, requests.RequestException):
        pass
    time.sleep(0.05)
"""


def hang(_: socket.socket) -> None:
    """The connection stays open, and nothing comes."""


def garbage(connection: socket.socket) -> None:
    connection.recv(1 << 16)
    connection.sendall(os.urandom(1 << 16))
    connection.close()


def labels(connection: socket.socket) -> None:
    """An engine by its version; whatever else it is asked for has 10 MB of labels."""
    while request := connection.recv(1 << 16):
        if b"/version" in request:
            body = b'{"ApiVersion": "1.44", "Version": "1", "Components": []}'
        else:
            body = b'{"Id": "x", "Config": {"Labels": {' + LABELS * 10_000 + b'"z": ""}}}'
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)


Answer = Callable[[socket.socket], None]


@contextmanager
def engine_that(answer: Answer, folder: Path) -> Iterator[Path]:
    """A socket on which every connection is answered like this, in a process of its own."""
    path = folder / f"{answer.__name__}.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen(64)
        pid = os.fork()
        if pid == 0:
            held = []
            while True:
                connection, _ = listener.accept()
                held.append(connection)
                with suppress(OSError):
                    answer(connection)
    try:
        yield path
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        path.unlink()


@contextmanager
def deaf() -> Iterator[int]:
    """A port that takes connections and never reads or answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield int(listener.getsockname()[1])


def closed_port() -> int:
    """A port that refuses connections."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class LivingOn(DockerEngine):
    """An engine that leaves its containers alone when it starts again."""

    def _options(self) -> list[str]:
        return [*super()._options(), "--live-restore"]


@dataclass(frozen=True, kw_only=True)
class Place:
    """A container that searches for a key again and again, and its engine.

    `kill` ends the engine's daemon and what belongs to it, but no container; `start` brings it back, and
    must be called on the main thread: a daemon ends with the thread that started it.
    """

    address: str  # as in `containers.sockets`
    container_id: str
    container_name: str
    kill: Callable[[], None]
    start: Callable[[], object]

    @property
    def socket(self) -> Path:
        return Path(self.address.partition(":")[2])


@contextmanager
def docker_place(
    folder: Path, command: Sequence[str] = SEARCHING
) -> Iterator[tuple[Place, LivingOn]]:
    """A container of a Docker engine of its own, with the busybox image."""
    with LivingOn() as engine:
        client = engine.client()
        tree = images.busybox_tree(images.compile_programs(folder))
        images.import_image(client, images.BUSYBOX, tree)
        container = client.containers.run(
            images.BUSYBOX, list(command), detach=True, network_mode="none"
        )
        client.close()
        yield (
            Place(
                address=f"docker:{engine.socket}",
                container_id=container.id,
                container_name=container.name,
                kill=engine.crash,
                start=engine.start,
            ),
            engine,
        )


@contextmanager
def containerd_place(docker: DockerEngine, command: Sequence[str] = SEARCHING) -> Iterator[Place]:
    """A pod's container in a containerd of its own, by the CRI; the image is taken from Docker's."""
    client = docker.client()
    saved = b"".join(client.images.get(images.BUSYBOX).save(named=True))
    name, _, tag = PAUSE.removeprefix("docker.io/").partition(":")
    container = client.containers.create(images.BUSYBOX, ["true"])
    pause = ['ENTRYPOINT ["/bin/sleep", "1000000"]']
    client.api.import_image_from_data(
        b"".join(container.export()), repository=name, tag=tag, changes=pause
    )
    container.remove()
    saved_pause = b"".join(client.images.get(f"{name}:{tag}").save(named=True))
    client.close()
    with Containerd() as daemon:
        daemon.load(saved)
        daemon.load(saved_pause)
        pod = daemon.cri().run(
            "web-1",
            f"docker.io/{images.BUSYBOX}",
            list(command),
            "/kubepods/burstable/pod{uid}",
        )
        yield Place(
            address=f"cri:{daemon.socket}",
            container_id=pod.container_id,
            container_name="app",
            kill=lambda: daemon.end(signal.SIGKILL),
            start=daemon.start,
        )


@contextmanager
def podman_place(docker: DockerEngine, command: Sequence[str] = SEARCHING) -> Iterator[Place]:
    """A container of a Podman of its own, by its socket; the image is taken from Docker's."""
    client = docker.client()
    saved = b"".join(client.images.get(images.BUSYBOX).save(named=True))
    client.close()
    with Podman() as daemon:
        own = daemon.client()
        own.images.load(saved)
        container = own.containers.run(images.BUSYBOX, list(command), detach=True)
        try:
            yield Place(
                address=f"docker:{daemon.socket}",
                container_id=container.id,
                container_name=container.name,
                kill=lambda: daemon.end(signal.SIGKILL),
                start=daemon.start,
            )
        finally:
            container.remove(force=True)
            own.close()


@contextmanager
def churn(engine: DockerEngine) -> Iterator[None]:
    """Short containers, whenever there is a daemon to ask for them."""
    command = [sys.executable, "-c", CHURN, engine.host, images.BUSYBOX]
    with subprocess.Popen(command) as process:
        try:
            yield
        finally:
            process.kill()


@contextmanager
def stopped(place: Place) -> Iterator[None]:
    """The daemon is gone; its socket is there, and refuses."""
    place.kill()
    try:
        yield
    finally:
        place.start()


@contextmanager
def without_socket(place: Place) -> Iterator[None]:
    """The daemon runs, and nothing leads to it any more."""
    away = place.socket.with_suffix(".away")
    place.socket.rename(away)
    try:
        yield
    finally:
        away.rename(place.socket)
