"""Each of Elastic's container rules that can fire here is fired by a real exec in a real container.

What the rules ask of the parent, the entry leader, the terminal, the working directory and the
container's privileges is what the kernel and Docker say of that exec; the test only says how it was
started (elastic_commands.yml). The rules are read from the shared folder, never copied.
"""

from __future__ import annotations

import shlex
import uuid
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import images
import msgspec
import privileged
import pytest
import yaml
from sensor_process import Sensor
from testbed import remove, running

from sensor.rules.load import load_rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from docker import DockerClient
    from docker.models.containers import Container
    from sensor_process import Alert
    from testbed import Engine, Trees

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "elastic-rules"

if not FOLDER.is_dir():
    pytest.skip("needs ../shared/data/elastic-rules", allow_module_level=True)

pytestmark = pytest.mark.shared

M = "MARKER"
IMAGES = {"debian": images.DEBIAN, "busybox": images.BUSYBOX}
RUNTIME = "runc or its shim"
UIDS = {"root": "0", "app": "1000"}


class Command(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One item of elastic_commands.yml, as it is described there."""

    run: list[str]
    name: str = ""
    image: str = msgspec.field(name="in", default="debian")
    scripts: list[str] = []
    programs: dict[str, str] = {}
    directories: list[str] = []
    tty: bool = False
    workdir: str = "/"
    user: str = "root"
    privileged: bool = False
    args: list[str] | None = None
    fields: dict[str, Any] = {}
    before: list[list[str]] = []
    fires: bool = True

    def filled(self, marker: str) -> Command:
        """The same with its marker in place."""

        def fill(argv: list[str]) -> list[str]:
            return [argument.replace(M, marker) for argument in argv]

        return msgspec.structs.replace(
            self,
            run=fill(self.run),
            args=None if self.args is None else fill(self.args),
            before=[fill(argv) for argv in self.before],
        )

    @property
    def entry(self) -> list[str]:
        """The argv that the process started by docker exec shows."""
        for script in self.scripts:
            if self.run[0] in (script, Path(script).name):
                return ["/bin/sh", script, *self.run[1:]]
        return self.run

    @property
    def expected(self) -> list[str]:
        """The argv of the process that the rule is about."""
        return self.entry if self.args is None else self.args


TABLE = {
    stem: msgspec.convert(commands, list[Command])
    for stem, commands in yaml.safe_load(
        Path(__file__).with_name("elastic_commands.yml").read_text()
    ).items()
}
RULES = {Path(rule.path).stem: rule for rule in load_rules([FOLDER], builtin=False).rules}
CASES = [
    pytest.param(stem, command, id=f"{stem}-{command.name or command.run[0]}")
    for stem, commands in TABLE.items()
    for command in commands
]


def test_each_rule_that_can_fire_is_fired() -> None:
    assert TABLE.keys() == RULES.keys()
    assert [
        stem for stem, commands in TABLE.items() if not any(command.fires for command in commands)
    ] == []


@dataclass(frozen=True)
class Place:
    """A running container, and how commands are run in it."""

    container: Container
    image: str

    def run(self, command: Command) -> None:
        result = self.container.exec_run(
            command.run,
            tty=command.tty,
            stdin=command.tty,
            workdir=command.workdir,
            user=command.user,
        )
        assert result.exit_code not in (126, 127), f"it did not start: {result.output!r}"


def prepared(container: Container, image: str, *, is_privileged: bool) -> Place:
    """Put in place what the commands for this container need."""
    lines = ["set -e"]
    for command in (command for commands in TABLE.values() for command in commands):
        if (command.image, command.privileged) != (image, is_privileged):
            continue
        lines.extend(f"mkdir -p {directory}" for directory in command.directories)
        for script in command.scripts:
            # There is no chmod in the image: a copy brings its mode along.
            lines.append(f"mkdir -p {Path(script).parent}; cp /opt/noop {script}")
            lines.append(f"printf '#!/bin/sh\\n:\\n' > {script}")
        for path, source in command.programs.items():
            lines.append(f"mkdir -p {Path(path).parent}; cp {source} {path}")
    result = container.exec_run(["sh", "-c", "\n".join(lines)])
    assert result.exit_code == 0, f"{result.output!r}"
    return Place(container, IMAGES[image])


@dataclass(frozen=True)
class Lab:
    """The sensor with Elastic's rules, and the containers, by image and privilege."""

    sensor: Sensor
    places: dict[tuple[str, bool], Place]


@pytest.fixture(scope="module")
def lab(engine: Engine, client: DockerClient, trees: Trees) -> Iterator[Lab]:
    with ExitStack() as stack:
        sockets: list[str] = []
        mighty = client
        if not privileged.can_start_privileged(client, images.BUSYBOX):
            second, mighty = stack.enter_context(privileged.lenient_engine())
            trees.import_into(mighty)
            sockets = [f"--socket={engine.host}", f"--socket={second.host}"]
        places = {}
        for image, name in IMAGES.items():
            plain = running(client, name, image)
            stack.callback(remove, plain)
            places[image, False] = prepared(plain, image, is_privileged=False)
            great = privileged.start_privileged(mighty, name)
            stack.callback(remove, great)
            places[image, True] = prepared(great, image, is_privileged=True)
        arguments = [
            "--no-builtin",
            "--no-limit",
            "--no-collapse",
            "--rules",
            str(FOLDER),
            *sockets,
        ]
        # Some commands hold what looks like a credential, and whole argvs are compared here.
        environment = engine.environment | {"SENSOR_REDACTION__ENABLED": "false"}
        sensor = stack.enter_context(Sensor(*arguments, environment=environment))
        lab = Lab(sensor, places)
        for place in places.values():
            await_metadata(lab, place)
        yield lab
        assert sensor.stop() == 0
        assert sensor.stderr.splitlines()[-1].endswith("losses: none")


def await_metadata(lab: Lab, place: Place) -> None:
    """Return when the sensor knows all of a container.

    A container that was there before the sensor is listed first and asked about then.
    """
    for attempt in range(20):
        marker = f"metadata-{attempt}-{uuid.uuid4().hex}"
        place.container.exec_run(["grep", "password", marker])
        alert = lab.sensor.wait_for_argument(marker)
        if field(alert, "container.security_context.privileged") is not None:
            return
    raise AssertionError(f"{place.container.name}: privileged or not was never known")


def alerts_of(lab: Lab, rule_id: str, argv: list[str]) -> list[Alert]:
    return [
        alert
        for alert in lab.sensor.alerts
        if alert["rule"]["id"] == rule_id and alert["process"]["args"] == argv
    ]


@pytest.mark.parametrize(("stem", "command"), CASES)
def test_a_real_exec(stem: str, command: Command, lab: Lab, marker: str) -> None:
    command = command.filled(marker)
    place = lab.places[command.image, command.privileged]
    rule_id = RULES[stem].id
    place.run(command)
    if not command.fires:
        settle(lab)
        assert alerts_of(lab, rule_id, command.expected) == []
        return
    alert = lab.sensor.wait_for_alert(
        lambda found: (
            found["rule"]["id"] == rule_id and found["process"]["args"] == command.expected
        )
    )
    assert [
        event["process"]["command_line"] for event in alert["sensor"].get("sequence", [])[:-1]
    ] == [shlex.join(argv) for argv in command.before]
    expected = known(command, place) | command.fields
    assert said(alert, expected) == expected


def settle(lab: Lab) -> None:
    """Return when all that ran before has been judged: records come in order."""
    sentinel = f"sentinel-{uuid.uuid4().hex}"
    place = lab.places["debian", False]
    place.container.exec_run(["grep", "password", sentinel])
    lab.sensor.wait_for_argument(sentinel)


def known(command: Command, place: Place) -> dict[str, Any]:
    """What the alert must say of an exec that the test started in this way."""
    direct = command.args is None
    return {
        "container.id": place.container.id,
        "container.name": place.container.name,
        "container.runtime": "docker",
        "container.image.name": place.image.partition(":")[0],
        "container.security_context.privileged": command.privileged,
        "event.category": ["process"],
        "event.action": "exec",
        "process.interactive": command.tty,
        "process.working_directory": command.workdir,
        "process.entry_leader.entry_meta.type": "container",
        "process.entry_leader.args": command.entry,
        "process.entry_leader.interactive": command.tty,
        "process.entry_leader.same_as_process": direct,
        "process.parent.name": RUNTIME if direct else Path(command.entry[0]).name,
        # The runtime lives on the host, and has no terminal.
        "process.parent.interactive": command.tty and not direct,
        "sensor.entered_by_exec": True,
        "user.id": UIDS[command.user],
    }


def said(alert: Alert, names: Iterable[str]) -> dict[str, Any]:
    """The alert's own words on these, with the runtime's two programs under one name.

    runc starts the process and ends at once: whether it still is the parent by the time of the exec,
    or its shim already, is a race.
    """
    values = {name: field(alert, name) for name in names}
    if values["process.parent.name"] in ("runc", "containerd-shim-runc-v2"):
        values["process.parent.name"] = RUNTIME
    return values


def field(document: dict[str, Any], name: str) -> Any:
    """The value of a dotted name, or None where there is none."""
    value: Any = document
    for key in name.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def test_what_a_container_runs_by_itself_has_not_come_in(lab: Lab, client: DockerClient) -> None:
    """Its first process is the container's entry, too, but nobody's exec; nor is a child of it.

    Run with a terminal (`docker run -t`), both have it.
    """
    marker = f"marker-{uuid.uuid4().hex}"
    script = f"until [ -e /srv/go ]; do sleep 0.05; done; grep password {marker}; sleep 1000000"
    container = client.containers.run(
        images.DEBIAN,
        ["sh", "-c", script],
        name=f"sensor-test-{marker}",
        tty=True,
        detach=True,
        stop_signal="SIGKILL",
    )
    try:
        await_metadata(lab, Place(container, images.DEBIAN))
        container.exec_run(["touch", "/srv/go"])
        child = lab.sensor.wait_for_alert(
            lambda alert: alert["process"]["args"] == ["grep", "password", marker]
        )
    finally:
        remove(container)
    (first,) = alerts_of(
        lab, RULES["execution_interactive_exec_to_container"].id, ["sh", "-c", script]
    )
    expected = {
        "container.id": container.id,
        "process.interactive": True,
        "process.entry_leader.entry_meta.type": "container",
        "process.entry_leader.entity_id": first["process"]["entity_id"],
    }
    assert {name: field(first, name) for name in expected} == expected
    assert {name: field(child, name) for name in expected} == expected
    assert child["sensor"]["entered_by_exec"] is False


@pytest.mark.parametrize("attempt", range(5))
def test_the_first_exec_of_a_privileged_container(attempt: int, lab: Lab, marker: str) -> None:
    """Docker is asked about a container while its first process already runs: the rule waits for it."""
    client = lab.places["busybox", True].container.client
    assert client is not None
    command = ["mount", "-t", "none", marker, "/nonexistent"]
    container = client.containers.create(
        images.BUSYBOX, command, name=f"sensor-test-{marker}", privileged=True
    )
    try:
        container.start()
        rule_id = RULES["privilege_escalation_mount_launched_inside_a_privileged_container"].id
        alert = lab.sensor.wait_for_alert(
            lambda found: found["rule"]["id"] == rule_id and found["process"]["args"] == command
        )
    finally:
        remove(container)
    assert alert["container"]["id"] == container.id
    assert alert["container"]["security_context"]["privileged"] is True
