"""Docker that goes away under load: what is known stays, and what comes is known again."""

from __future__ import annotations

import itertools
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Self

import images
import pytest
from daemons import DockerOnV2
from docker.errors import DockerException
from patience import patient
from requests import RequestException

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from testbed import Trees

    from sensor.containers.resolver import Resolver

    Resolve = Callable[..., Resolver]

LONG_S = patient(60)


class Load:
    """Short containers, one after the other, for as long as there is a daemon to ask for them."""

    def __init__(self, engine: DockerOnV2) -> None:
        self._engine = engine
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.names: dict[str, str] = {}

    def _run(self) -> None:
        for number in itertools.count():
            if self._stop.wait(0.01):
                return
            with suppress(DockerException, RequestException):
                client = self._engine.client()
                container = client.containers.create(
                    images.BUSYBOX, ["true"], name=f"load-{number}", network_mode="none"
                )
                container.start()
                self.names[container.id] = f"load-{number}"
                client.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


@pytest.fixture
def own_engine(trees: Trees) -> Iterator[DockerOnV2]:
    if (reason := DockerOnV2.missing()) is not None:
        pytest.skip(reason)
    with DockerOnV2() as engine:
        client = engine.client()
        images.import_image(client, images.BUSYBOX, trees.busybox)
        client.close()
        yield engine


def until(resolver: Resolver, true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LONG_S
    while not true():
        assert time.monotonic() < deadline, resolver.counters()
        time.sleep(0.01)  # what only the engine's events can bring about


def test_docker_restarts_under_load(own_engine: DockerOnV2, resolve: Resolve) -> None:
    resolver = resolve(own_engine.socket)
    with Load(own_engine) as load:
        until(resolver, lambda: len(load.names) >= 5)
        before = dict(load.names)
        own_engine.end()
        until(resolver, lambda: resolver.counters().get("docker.watch.lost", 0) >= 1)
        assert before == {i: c.name for i in before if (c := resolver.get(i).container)}
        asked = time.monotonic()
        assert resolver.resolve("f" * 64, timeout_s=LONG_S).state == "unavailable"
        assert time.monotonic() - asked < LONG_S / 2  # a daemon that is away is not waited for
        own_engine.start()
        until(resolver, lambda: len(load.names) >= len(before) + 5)
    names = dict(load.names)
    until(resolver, lambda: all(resolver.get(container_id).container for container_id in names))
    assert names == {i: c.name for i in names if (c := resolver.get(i).container)}
    until(resolver, lambda: resolver.troubles() == {})  # the last answer may have been late
