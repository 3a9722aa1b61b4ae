"""From alert to answer: a search in a container, its alert, and the report that the command makes of it."""

from __future__ import annotations

import json
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sensor_process import SENSOR, Sensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker.models.containers import Container
    from testbed import Engine

NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def configuration(tmp_path: Path) -> Iterator[Path]:
    """A configuration with a store in a folder of the sensor's user."""
    folder = Path(tempfile.mkdtemp(prefix="sensor-test-triage-", dir="/var/tmp"))
    shutil.chown(folder, NOBODY.pw_uid, NOBODY.pw_gid)
    path = tmp_path / "sensor.yaml"
    path.write_text(f"store: {{path: {folder}/alerts.db}}\n")
    yield path
    shutil.rmtree(folder)


def test_an_alerts_report_says_who_came_in_and_what_they_did(
    debian: Container, busybox: Container, engine: Engine, configuration: Path, marker: str
) -> None:
    shell = f"ls /{marker}-before; bash -c 'grep -r aws_secret_access_key /{marker}; true'; true"
    with Sensor("--config", configuration, environment=engine.environment) as sensor:
        debian.exec_run(["bash", "-c", shell], tty=True)
        identifier = sensor.wait_for_argument(f"/{marker}")["event"]["id"]
        busybox.exec_run(["grep", "-r", "aws_secret_access_key", f"/{marker}"])
        sensor.wait_for_alert(lambda alert: alert.get("container", {}).get("name") == busybox.name)
        # A sensor that has ended has written everything down.
        assert sensor.stop() == 0
        [alert] = [each for each in sensor.alerts if each["event"]["id"] == identifier]

    def triage(reference: str, *arguments: str, stdin: bytes | None = None) -> bytes:
        command = [SENSOR, "triage", reference, "--config", configuration, *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout

    report = json.loads(triage(identifier[:12], "--format", "json"))
    chain = [node for node in report["tree"] if node["is_chain"]]
    assert [node["name"] for node in chain[-3:]] == ["bash", "bash", "grep"]
    assert [node["place"] for node in chain[-4:]] == ["outside", "inside", "inside", "inside"]
    assert chain[-1]["args"] == ["grep", "-r", "aws_secret_access_key", f"/{marker}"]
    assert chain[-3]["marks"] == ["entry", "session leader", "group leader"]
    beside = [node["args"] for node in report["tree"] if not node["is_chain"]]
    assert ["ls", f"/{marker}-before"] in beside
    who = {fact["label"]: fact["values"][0] for fact in report["who"]}
    assert who["User"] == "root (0)"
    assert who["Came in"].startswith("Started from outside in the running container")
    assert who["Terminal"].startswith("pts/")
    facts = {fact["label"]: fact["values"] for fact in report["container"]}
    assert facts["Name"] == [debian.name]
    assert facts["Privileged"] == ["no"]
    assert "com.example.team=payments" in facts["Labels"]
    others = {each["container"] for group in report["related"] for each in group["alerts"]}
    assert busybox.name in others
    assert report["history"]["alerts"] == 1

    # The same of the document alone, from a pipe, and as a page.
    piped = json.loads(triage("-", "--format", "json", stdin=json.dumps(alert).encode()))
    assert piped["tree"] == report["tree"]
    page = triage("last", "--format", "html").decode()
    assert busybox.name in page
    assert "<script" not in page
