"""`sensor respond` on real containers: what it says, does, verifies, refuses, records and takes back."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import images
import pytest
from docker.errors import APIError
from docker_engine import DockerEngine
from sensor_process import SENSOR, Sensor
from testbed import Engine, remove

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import docker
    from docker.models.containers import Container
    from docker.models.networks import Network

RULE = "a1c2b3d4"


@dataclass
class Respond:
    """The command against one engine, with a record of its own."""

    engine: Engine
    directory: Path
    audit: Path = field(init=False)

    def __post_init__(self) -> None:
        self.audit = self.directory / "state" / "responses.ndjson"

    def __call__(self, *arguments: str, alert: dict[str, Any] | None = None, code: int = 0) -> str:
        """Run it, compare its exit code; returns all it said."""
        command = [str(SENSOR), "respond", *arguments, "--audit", str(self.audit)]
        if alert is not None:
            command.append("-")
        if "--socket" not in arguments and "quarantine" not in arguments:
            command += ["--socket", self.engine.host.removeprefix("unix://")]
        done = subprocess.run(
            command, input=json.dumps(alert or {}), capture_output=True, text=True, check=False
        )
        said = done.stdout + done.stderr
        assert done.returncode == code, said
        return said

    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.audit.read_text().splitlines()]


@pytest.fixture
def respond(engine: Engine, tmp_path: Path) -> Respond:
    return Respond(engine, tmp_path)


@pytest.fixture
def start(client: docker.DockerClient) -> Iterator[Callable[..., Container]]:
    """Start containers of the test's own."""
    started: list[Container] = []

    def run(*command: str, **options: Any) -> Container:
        container = client.containers.run(
            images.BUSYBOX,
            list(command) or ["sleep", "1000000"],
            detach=True,
            stop_signal="SIGKILL",
            **{"name": f"respond-{uuid.uuid4().hex[:8]}"} | options,
        )
        started.append(container)
        return container

    yield run
    for container in started:
        remove(container)


def alert_of(container: Container) -> dict[str, Any]:
    return {
        "event": {"id": "e" * 32, "kind": "alert"},
        "container": {"id": container.id},
        "rule": {"id": "r"},
    }


def status(container: Container) -> str:
    container.reload()
    return str(container.status)


def test_a_pause_stops_everything_in_the_container_and_is_taken_back(
    respond: Respond, start: Callable[..., Container]
) -> None:
    container = start()
    said = respond("--action", "pause", "--yes", alert=alert_of(container))
    assert "done, and verified: it is paused" in said
    assert container.name in said
    assert status(container) == "paused"
    with pytest.raises(APIError, match="is paused"):
        container.exec_run(["true"])
    assert "it is paused already" in respond(
        "--action", "pause", "--yes", alert=alert_of(container)
    )
    assert "it runs" in respond("--undo", "--yes", alert=alert_of(container))
    assert status(container) == "running"
    assert container.exec_run(["true"]).exit_code == 0
    again = respond("--undo", "--yes", alert=alert_of(container), code=1)
    assert "names nothing that was done to it" in again


def test_the_record_says_who_did_what_when_with_what_result(
    respond: Respond, start: Callable[..., Container]
) -> None:
    container = start()
    respond("--action", "pause", "--yes", alert=alert_of(container))
    begun, done = respond.records()
    assert [begun["response"]["stage"], done["response"]["stage"]] == ["begun", "done"]
    assert [begun["event"]["outcome"], done["event"]["outcome"]] == ["unknown", "success"]
    assert done["event"]["action"] == "container-pause"
    assert done["container"]["id"] == container.id
    assert done["response"]["alert_id"] == "e" * 32
    assert done["response"]["automatic"] is False
    assert done["user"]["name"]
    assert done["@timestamp"] >= begun["@timestamp"]
    assert respond.audit.stat().st_mode & 0o777 == 0o600


@pytest.fixture
def network(client: docker.DockerClient) -> Iterator[Network]:
    import docker  # noqa: PLC0415

    pool = docker.types.IPAMPool(subnet="10.213.77.0/24")
    made = client.networks.create(
        f"respond-{uuid.uuid4().hex[:8]}", ipam=docker.types.IPAMConfig(pool_configs=[pool])
    )
    yield made
    made.remove()


def test_a_disconnected_container_reaches_nothing_and_comes_back_as_it_was(
    respond: Respond,
    client: docker.DockerClient,
    network: Network,
    start: Callable[..., Container],
) -> None:
    endpoint = client.api.create_endpoint_config(aliases=["shop"], ipv4_address="10.213.77.50")
    server = start(network=network.name, networking_config={network.name: endpoint})
    reader = start(network=network.name)

    def reaches() -> bool:
        ping = ["ping", "-c", "1", "-W", "2", "10.213.77.50"]
        return bool(reader.exec_run(ping).exit_code == 0)

    assert reaches()
    said = respond("--action", "disconnect", "--yes", alert=alert_of(server))
    assert network.name in said
    assert "10.213.77.50" in said
    assert not reaches()
    server.reload()
    assert server.attrs["NetworkSettings"]["Networks"] == {}
    assert "it has no network" in respond("--action", "disconnect", "--yes", alert=alert_of(server))
    respond("--undo", "--yes", alert=alert_of(server))
    assert reaches()
    server.reload()
    back = server.attrs["NetworkSettings"]["Networks"][network.name]
    assert "shop" in back["Aliases"]
    assert back["IPAMConfig"]["IPv4Address"] == "10.213.77.50"


@pytest.mark.parametrize("action", ["stop", "kill"])
def test_what_ends_a_container_is_verified(
    respond: Respond, start: Callable[..., Container], action: str
) -> None:
    container = start()
    options = ("--action", action, "--yes", "--container", str(container.name))
    assert "it does not run any more" in respond(*options)
    assert status(container) == "exited"


def test_a_dry_run_says_and_does_nothing(respond: Respond, start: Callable[..., Container]) -> None:
    container = start()
    said = respond("--action", "kill", "--dry-run", alert=alert_of(container))
    assert "would kill" in said
    assert "its memory is lost" in said
    assert status(container) == "running"
    assert not respond.audit.exists()


def test_without_a_terminal_and_without_yes_nothing_is_done(
    respond: Respond, start: Callable[..., Container]
) -> None:
    container = start()
    said = respond("--action", "kill", alert=alert_of(container), code=2)
    assert "--yes" in said
    assert status(container) == "running"


def test_no_at_the_question_means_no(respond: Respond, start: Callable[..., Container]) -> None:
    container = start()
    arguments = ["respond", "--container", str(container.name), "--action", "kill"]
    arguments += ["--audit", str(respond.audit), "--socket", respond.engine.host[7:]]
    typed = "import pty, os, sys; os.environ['TERM'] = 'dumb'; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
    done = subprocess.run(
        [sys.executable, "-c", typed, str(SENSOR), *arguments],
        input="n\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"kill {container.name}? [y/N]" in done.stdout
    assert done.returncode == 1
    assert status(container) == "running"


def test_protected_containers_are_left_alone(
    respond: Respond, start: Callable[..., Container], tmp_path: Path
) -> None:
    labelled = start(labels={"sensor.respond": "never"})
    said = respond("--action", "kill", "--yes", alert=alert_of(labelled), code=1)
    assert "refused: it has the label sensor.respond=never" in said
    config = tmp_path / "sensor.yaml"
    config.write_text("respond: {protect: {names: ['respond-*']}}\n")
    named = start()
    said = respond(
        "--action", "kill", "--yes", "--config", str(config), alert=alert_of(named), code=1
    )
    assert "protected by 'respond-*'" in said
    assert [status(labelled), status(named)] == ["running", "running"]
    assert [record["response"]["stage"] for record in respond.records()] == ["refused", "refused"]


def test_the_hosts_network_is_not_taken(respond: Respond, start: Callable[..., Container]) -> None:
    container = start(network_mode="host")
    said = respond("--action", "disconnect", "--yes", alert=alert_of(container), code=1)
    assert "it uses the host's network" in said


def test_a_container_that_is_gone_is_said_to_be_gone(
    respond: Respond, start: Callable[..., Container]
) -> None:
    container = start()
    container.remove(force=True)
    said = respond("--action", "pause", "--yes", alert=alert_of(container), code=1)
    assert f"container {container.id[:12]} is gone" in said
    assert "it has ended" not in said


def test_an_alert_of_the_host_has_nothing_to_isolate(respond: Respond) -> None:
    said = respond("--action", "pause", "--yes", alert={"event": {"id": "e"}}, code=1)
    assert "not about a container" in said


def test_an_engine_that_is_down_is_named(trees: Any, tmp_path: Path) -> None:
    with DockerEngine() as own:
        client = own.client()
        trees.import_into(client)
        container = client.containers.run(images.BUSYBOX, ["sleep", "1000000"], detach=True)
        alert = alert_of(container)
        respond = Respond(Engine(host=own.host, client=client), tmp_path)
        own.crash()
        said = respond("--action", "pause", "--yes", alert=alert, code=1)
        assert "docker" in said
        assert "is gone" not in said
        client.close()


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that the sensor's user reads and writes, too: not pytest's, which is its owner's."""
    directory = Path(tempfile.mkdtemp(prefix="sensor-test-respond-", dir="/var/tmp"))
    directory.chmod(0o777)
    yield directory
    shutil.rmtree(directory)


def test_a_rule_whose_configuration_names_an_action_isolates_by_itself(
    engine: Engine, start: Callable[..., Container], shared: Path
) -> None:
    (shared / "rule.yml").write_text(
        f"id: {RULE}\nname: Marked\nseverity: high\n"
        f"query: 'process where process.args : \"{RULE}*\"'\n"
    )
    config = shared / "sensor.yaml"
    config.write_text(
        f"rules: [{shared / 'rule.yml'}]\n"
        f"respond: {{audit: {shared / 'r.ndjson'}, protect: {{names: ['spared-*']}},\n"
        f"  automatic: {{rules: {{{RULE}: pause}}, dry_run: false, max_per_hour: 1}}}}\n"
    )
    spared = start(name=f"spared-{uuid.uuid4().hex[:8]}")
    caught, late = start(), start()
    with Sensor("--config", config, environment=engine.environment) as sensor:
        for container, words in (
            (caught, "done, and verified: it is paused"),
            (late, "held back"),
        ):
            container.exec_run(["ls", f"{RULE}-{container.name}"], detach=True)
            line = sensor.wait_for_line(f"pause of container {container.id[:12]}")
            assert words in line
        assert sensor.stop() == 0
    assert [status(caught), status(late), status(spared)] == ["paused", "running", "running"]
    done = json.loads((shared / "r.ndjson").read_text().splitlines()[-1])
    assert done["response"]["automatic"] is True
    assert done["rule"] == {"id": RULE}
