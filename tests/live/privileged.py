"""Containers with `--privileged`, also where root itself lacks a capability that Docker would grant.

On a usual host the engine under test starts them. Inside a sandbox that withholds CAP_SYS_RESOURCE it
cannot; then a second engine does, whose runtime (lenient_runc.py) leaves out what the host cannot grant.
Docker's own record of the container says "privileged" either way.
"""

from __future__ import annotations

import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from docker.errors import APIError, NotFound
from docker_engine import DockerEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker import DockerClient
    from docker.models.containers import Container

RUNTIME = Path(__file__).with_name("lenient_runc.py")


class LenientEngine(DockerEngine):
    """An engine that starts privileged containers with as much privilege as there is."""

    def _options(self) -> list[str]:
        return [
            *super()._options(),
            f"--add-runtime=lenient={RUNTIME}",
            "--default-runtime=lenient",
        ]


def start_privileged(client: DockerClient, image: str) -> Container:
    """Start a privileged container that only waits. Raises docker's APIError if it cannot."""
    container = client.containers.create(
        image,
        ["sleep", "1000000"],
        name=f"sensor-test-privileged-{uuid.uuid4().hex[:8]}",
        privileged=True,
        # `sleep` as pid 1 ignores SIGTERM.
        stop_signal="SIGKILL",
    )
    try:
        container.start()
    except APIError:
        container.remove(force=True)
        raise
    return container


def can_start_privileged(client: DockerClient, image: str) -> bool:
    """Whether this engine can, found out by doing it once."""
    try:
        container = start_privileged(client, image)
    except APIError as error:
        if "caps" in str(error) or "not permitted" in str(error):
            return False
        raise
    with suppress(NotFound):
        container.remove(force=True)
    return True


@contextmanager
def lenient_engine() -> Iterator[tuple[DockerEngine, DockerClient]]:
    """A second engine of our own, running, and a client of it."""
    with LenientEngine() as engine:
        client = engine.client()
        try:
            yield engine, client
        finally:
            client.close()
