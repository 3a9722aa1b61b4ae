"""The image, run by an engine as docs/operations.md says: it alerts on an exec in another container.

    sudo make test-image

builds it and runs it by Docker engines of the test's own; it takes a base and packages from Debian's
archive and PyPI. An image that is built already, by the engine that has it:

    SENSOR_IMAGE=NAME DOCKER_HOST=unix:///var/run/docker.sock pytest tests/deploy/test_image.py
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import docker
import image_engines
import pytest
from docker.errors import APIError, NotFound
from docker.models.containers import Container

T = TypeVar("T")

IMAGE = os.environ.get("SENSOR_IMAGE")
OF_ITS_OWN = "build"  # as a name of an image: the test is to build it, and to start the engines
READY_SECONDS = 60
ALERT_SECONDS = 20
HEALTHY_SECONDS = 60
STORE = "/run/sensor-test/alerts.db"
SERVED = Path(__file__).with_name("served_alerts.py").read_text()
ENGINE_OF_BPF = 23  # Docker knows CAP_BPF from here on

pytestmark = pytest.mark.skipif(
    IMAGE is None,
    reason="the image was not tested: sudo make test-image",
)


@dataclass(frozen=True, kw_only=True)
class Way:
    """How the container is given what the sensor needs, and whether only newer engines can."""

    capabilities: list[str] = field(default_factory=list)
    privileged: bool = False
    newer: bool = True


# What docs/operations.md says, and what stands in for BPF and PERFMON with older engines.
TO_DROP_AND_TO_SEE = ["SETGID", "SETPCAP", "SETUID", "SYS_PTRACE"]
WAYS = {
    "least privilege": Way(capabilities=["BPF", "PERFMON", *TO_DROP_AND_TO_SEE]),
    "older engine": Way(capabilities=["SYS_ADMIN", *TO_DROP_AND_TO_SEE], newer=False),
    "privileged": Way(privileged=True),
}


@dataclass(frozen=True, kw_only=True)
class Engine:
    """An engine that has the image."""

    client: docker.DockerClient
    socket: str
    image: str


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return image_engines.build(tmp_path_factory.mktemp("image"))


@contextmanager
def loaded(client: docker.DockerClient, socket: str, saved: Path) -> Iterator[Engine]:
    with saved.open("rb") as archive:
        client.images.load(archive)
    yield Engine(client=client, socket=socket, image=image_engines.NAME)
    client.close()


@pytest.fixture(scope="module")
def machines(request: pytest.FixtureRequest) -> Iterator[Engine]:
    """The engine that there is: DOCKER_HOST's; or one of this machine's Docker, for the test alone."""
    if IMAGE != OF_ITS_OWN:
        client = docker.from_env()
        path = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
        yield Engine(client=client, socket=path.removeprefix("unix://"), image=str(IMAGE))
        client.close()
        return
    archive = request.getfixturevalue("saved")
    with image_engines.DockerEngine() as own:
        socket = own.host.removeprefix("unix://")
        with loaded(own.client(), socket, archive) as engine:
            yield engine


@pytest.fixture(scope="module")
def newer(request: pytest.FixtureRequest, machines: Engine) -> Iterator[Engine]:
    """The same if it knows CAP_BPF, else one that does, if the test may start it."""
    if (
        IMAGE != OF_ITS_OWN
        or int(machines.client.version()["Version"].split(".")[0]) >= ENGINE_OF_BPF
    ):
        yield machines
        return
    archive = request.getfixturevalue("saved")
    with (
        image_engines.NewerDocker() as own,
        loaded(own.client(), str(own.socket), archive) as engine,
    ):
        yield engine


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    return WAYS[request.param]


@pytest.fixture
def engine(request: pytest.FixtureRequest, way: Way) -> Engine:
    found: Engine = request.getfixturevalue("newer" if way.newer else "machines")
    return found


@pytest.fixture
def target(engine: Engine) -> Iterator[Container]:
    """A container to search in, of a tag of its own; the image at hand has a program for it."""
    engine.client.images.get(engine.image).tag("sensor-test/target", "1.0")
    container = engine.client.containers.run(
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
    engine.client.images.remove("sensor-test/target:1.0")


def remove(container: Container) -> None:
    with suppress(NotFound):
        container.remove(force=True)


@pytest.fixture
def sensor(way: Way, engine: Engine) -> Iterator[Container]:
    try:
        container = engine.client.containers.create(
            engine.image,
            name=f"sensor-test-sensor-{uuid.uuid4().hex[:8]}",
            pid_mode="host",
            network_mode="none",
            read_only=True,
            mem_limit="256m",
            environment={"NODE_NAME": "node-1", "SENSOR_STORE__PATH": STORE},
            tmpfs={str(Path(STORE).parent): "uid=65534,mode=700"},
            volumes={engine.socket: {"bind": "/var/run/docker.sock", "mode": "ro"}},
            privileged=way.privileged,
            cap_drop=[] if way.privileged else ["ALL"],
            cap_add=way.capabilities,
            security_opt=[] if way.privileged else ["no-new-privileges"],
            # The image's own check, only sooner.
            healthcheck={"interval": 10**9},
        )
    except APIError as error:
        pytest.skip(f"this engine does not know it: {error.explanation}")
    try:
        container.start()
    except APIError as error:
        remove(container)
        pytest.skip(f"this machine cannot give it: {error.explanation}")
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

    def served() -> str:
        return str(sensor.exec_run(["python3", "-c", SERVED, STORE], user="nobody").output.decode())

    await_(lambda: alert["event"]["id"] in served(), ALERT_SECONDS, served)


def test_its_health_check_says_that_it_sees(sensor: Container) -> None:
    def health() -> str:
        sensor.reload()
        return str(sensor.attrs["State"]["Health"]["Status"])

    await_(
        lambda: health() == "healthy",
        HEALTHY_SECONDS,
        lambda: f"{sensor.attrs['State']['Health']}: {messages(sensor)}",
    )


def test_nothing_in_it_gains_privileges_or_installs(engine: Engine, target: Container) -> None:
    """No setuid or setgid program, no capabilities on files, no package manager, no Perl, no pip."""
    search = """
import os, shutil
for folder, _, names in os.walk("/", topdown=True):
    if folder.startswith(("/proc", "/sys", "/dev")):
        continue
    for name in names:
        path = os.path.join(folder, name)
        mode = os.lstat(path).st_mode
        if mode & 0o6000 or "security.capability" in os.listxattr(path, follow_symlinks=False):
            print(path)
for name in ("apt-get", "dpkg", "perl", "pip", "pip3", "gcc", "bash", "su", "mount"):
    print(shutil.which(name) or "", end="")
"""
    found = target.exec_run(["python3", "-c", search])
    assert (found.exit_code, found.output.decode()) == (0, "")
