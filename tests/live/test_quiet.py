"""What is no search for AWS credentials in a container raises nothing.

Each test runs its command and then one that is known to fire, and looks when that alert has come. The
module's sensor looks once more at its end. Markers here start with `quiet-`.
"""

from __future__ import annotations

import subprocess
import uuid
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from docker.models.containers import Container
    from sensor_process import Alert, Sensor

MATCHING = [
    ["grep", "-r", "aws_secret_access_key", "/nonexistent"],
    ["find", "/nonexistent", "-name", "*accesskeyid*"],
    ["timeout", "5", "grep", "aws_session_token", "/nonexistent"],
    ["env", "egrep", "aws_access_key_id", "/nonexistent"],
]


@pytest.fixture
def quiet() -> str:
    return f"quiet-{uuid.uuid4().hex}"


@pytest.fixture
def nothing_since(
    sensor: Sensor, settle: Callable[[], None], quiet: str
) -> Callable[[], list[Alert]]:
    """A function that returns the alerts with the marker `quiet`, after all have come."""

    def look() -> list[Alert]:
        settle()
        return sensor.alerts_with(quiet)

    return look


@pytest.mark.parametrize("command", MATCHING, ids=lambda command: command[0])
def test_the_same_search_on_the_host(
    command: list[str], quiet: str, nothing_since: Callable[[], list[Alert]]
) -> None:
    subprocess.run([*command, quiet], capture_output=True, check=False)
    assert nothing_since() == []


@pytest.mark.parametrize(
    "command",
    [
        ["ls", "/srv"],
        ["grep", "foo", "/srv"],
        ["cat", "/srv/.aws/credentials"],  # no search tool; other rules may mind
        ["echo", "aws_secret_access_key"],
        ["grep", "aws_secret_access_ke"],
        ["grep", "aws-secret-access-key"],
        ["egrepp", "aws_secret_access_key"],
        ["sh", "-c", "echo 'grep aws_secret_access_key'"],
        ["sh", "-c", "if false; then grep aws_secret_access_key; fi; true"],
    ],
    ids=" ".join,
)
def test_another_command_in_a_container(
    command: list[str], debian: Container, quiet: str, nothing_since: Callable[[], list[Alert]]
) -> None:
    debian.exec_run([*command, quiet])
    assert nothing_since() == []


@pytest.mark.parametrize("size", [1, 40, 100_000])
def test_the_words_in_the_environment_only(
    size: int, debian: Container, quiet: str, nothing_since: Callable[[], list[Alert]]
) -> None:
    """The environment follows argv in memory: a read past the end of argv would find them."""
    value = "x" * size + " grep aws_secret_access_key"
    debian.exec_run(["grep", "foo", quiet], environment={"A": value, "grep": "aws_access_key_id"})
    assert nothing_since() == []


def test_an_empty_environment_does_not_spoil_the_read_of_argv(
    debian: Container, sensor: Sensor, marker: str
) -> None:
    """argv then ends where the stack ends, so a read of a fixed size fails as a whole."""
    debian.exec_run(["env", "-i", "/bin/grep", "aws_access_key_id", marker])
    alert = sensor.wait_for_argument(marker)
    assert alert["process"]["args"] == ["/bin/grep", "aws_access_key_id", marker]


def test_an_exec_that_fails(
    debian: Container, quiet: str, nothing_since: Callable[[], list[Alert]]
) -> None:
    result = debian.exec_run(
        ["/opt/launch", "missing", "/nonexistent/grep", "@grep", "@aws_access_key_id", quiet]
    )
    assert result.exit_code == 0, "launch saw the exec fail"
    assert nothing_since() == []
