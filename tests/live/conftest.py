"""Fixtures of the live tests: a Docker engine, images, running containers and a running sensor.

An engine of the user's is used only where DOCKER_HOST names it; otherwise the tests start their own
and leave nothing of it behind.
"""

from __future__ import annotations

import os
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import docker
import images
import pytest
from docker.errors import APIError
from docker_engine import DockerEngine, missing_for_engine
from sensor_process import SENSOR, Sensor
from testbed import Engine, Trees, remove, running

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from docker.models.containers import Container


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.path).is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.live)


@pytest.fixture(scope="session", autouse=True)
def machine() -> None:
    """Skip, with the reason, what cannot run here (with CI set, that is a failure)."""
    if os.geteuid() != 0:
        pytest.skip("the live tests need root: sudo make test")
    if not SENSOR.exists():
        pytest.skip("the sensor is not installed in this environment: make venv")


@pytest.fixture(scope="session")
def engine(machine: None) -> Iterator[Engine]:
    if "DOCKER_HOST" in os.environ:
        client = docker.from_env()
        yield Engine(host=os.environ["DOCKER_HOST"], client=client)
        client.close()
        return
    reason = missing_for_engine()
    if reason is not None:
        pytest.skip(reason)
    with DockerEngine() as own:
        client = own.client()
        yield Engine(host=own.host, client=client)
        client.close()


@pytest.fixture(scope="session")
def trees(machine: None, tmp_path_factory: pytest.TempPathFactory) -> Trees:
    reason = images.missing_for_images()
    if reason is not None:
        pytest.skip(reason)
    programs = images.compile_programs(tmp_path_factory.mktemp("programs"))
    return Trees(busybox=images.busybox_tree(programs), debian=images.debian_tree(programs))


@pytest.fixture(scope="session")
def client(engine: Engine, trees: Trees) -> Iterator[docker.DockerClient]:
    """A client of the engine, which holds the test images."""
    trees.import_into(engine.client)
    yield engine.client
    for image in (images.BUSYBOX, images.DEBIAN):
        with suppress(APIError):
            engine.client.images.remove(image, force=True)


@pytest.fixture(scope="session")
def busybox(client: docker.DockerClient) -> Iterator[Container]:
    container = running(client, images.BUSYBOX, "busybox")
    yield container
    remove(container)


@pytest.fixture(scope="session")
def debian(client: docker.DockerClient) -> Iterator[Container]:
    container = running(client, images.DEBIAN, "debian")
    yield container
    remove(container)


@pytest.fixture(scope="module")
def sensor(engine: Engine) -> Iterator[Sensor]:
    """One sensor for a module, which tells of every match by itself, however many a module makes."""
    with Sensor("--no-limit", "--no-collapse", environment=engine.environment) as running_sensor:
        yield running_sensor
        assert running_sensor.stop() == 0
    quiet = [alert for alert in running_sensor.alerts if "quiet-" in str(alert.get("process"))]
    assert quiet == [], "alerts that came after the test which looked for them"


@pytest.fixture
def marker() -> str:
    """A word that no other test uses, to be put into a command's arguments."""
    return f"marker-{uuid.uuid4().hex}"


@pytest.fixture
def settle(sensor: Sensor, debian: Container) -> Callable[[], None]:
    """A function that returns when all alerts of what ran before it have come.

    It runs a search that is known to fire and waits for its alert: the kernel's records come in
    order, so what has not come by then does not come.
    """

    def run_sentinel() -> None:
        sentinel = f"sentinel-{uuid.uuid4().hex}"
        result = debian.exec_run(["grep", "aws_session_token", sentinel])
        assert result.exit_code == 2, f"grep ran, and missed its file: {result.output!r}"
        sensor.wait_for_argument(sentinel)

    return run_sentinel
