"""Engines beside Docker, and a resolver that is told nothing but their sockets."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import images
import pytest
from daemons import PAUSE, Containerd, DockerOnV2, Podman

from sensor.containers.resolver import Resolver, SourcesConfig, find_sources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import docker
    from testbed import Trees

    Resolve = Callable[..., Resolver]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.path).parent == Path(__file__).parent:
            item.add_marker(pytest.mark.live)


@pytest.fixture(scope="session")
def docker_on_v2(trees: Trees) -> Iterator[docker.DockerClient]:
    """Docker where only the unified cgroup hierarchy is mounted, with the busybox image."""
    if (reason := DockerOnV2.missing()) is not None:
        pytest.skip(reason)
    with DockerOnV2() as daemon:
        client = daemon.client()
        images.import_image(client, images.BUSYBOX, trees.busybox)
        yield client
        for container in client.containers.list(all=True):
            container.remove(force=True)
        client.close()


@pytest.fixture(scope="session")
def podman(client: docker.DockerClient) -> Iterator[Podman]:
    """Podman's service with the busybox image."""
    if (reason := Podman.missing()) is not None:
        pytest.skip(reason)
    with Podman() as daemon:
        own = daemon.client()
        own.images.load(b"".join(client.images.get(images.BUSYBOX).save(named=True)))
        yield daemon
        for container in own.containers.list(all=True):
            container.remove(force=True)
        own.close()


@pytest.fixture(scope="session")
def containerd(client: docker.DockerClient, trees: Trees) -> Iterator[Containerd]:
    """containerd with its CRI, the busybox image and a pause image."""
    if (reason := Containerd.missing()) is not None:
        pytest.skip(reason)
    name, _, tag = PAUSE.removeprefix("docker.io/").partition(":")
    client.api.import_image_from_data(
        trees.busybox, repository=name, tag=tag, changes=['ENTRYPOINT ["/bin/sleep", "1000000"]']
    )
    with Containerd() as daemon:
        for image in (f"{name}:{tag}", images.BUSYBOX):
            daemon.load(b"".join(client.images.get(image).save(named=True)))
        yield daemon
    client.images.remove(f"{name}:{tag}", force=True)


@pytest.fixture
def resolve() -> Iterator[Resolve]:
    """Make running resolvers from sockets."""
    running: list[Resolver] = []

    def make(*sockets: Path | str, **options: float) -> Resolver:
        config = SourcesConfig(sockets=tuple(map(str, sockets)))
        resolver = Resolver(find_sources(config, environ={}), **options)  # type: ignore[arg-type]
        resolver.start()
        running.append(resolver)
        return resolver

    yield make
    for resolver in running:
        resolver.stop()
