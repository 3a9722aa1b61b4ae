"""A search for AWS credentials in a container raises an alert, however it is started.

Each case says which execs match, in their order: a wrapper that names the tool (`timeout 5 grep …`) is a
match of its own. (To the user these are one alert and an update: `test_one_action.py`.)
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import images
import pytest
from sensor_process import Sensor

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from docker import DockerClient
    from docker.models.containers import Container
    from sensor_process import Alert
    from testbed import Engine

# Replaced by the marker of the test in commands and in what is expected.
M = "MARKER"


@dataclass(frozen=True)
class Case:
    """A command run in a container, and the argv of each exec that must alert."""

    name: str
    command: list[str]
    fires: list[list[str]]


def direct(*command: str, name: str = "") -> Case:
    """A command whose own exec is the one match."""
    return Case(name or command[0], list(command), [list(command)])


BUSYBOX = [
    direct("grep", "-r", "aws_access_key_id", f"/srv/{M}"),
    direct("egrep", "-r", "aws_access_key_id", f"/srv/{M}"),
    direct("fgrep", "-r", "aws_access_key_id", f"/srv/{M}"),
    direct("find", f"/srv/{M}", "-name", "*accessKeyId*"),
    direct("busybox", "grep", "aws_session_token", f"/srv/{M}", name="busybox-grep"),
    direct("/bin/grep", "aws_session_token", f"/srv/{M}", name="symlink-to-busybox"),
    # busybox's shell execs /proc/self/exe: the kernel's name for that process is "exe".
    Case(
        "shell-execs-itself",
        ["sh", "-c", f"grep -r aws_secret_access_key /srv/{M}"],
        [["grep", "-r", "aws_secret_access_key", f"/srv/{M}"]],
    ),
    Case(
        "xargs",
        ["sh", "-c", f"echo /srv | xargs grep access_key-{M}"],
        # xargs itself is no exec: busybox's shell forks and calls it
        [["grep", f"access_key-{M}", "/srv"]],
    ),
    Case(
        "timeout",
        ["timeout", "5", "grep", "secretaccesskey", f"/srv/{M}"],
        [
            ["timeout", "5", "grep", "secretaccesskey", f"/srv/{M}"],
            ["grep", "secretaccesskey", f"/srv/{M}"],
        ],
    ),
    # Not UTF-8: the byte is shown, and what stands beside it is found.
    Case(
        "invalid-utf8",
        ["sh", "-c", f"grep \"$(printf '\\377')aws_access_key_id\" /srv/{M}"],
        [["grep", r"\xffaws_access_key_id", f"/srv/{M}"]],
    ),
    Case(
        "control-characters",
        ["grep", "aws_access_key_id\n\x1b[2J\x9b", f"/srv/{M}"],
        [["grep", "aws_access_key_id\n\x1b[2J\x9b", f"/srv/{M}"]],
    ),
]

DEBIAN = [
    direct("grep", "-rn", "aws_secret_access_key", f"/srv/{M}"),
    # In Debian these two are shell scripts that exec grep.
    Case(
        "egrep",
        ["egrep", "aws_access_key_id", f"/srv/{M}"],
        [
            ["/bin/sh", "/usr/bin/egrep", "aws_access_key_id", f"/srv/{M}"],
            ["grep", "-E", "aws_access_key_id", f"/srv/{M}"],
        ],
    ),
    Case(
        "fgrep",
        ["fgrep", "aws_access_key_id", f"/srv/{M}"],
        [
            ["/bin/sh", "/usr/bin/fgrep", "aws_access_key_id", f"/srv/{M}"],
            ["grep", "-F", "aws_access_key_id", f"/srv/{M}"],
        ],
    ),
    direct("find", "/srv", "-path", f"*/.aws/credentials-{M}"),
    direct("locate", f"aws_access_key_id-{M}"),
    direct("mlocate", f"aws_access_key_id-{M}"),
    direct("grep", "-r", "-e", "x", "-e", "AWS_Secret_ACCESS_key", f"/srv/{M}", name="any-case"),
    direct("grep", "x", f"/srv/{M}", "/srv/a", "/srv/b", "/root/.AWS/credentials", name="last"),
    Case(
        "sh-c",
        ["sh", "-c", f"grep -r aws_secret_access_key /srv/{M}; true"],
        [["grep", "-r", "aws_secret_access_key", f"/srv/{M}"]],
    ),
    Case(
        "quoted-and-built",
        ["bash", "-c", f'A=aws_acc; grep "${{A}}""ess_key_id" /srv/{M}; true'],
        [["grep", "aws_access_key_id", f"/srv/{M}"]],
    ),
    Case(
        "renamed-argv0",
        ["bash", "-c", f"exec -a nginx grep aws_access_key_id /srv/{M}"],
        [["nginx", "aws_access_key_id", f"/srv/{M}"]],
    ),
    Case(
        "find-exec-grep",
        ["find", "/srv/.aws", "-type", "f", "-exec", "grep", f"access_key-{M}", "{}", ";"],
        [
            ["find", "/srv/.aws", "-type", "f", "-exec", "grep", f"access_key-{M}", "{}", ";"],
            ["grep", f"access_key-{M}", "/srv/.aws/credentials"],
        ],
    ),
    Case(
        "memfd-by-execveat",
        ["/opt/launch", "memfd", "/bin/grep", "@grep", "aws_access_key_id", f"/srv/{M}"],
        [["grep", "aws_access_key_id", f"/srv/{M}"]],
    ),
    Case(
        "memfd-by-fexecve",
        ["/opt/launch", "fexecve", "/bin/grep", "@grep", "aws_access_key_id", f"/srv/{M}"],
        [["grep", "aws_access_key_id", f"/srv/{M}"]],
    ),
    Case(
        "not-the-leading-thread",
        ["/opt/launch", "thread", "/bin/grep", "@grep", "aws_access_key_id", f"/srv/{M}"],
        [["grep", "aws_access_key_id", f"/srv/{M}"]],
    ),
    # As a file of patterns: as a pattern, grep itself would take half a minute over it.
    Case(
        "80-KiB-argument-before",
        ["/opt/launch", "pad:1:81920", "/bin/grep", "@grep", "-f", f"@access_key-{M}"],
        [["grep", "-f", "x" * 81920, f"access_key-{M}"]],
    ),
    Case(
        "120-KiB-in-1000-arguments-before",
        ["/opt/launch", "pad:1000:120", "/bin/grep", "@grep", f"@access_key-{M}"],
        [["grep", *["x" * 120] * 1000, f"access_key-{M}"]],
    ),
]


def filled(words: list[str], marker: str) -> list[str]:
    return [word.replace(M, marker) for word in words]


@pytest.mark.parametrize("case", BUSYBOX, ids=lambda case: case.name)
def test_in_a_busybox_container(
    case: Case,
    busybox: Container,
    sensor: Sensor,
    settle: Callable[[], None],
    marker: str,
) -> None:
    busybox.exec_run(filled(case.command, marker))
    settle()
    assert_fired(case, sensor.alerts_with(marker), marker)
    for alert in sensor.alerts_with(marker):
        assert_container(alert, busybox, images.BUSYBOX)


@pytest.mark.parametrize("case", DEBIAN, ids=lambda case: case.name)
def test_in_a_debian_container(
    case: Case,
    debian: Container,
    sensor: Sensor,
    settle: Callable[[], None],
    marker: str,
) -> None:
    debian.exec_run(filled(case.command, marker))
    settle()
    assert_fired(case, sensor.alerts_with(marker), marker)
    for alert in sensor.alerts_with(marker):
        assert_container(alert, debian, images.DEBIAN)


def assert_fired(case: Case, alerts: list[Alert], marker: str) -> None:
    """One alert for each argv that the case lists, in that order, whole."""
    expected = [filled(arguments, marker) for arguments in case.fires]
    assert [alert["process"]["args"] for alert in alerts] == expected
    assert [alert["process"]["args_count"] for alert in alerts] == [len(args) for args in expected]


def assert_container(alert: Alert, container: Container, image: str) -> None:
    name, _, tag = image.partition(":")
    found = alert["container"]
    assert (found["id"], found["name"]) == (container.id, container.name)
    assert found["image"]["name"] == name
    assert list(found["image"]["tag"]) == [tag]


def test_fork_and_exec_of_string_literals(
    debian: Container, sensor: Sensor, settle: Callable[[], None]
) -> None:
    """Memory that nothing has touched before execve: a sensor at its entry reads nothing there."""
    debian.exec_run(["/opt/fork_literal"])
    settle()
    assert [alert["process"]["args"] for alert in sensor.alerts_with("marker-fork-literal")] == [
        ["grep", "aws_secret_access_key", "/srv/marker-fork-literal"]
    ]


def test_the_first_process_of_a_container(
    client: DockerClient, sensor: Sensor, marker: str
) -> None:
    command = ["grep", "aws_access_key_id", f"/srv/{marker}"]
    container = client.containers.create(images.BUSYBOX, command, name=f"sensor-test-{marker}")
    try:
        container.start()
        alert = sensor.wait_for_argument(marker)
        assert alert["process"]["args"] == command
        assert_container(alert, container, images.BUSYBOX)
    finally:
        container.remove(force=True)


def test_a_container_that_is_gone_at_once(
    client: DockerClient, sensor: Sensor, marker: str
) -> None:
    """`docker run --rm`: nobody can be asked afterwards, and the alert comes all the same."""
    container = client.containers.run(
        images.BUSYBOX,
        ["grep", "aws_access_key_id", f"/srv/{marker}"],
        name=f"sensor-test-{marker}",
        auto_remove=True,
        detach=True,
    )
    alert = sensor.wait_for_argument(marker)
    assert_container(alert, container, images.BUSYBOX)


RULE = """\
name: The marker of a test
id: 6f6f2a3a-1d3b-4c53-9d0e-2f8d2c1f7a11
description: made for a test
severity: low
risk_score: 21
query: process where process.args == "{marker}"
"""


def test_23_execs_are_23_events(
    debian: Container, engine: Engine, tmp_path: Path, marker: str
) -> None:
    """Not one more and not one less, in their order, and nothing lost.

    The one rule knows nothing but the marker: whatever else the machine execs is not counted.
    """
    rules = tmp_path / "rule.yml"
    rules.write_text(RULE.format(marker=marker))
    loop = f"for i in {{1..23}}; do /bin/true {marker[:4]}''{marker[4:]} $i; done"
    with Sensor(
        "--no-builtin", "--no-collapse", "--rules", rules, environment=engine.environment
    ) as counting:
        debian.exec_run(["bash", "-c", loop])
        counting.wait_for_alert(lambda alert: alert["process"]["args"][-1] == "23")
        assert counting.stop() == 0
    numbers = [int(alert["process"]["args"][-1]) for alert in counting.alerts]
    assert numbers == list(range(1, 24))
    summary = counting.stderr.splitlines()[-1]
    assert summary.endswith("alerts=23 losses: none")


def field(document: dict[str, Any], name: str) -> Any:
    for key in name.split("."):
        document = document[key]
    return document


def test_an_alert_says_who_what_and_where(
    debian: Container, engine: Engine, sensor: Sensor, marker: str
) -> None:
    """The whole contract of an alert document, with the values that are known here."""
    debian.exec_run(
        ["grep", "-r", "aws_secret_access_key", marker], user="app", workdir="/srv/.aws"
    )
    alert = sensor.wait_for_argument(marker)
    expected = {
        "event.kind": "alert",
        "event.category": ["process"],
        "event.type": ["start"],
        "event.action": "exec",
        "event.risk_score": 47,
        "process.args": ["grep", "-r", "aws_secret_access_key", marker],
        "process.args_count": 4,
        "process.command_line": f"grep -r aws_secret_access_key {marker}",
        "process.name": "grep",
        "process.executable": "/usr/bin/grep",
        "process.working_directory": "/srv/.aws",
        "process.interactive": False,
        "user.id": "1000",
        "container.id": debian.id,
        "container.name": debian.name,
        "container.runtime": "docker",
        "container.image.name": "sensor-test/debian",
        "container.security_context.privileged": False,
        "host.hostname": socket.gethostname(),
        "host.os.type": "linux",
    }
    assert {name: field(alert, name) for name in expected} == expected
    for name in (
        *("@timestamp", "message", "event.id", "event.module", "event.dataset", "event.severity"),
        *("rule.id", "rule.name", "rule.version", "threat.framework", "process.pid"),
        *("process.entity_id", "process.start", "process.parent.pid"),
        *("process.parent.entity_id", "host.os.kernel"),
    ):
        assert field(alert, name), name
    assert debian.name in alert["message"]
    # A container has users of its own, and its user 1000 is not the host's.
    assert "name" not in alert["user"]


def test_root_is_root_in_a_container_too(debian: Container, sensor: Sensor, marker: str) -> None:
    debian.exec_run(["grep", "aws_access_key_id", marker])
    assert sensor.wait_for_argument(marker)["user"] == {"id": "0", "name": "root"}


def test_labels_come_along(debian: Container, sensor: Sensor, marker: str) -> None:
    debian.exec_run(["grep", "aws_access_key_id", marker])
    labels = sensor.wait_for_argument(marker)["container"]["labels"]
    assert "payments" in labels.values()


def test_a_terminal_makes_a_process_interactive(
    debian: Container, sensor: Sensor, marker: str
) -> None:
    debian.exec_run(["grep", "aws_access_key_id", marker], tty=True, stdin=True)
    assert sensor.wait_for_argument(marker)["process"]["interactive"] is True
