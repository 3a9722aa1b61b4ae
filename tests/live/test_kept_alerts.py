"""The running sensor keeps its alerts, as the user it has become, and whatever ends it."""

from __future__ import annotations

import json
import pwd
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from patience import patient
from sensor_process import SENSOR, Sensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker.models.containers import Container
    from testbed import Engine

NOBODY = pwd.getpwnam("nobody")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of the sensor's user."""
    directory = Path(tempfile.mkdtemp(prefix="sensor-test-store-", dir="/var/tmp"))
    shutil.chown(directory, NOBODY.pw_uid, NOBODY.pw_gid)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def configuration(folder: Path, tmp_path: Path) -> Path:
    path = tmp_path / "sensor.yaml"
    path.write_text(f"store: {{path: {folder}/alerts.db}}\nspool: {{directory: {folder}}}\n")
    return path


def kept(configuration: Path, *arguments: str) -> list[dict[str, Any]]:
    listed = subprocess.run(
        [SENSOR, "alerts", "list", "--config", configuration, *arguments],
        capture_output=True,
        check=True,
    )
    return [json.loads(line) for line in listed.stdout.splitlines()]


def test_alerts_are_kept_and_followed_and_outlive_the_sensors_being_killed(
    debian: Container, engine: Engine, configuration: Path, folder: Path, marker: str
) -> None:
    with Sensor("--config", configuration, "--no-limit", environment=engine.environment) as sensor:
        tail = subprocess.Popen(
            [SENSOR, "alerts", "tail", "--config", configuration, "--container", debian.name],
            stdout=subprocess.PIPE,
        )
        assert tail.stdout is not None
        try:
            debian.exec_run(["grep", "-e", "aws_access_key_id", "-e", "password=hunter2", marker])
            followed = json.loads(tail.stdout.readline())
        finally:
            tail.kill()
            tail.communicate()
        shown = sensor.wait_for_argument(marker)
        for number in range(20):
            debian.exec_run(["grep", "aws_access_key_id", f"{marker}-{number}"])
        sensor.wait_for_argument(f"{marker}-19")
        sensor.kill()
        ids = [each["event"]["id"] for each in sensor.alerts_with(marker)]
    assert followed == shown
    # The words that were searched for stay, the secret does not leave the machine.
    assert shown["process"]["args"][:4] == [
        "grep", "-e", "aws_access_key_id", "-e",
    ]  # fmt: skip
    assert shown["process"]["args"][4] == "password=[redacted]"
    assert shown["sensor"]["redacted"]["kinds"] == ["password"]
    assert "hunter2" not in json.dumps(shown)
    # What was shown and did not reach the store is in the spool: the next run brings it there.
    with Sensor("--config", configuration, environment=engine.environment) as sensor:
        assert sensor.stop() == 0

    found = kept(configuration, "--container", debian.name, "--limit", "1000")
    assert [each["event"]["id"] for each in found if marker in str(each["process"])] == ids[::-1]
    assert len(ids) == 21
    whole = kept(configuration, "--container", debian.name, "--limit", "1000", "--secrets")
    assert "password=hunter2" in whole[len(ids) - 1]["process"]["args"]
    files = {file.name: file.stat() for file in folder.iterdir()}
    assert {(each.st_uid, each.st_mode & 0o777) for each in files.values()} == {
        (NOBODY.pw_uid, 0o600)
    }


def test_a_store_that_the_sensors_user_may_not_write_stops_the_start(
    machine: None, tmp_path: Path
) -> None:
    configuration = tmp_path / "sensor.yaml"
    configuration.write_text(f"store: {{path: {tmp_path}/alerts.db}}\n")
    sensor = Sensor("--config", configuration).spawn()

    assert sensor.wait(patient(30)) == 2
    assert (
        f"store.path: {tmp_path}/alerts.db.lock: cannot be used: Permission denied" in sensor.stderr
    )
    # Which, is a matter of the folders above.
    assert re.search(
        rf"{NOBODY.pw_name} may not go into {tmp_path}|belongs to root, not to {NOBODY.pw_name}",
        sensor.stderr,
    )
