"""`sensor containers` against a daemon that answers well, badly or not at all."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from fake_daemon import body, chunks

from sensor.cli.containers import _age, containers

if TYPE_CHECKING:
    from fake_daemon import Daemon

from datetime import UTC, datetime

A = "a" * 64
LISTED = [{"Id": A, "Names": ["/web"], "Image": "web:1.2", "Created": 1767323045, "Labels": {}}]
INSPECTED = {
    "Id": A,
    "Name": "/web\x1b[31m",
    "Created": "2026-01-02T03:04:05Z",
    "Config": {"Image": "web:1.2", "Labels": {"team": "blue"}},
    "State": {"Running": True, "Pid": 1, "StartedAt": "2026-01-02T03:04:06Z"},
    "HostConfig": {"Privileged": True},
}


@pytest.fixture
def serving(daemon: Daemon) -> Daemon:
    daemon.answers["/containers/json"] = body(json.dumps(LISTED).encode())
    daemon.answers[f"/containers/{A}/json"] = body(json.dumps(INSPECTED).encode())
    daemon.answers["/events"] = chunks(then=daemon.release.wait)
    return daemon


def test_a_pipe_gets_one_document_a_line_with_all_that_is_known(serving: Daemon) -> None:
    result = CliRunner().invoke(containers, ["--socket", serving.path])
    (line,) = result.stdout.splitlines()
    document = json.loads(line)["container"]
    assert (
        result.exit_code,
        document["id"],
        document["image"]["name"],
        document["image"]["tag"],
        document["security_context"]["privileged"],
        document["labels"],
    ) == (0, A, "web", ["1.2"], True, {"team": "blue"})


def test_a_table_lets_no_control_character_through(serving: Daemon) -> None:
    result = CliRunner().invoke(containers, ["--socket", serving.path, "--output", "table"])
    header, row = result.stdout.splitlines()
    assert header.split() == ["ID", "NAME", "IMAGE", "POD", "SOURCE", "AGE"]
    assert [A[:12], "web\\x1b[31m", "web:1.2", "-", "docker"] == row.split()[:5]


def test_a_daemon_that_is_away_is_said_to_be(daemon: Daemon) -> None:
    arguments = ["--socket", "/nowhere/docker.sock", "--timeout", "0.2"]
    result = CliRunner().invoke(containers, arguments)
    assert result.exit_code == 1
    assert result.stderr == (
        "docker: /nowhere/docker.sock: No such file or directory: is the engine running?"
        " Another socket is named with --socket or `containers.sockets`\n"
    )


def test_a_socket_of_unknown_speech_is_a_usage_error() -> None:
    result = CliRunner().invoke(containers, ["--socket", "/nowhere/x.sock"])
    assert result.exit_code == 2
    assert "No such file or directory, so" in result.stderr
    assert "write docker:/nowhere/x.sock or cri:/nowhere/x.sock" in result.stderr


@pytest.mark.parametrize(
    ("created", "age"),
    [
        (None, "-"),
        ("2026-01-01T00:00:00.500Z", "0s"),
        ("2025-12-31T23:59:01.000Z", "59s"),
        ("2025-12-31T23:00:00.000Z", "1h"),
        ("2025-12-29T23:00:00.000Z", "2d"),
        ("2027-01-01T00:00:00.000Z", "0s"),
    ],
)
def test_age(created: str | None, age: str) -> None:
    assert age == _age(created, datetime(2026, 1, 1, tzinfo=UTC))
