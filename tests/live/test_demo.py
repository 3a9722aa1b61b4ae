"""`make demo` on a bad day: it ends at once, says so, and leaves nothing in the engine."""

from __future__ import annotations

import importlib.util
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import images
import pytest
from docker.errors import APIError
from docker_engine import DockerEngine, missing_for_engine
from sensor_process import READY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    import docker


@pytest.fixture
def demo() -> ModuleType:
    """The demo's module, anew for each test."""
    spec = importlib.util.spec_from_file_location(
        "demo", Path(__file__).parents[2] / "deploy/demo.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def empty_engine(machine: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[docker.DockerClient]:
    """An engine that holds no image and no container, in the place of the machine's."""
    if (reason := missing_for_engine()) is not None:
        pytest.skip(reason)
    with DockerEngine() as own:
        monkeypatch.setenv("DOCKER_HOST", own.host)
        client = own.client()
        yield client
        assert client.containers.list(all=True) == []
        assert client.images.list() == []
        client.close()


def test_a_sensor_that_fails_at_once(
    empty_engine: docker.DockerClient, demo: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "SENSOR", "/bin/false")
    monkeypatch.setattr(demo, "READY_SECONDS", None)  # no limit: only the sensor's end is awaited
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(demo.main()), daemon=True)
    thread.start()
    thread.join(READY_SECONDS)
    assert codes == [1], "the demo did not notice, or found an alert"


def test_a_container_that_does_not_start(
    empty_engine: docker.DockerClient, demo: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "DEBIAN_TOOLS", ())  # and so there is no `sleep`
    with pytest.raises(APIError, match="sleep"):
        demo.main()
