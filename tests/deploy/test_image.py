"""The image, run by an engine as docs/operations.md says: it alerts on an exec in another container.

Building it takes a base and packages from the network, so that is not done here: SENSOR_IMAGE names an
image that the engine at DOCKER_HOST has.

    docker build -f deploy/Dockerfile -t ebpf-container-sensor .
    SENSOR_IMAGE=ebpf-container-sensor DOCKER_HOST=unix:///var/run/docker.sock pytest tests/deploy/test_image.py
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import docker
import pytest
from docker.errors import APIError, NotFound
from docker.models.containers import Container

T = TypeVar("T")

IMAGE = os.environ.get("SENSOR_IMAGE")
READY_SECONDS = 60
ALERT_SECONDS = 20

pytestmark = pytest.mark.skipif(
    IMAGE is None,
    reason="the image was not tested: SENSOR_IMAGE names none, see tests/deploy/test_image.py",
)


@dataclass(frozen=True, kw_only=True)
class Way:
    """How the container is given what the sensor needs."""

    capabilities: list[str] = field(default_factory=list)
    privileged: bool = False


# What docs/operations.md says, and what stands in for BPF and PERFMON with older engines.
TO_DROP_AND_TO_SEE = ["SETGID", "SETPCAP", "SETUID", "SYS_PTRACE"]
WAYS = {
    "least privilege": Way(capabilities=["BPF", "PERFMON", *TO_DROP_AND_TO_SEE]),
    "older engine": Way(capabilities=["SYS_ADMIN", *TO_DROP_AND_TO_SEE]),
    "privileged": Way(privileged=True),
}


@pytest.fixture(scope="module")
def client() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="module")
def target(client: docker.DockerClient) -> Iterator[Container]:
    """A container to search in, of a tag of its own; the image at hand has a program for it."""
    image = client.images.get(str(IMAGE))
    image.tag("sensor-test/target", "1.0")
    container = client.containers.run(
        "sensor-test/target:1.0",
        ["1000000"],
        entrypoint="sleep",
        name=f"sensor-test-target-{uuid.uuid4().hex[:8]}",
        network_mode="none",
        labels={"com.example.team": "payments"},
        stop_signal="SIGKILL",
        detach=True,
    )
    # The image has no grep; a copy of `true` under that name is an exec all the same.
    copied = container.exec_run(["cp", "/bin/true", "/tmp/grep"])
    assert copied.exit_code == 0, copied.output
    yield container
    remove(container)
    client.images.remove("sensor-test/target:1.0")


def remove(container: Container) -> None:
    with suppress(NotFound):
        container.remove(force=True)


@pytest.fixture(params=WAYS)
def sensor(request: pytest.FixtureRequest, client: docker.DockerClient) -> Iterator[Container]:
    way = WAYS[request.param]
    path = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
    try:
        container = client.containers.create(
            str(IMAGE),
            name=f"sensor-test-sensor-{uuid.uuid4().hex[:8]}",
            pid_mode="host",
            network_mode="none",
            read_only=True,
            mem_limit="256m",
            environment={"NODE_NAME": "node-1"},
            volumes={path: {"bind": "/var/run/docker.sock", "mode": "ro"}},
            privileged=way.privileged,
            cap_drop=[] if way.privileged else ["ALL"],
            cap_add=way.capabilities,
            security_opt=[] if way.privileged else ["no-new-privileges"],
        )
    except APIError as error:
        pytest.skip(f"{request.param}: this engine does not know it: {error.explanation}")
    try:
        container.start()
    except APIError as error:
        remove(container)
        pytest.skip(f"{request.param}: this machine cannot give it: {error.explanation}")
    yield container
    remove(container)


def messages(container: Container) -> str:
    return str(container.logs(stdout=False).decode())


def process_id(container: Container) -> int:
    container.reload()
    return int(container.attrs["State"]["Pid"])


def alerts(container: Container) -> list[dict[str, Any]]:
    return [json.loads(line) for line in container.logs(stderr=False).splitlines()]


def await_(find: Callable[[], T | None], seconds: float, otherwise: Callable[[], str]) -> T:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        # The engine has no way to tell of a line but to be asked again.
        if found := find():
            return found
        time.sleep(0.1)
    raise AssertionError(otherwise())


def test_it_alerts_on_an_exec_in_another_container_with_name_and_image(
    sensor: Container, target: Container
) -> None:
    await_(
        lambda: "sensor ready" in messages(sensor),
        READY_SECONDS,
        lambda: f"not ready: {messages(sensor)}",
    )
    marker = f"marker-{uuid.uuid4().hex}"
    target.exec_run(["/tmp/grep", "aws_secret_access_key", marker])
    alert = await_(
        lambda: next((each for each in alerts(sensor) if marker in str(each["process"])), None),
        ALERT_SECONDS,
        lambda: f"no alert: {messages(sensor)}",
    )
    container = alert["container"]
    assert container["id"] == target.id
    assert container["name"] == target.name
    assert container["image"]["name"] == "sensor-test/target"
    assert container["labels"]["com.example.team"] == "payments"
    assert alert["host"]["name"] == "node-1"

    # What runs on is nobody, and has nothing left.
    pid = process_id(sensor)
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    assert "0" not in status["Uid"].split()
    assert {status[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
