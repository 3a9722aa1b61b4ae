"""Execs that failed, with `kernel.failed_execs`: real ones, in containers, and what rules see of them."""

from __future__ import annotations

import ctypes as ct
import errno
import json
import os
import re
import signal
import subprocess
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sensor_process import SENSOR, Sensor, has_argument

from sensor.kernel.libbpf import libbpf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker.models.containers import Container
    from testbed import Engine

ON = {"SENSOR_KERNEL__FAILED_EXECS": "true"}
RULES = """
name: An exec that failed
id: failed
query: |
  process where event.outcome == "failure" and process.args : "failed-*"
severity: low
---
name: A tool that is not there
id: missing-tool
query: |
  sequence by process.entity_id with maxspan=1s
    [process where event.outcome == "failure" and process.name in ("grep", "no-such-tool") and
       process.args : "search-*"]
    ![process where event.outcome == "success" and process.name in ("grep", "no-such-tool")]
severity: low
---
name: Any grep
id: any-grep
query: |
  process where process.name == "grep" and process.args : "failed-*"
severity: low
"""
AWS = "AWS Credentials Searched For Inside A Container"
FLOOD = 3000


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rules")
    for number, text in enumerate(RULES.split("---\n")):
        (folder / f"{number}.yml").write_text(text)
    return folder


@pytest.fixture(scope="module")
def telling(engine: Engine, rules: Path) -> Iterator[Sensor]:
    with Sensor(*options(rules), environment=engine.environment | ON) as running:
        yield running
        assert running.stop() == 0
    assert re.search(r"sensor ended: .* failed=[1-9]", running.stderr)


def options(rules: Path) -> tuple[str | Path, ...]:
    return "--no-builtin", "--rules", rules, "--no-limit", "--no-collapse"


@pytest.fixture
def failed() -> str:
    """An argument that the rules look for."""
    return f"failed-{uuid.uuid4().hex}"


def rule_ids(sensor: Sensor, marker: str) -> list[str]:
    return [alert["rule"]["id"] for alert in sensor.alerts_with(marker)]


@pytest.mark.parametrize(
    ("mode", "path", "code"),
    [
        ("plain", "/nonexistent/tool", "ENOENT"),
        ("plain", "/etc", "EACCES"),
        ("plain", "/etc/passwd", "EACCES"),
        ("plain", "/tmp/no-program", "ENOEXEC"),
        ("thread", "/nonexistent/tool", "ENOENT"),
        ("pad:1:200000", "/bin/grep", "E2BIG"),
    ],
)
def test_why_it_failed_and_who_tried(
    mode: str, path: str, code: str, telling: Sensor, busybox: Container, failed: str
) -> None:
    busybox.exec_run(["sh", "-c", "echo text > /tmp/no-program; chmod +x /tmp/no-program"])
    busybox.exec_run(["/opt/launch", mode, path, failed, "last"])
    alert = telling.wait_for_argument(failed)
    assert alert["event"]["outcome"] == "failure"
    assert alert["event"]["type"] == ["info"]
    assert alert["error"] == {"code": code, "message": os.strerror(getattr(errno, code))}
    process = alert["process"]
    assert (process["executable"], process["name"]) == (path, path.rpartition("/")[2])
    assert process["args"][0] == failed
    assert alert["sensor"]["args_truncated"] == (code == "E2BIG")
    assert process["previous"]["executable"] == "/opt/launch"
    assert process["previous"]["args"][:3] == ["/opt/launch", mode, path]
    assert alert["container"]["id"] == busybox.id
    assert alert["container"]["name"] == busybox.name
    assert rule_ids(telling, failed) == ["failed"]


def test_execveat_of_a_descriptor_has_no_path(
    telling: Sensor, debian: Container, failed: str
) -> None:
    debian.exec_run(["/opt/launch", "memfd", "/etc/passwd", failed])
    alert = telling.wait_for_argument(failed)
    assert alert["error"]["code"] == "ENOEXEC"
    assert alert["process"]["args"] == [failed]
    assert alert["process"]["name"] == "launch"
    assert "executable" not in alert["process"]
    assert "filename" not in alert["sensor"]


def test_a_shell_that_is_told_a_path(telling: Sensor, busybox: Container, failed: str) -> None:
    busybox.exec_run(["sh", "-c", f"/usr/bin/nmap -sV {failed}; true"])
    alert = telling.wait_for_argument(failed)
    assert alert["process"]["command_line"] == f"/usr/bin/nmap -sV {failed}"
    assert alert["process"]["previous"]["args"][:2] == ["sh", "-c"]
    assert alert["process"]["parent"]["args"][:2] == ["sh", "-c"]
    assert alert["container"]["id"] == busybox.id
    assert "failed (ENOENT)" in alert["message"]


def test_rules_that_do_not_ask_of_failures_do_not_see_them(
    engine: Engine, rules: Path, debian: Container, failed: str
) -> None:
    """Neither the built-in rule nor one that names no type of event."""
    grep = ["@grep", "@aws_access_key_id", failed]
    with Sensor(*options(rules)[1:], environment=engine.environment | ON) as sensor:
        debian.exec_run(["/opt/launch", "missing", "/nonexistent/grep", *grep])
        assert sensor.wait_for_argument(failed)["event"]["outcome"] == "failure"
        debian.exec_run(["/opt/launch", "plain", "/usr/bin/grep", *grep])
        for name in (AWS, "Any grep"):
            sensor.wait_for_alert(
                lambda alert, name=name: (
                    has_argument(alert, failed) and alert["rule"]["name"] == name
                )
            )
        assert sensor.stop() == 0
    assert sorted(
        (alert["event"]["outcome"], alert["rule"]["name"]) for alert in sensor.alerts_with(failed)
    ) == [("failure", "An exec that failed"), ("success", AWS), ("success", "Any grep")]


def test_a_search_through_path_is_a_missing_tool_only_if_nothing_is_found(
    telling: Sensor, debian: Container
) -> None:
    """env tries the folders of PATH one after the other."""
    there, missing = f"search-{uuid.uuid4().hex}", f"search-{uuid.uuid4().hex}"
    path = {"PATH": "/nonexistent:/opt:/usr/bin:/bin"}
    debian.exec_run(["env", "grep", there], environment=path)
    debian.exec_run(["env", "no-such-tool", missing], environment=path)
    alert = telling.wait_for_argument(missing)
    assert alert["rule"]["id"] == "missing-tool"
    assert alert["process"]["executable"] == "/nonexistent/no-such-tool"
    telling.wait_for_alert(
        lambda alert: (
            has_argument(alert, missing) and alert["process"]["executable"] == "/bin/no-such-tool"
        )
    )
    assert rule_ids(telling, missing) == ["missing-tool"] * 4
    assert rule_ids(telling, there) == []


def test_a_flood_of_failures_takes_no_room_of_what_succeeds(
    engine: Engine, rules: Path, debian: Container, failed: str
) -> None:
    with Sensor(*options(rules), environment=engine.environment | ON) as sensor:
        sensor.process.send_signal(signal.SIGSTOP)
        try:
            fail_often(failed)
            debian.exec_run(["grep", f"{failed}-found"])
        finally:
            sensor.process.send_signal(signal.SIGCONT)
        assert sensor.wait_for_argument(f"{failed}-found")["rule"]["id"] == "any-grep"
        assert sensor.stop() == 0
    ended = sensor.wait_for_line("sensor ended")
    assert re.search(r"failed_lost=[1-9]", ended)
    assert "ring_full" not in ended
    told = rule_ids(sensor, failed)
    assert 0 < told.count("failed") < FLOOD


def fail_often(marker: str) -> None:
    """More failed execs than their ring has room for."""
    for _ in range(FLOOD):
        try:
            os.execv("/nonexistent/tool", [marker])
        except FileNotFoundError:
            continue


def loaded_by(sensor: Sensor) -> set[str]:
    """The names of the programs in the kernel that the sensor holds."""
    names = set()
    for entry in Path(f"/proc/{sensor.pid}/fdinfo").iterdir():
        try:
            about = entry.read_text()
        except FileNotFoundError:
            continue  # closed meanwhile
        if (found := re.search(r"^prog_id:\s*(\d+)", about, re.MULTILINE)) is None:
            continue
        descriptor = libbpf().bpf_prog_get_fd_by_id(int(found[1]))
        assert descriptor >= 0
        info = ct.create_string_buffer(256)
        size = ct.c_uint32(len(info))
        assert libbpf().bpf_obj_get_info_by_fd(descriptor, info, ct.byref(size)) == 0
        os.close(descriptor)
        names.add(info.raw[64:80].rstrip(b"\0").decode())
    return names


def test_unless_asked_for_nothing_of_it_is_in_the_kernel(
    telling: Sensor, sensor: Sensor, debian: Container, failed: str
) -> None:
    of_failures = {name for name in loaded_by(telling) if "failed" in name}
    assert {"on_failed", "failed_scan", "failed_tell", "failed_send"} <= of_failures
    assert "on_exec" in loaded_by(sensor)
    assert loaded_by(sensor) == loaded_by(telling) - of_failures


def test_a_rule_that_waits_in_vain_is_named(engine: Engine, rules: Path) -> None:
    with Sensor(*options(rules), environment=engine.environment) as sensor:
        line = sensor.wait_for_line("'An exec that failed' waits for execs that failed")
        assert "kernel.failed_execs: true" in line
        assert sensor.stop() == 0
    assert "'Any grep' waits" not in sensor.stderr


def test_a_record_has_them_and_replays(rules: Path, tmp_path: Path, failed: str) -> None:
    file = tmp_path / "record.ndjson"
    command = [str(SENSOR), "record", "--failed", "--file", str(file)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            assert process.stderr is not None
            assert any(b"sensor ready" in line for line in process.stderr)
            for path, expected in (
                ("/nonexistent/tool", FileNotFoundError),
                ("/", PermissionError),
            ):
                with pytest.raises(expected):
                    os.execv(path, ["tool", failed])
            process.send_signal(signal.SIGINT)
            process.stderr.read()
        finally:
            process.kill()
    documents = [json.loads(line) for line in file.read_bytes().splitlines()]
    found = [one for one in documents if failed in one["process"].get("args", [])]
    assert [one["error"]["code"] for one in found] == ["ENOENT", "EACCES"]
    replayed = subprocess.run(
        [SENSOR, "replay", "--no-builtin", "--rules", rules, file],
        capture_output=True,
        text=True,
        check=False,
    )
    alerts = [json.loads(line) for line in replayed.stdout.splitlines()]
    assert [
        (alert["rule"]["id"], alert["error"]["code"])
        for alert in alerts
        if failed in alert["process"]["args"]
    ] == [("failed", "ENOENT"), ("failed", "EACCES")]
