"""What the fixtures hand to tests: the engine, the images' trees, containers to run commands in."""

from __future__ import annotations

import uuid
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import images
from docker.errors import NotFound

if TYPE_CHECKING:
    import docker
    from docker.models.containers import Container

LABELS = {"com.example.team": "payments", "com.example.odd": 'ä "quoted"\tvalue'}


@dataclass(frozen=True)
class Engine:
    """The engine under test, ours or the user's."""

    host: str
    client: docker.DockerClient

    @property
    def environment(self) -> dict[str, str]:
        """What tells a sensor to use this engine."""
        return {"DOCKER_HOST": self.host}


@dataclass(frozen=True)
class Trees:
    """The root file systems of the test images, to be imported into an engine."""

    busybox: bytes
    debian: bytes

    def import_into(self, client: docker.DockerClient) -> None:
        images.import_image(client, images.BUSYBOX, self.busybox)
        images.import_image(client, images.DEBIAN, self.debian)


def running(client: docker.DockerClient, image: str, name: str) -> Container:
    """Start a container that only waits, so that a test can run commands in it."""
    return client.containers.run(
        image,
        ["sleep", "1000000"],
        name=f"sensor-test-{name}-{uuid.uuid4().hex[:8]}",
        labels=LABELS,
        detach=True,
        # `sleep` as pid 1 ignores SIGTERM.
        stop_signal="SIGKILL",
    )


def remove(container: Container) -> None:
    """Remove a container that may be gone already."""
    with suppress(NotFound):
        container.remove(force=True)
