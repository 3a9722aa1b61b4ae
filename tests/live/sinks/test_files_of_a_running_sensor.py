"""Files that a sensor writes when it is root no more: turned over, private, on a disk that is full."""

from __future__ import annotations

import errno
import json
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from receivers import until
from sensor_process import Sensor

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = pwd.getpwnam("nobody")
ALERTS = 40
RULE = """\
name: The marker of a test
id: 6f6f2a3a-1d3b-4c53-9d0e-2f8d2c1f7a12
description: made for a test
severity: low
risk_score: 21
query: process where process.args == "{marker}"
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder of root's that the sensor's user can walk through."""
    made = Path(tempfile.mkdtemp(prefix="sensor-test-files-", dir="/var/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


def nobodys(folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    os.chown(folder, NOBODY.pw_uid, NOBODY.pw_gid)
    return folder


def sensor(folder: Path, marker: str, sinks: list[dict[str, Any]], **settings: Any) -> Sensor:
    (folder / "rule.yml").write_text(RULE.format(marker=marker))
    configuration = {
        "builtin_rules": False,
        "rules": [str(folder / "rule.yml")],
        "containers": {"sockets": []},
        "sinks": sinks,
        **settings,
    }
    (folder / "sensor.yaml").write_text(yaml.safe_dump(configuration))
    return Sensor("--no-limit", "--no-collapse", "--config", folder / "sensor.yaml")


def execute(marker: str, count: int) -> None:
    for number in range(count):
        subprocess.run(["/bin/true", marker, str(number)], check=True)


def numbers(*paths: Path) -> list[int]:
    """Which alerts are in the files, one after the other."""
    lines = [line for path in paths if path.exists() for line in path.read_bytes().splitlines()]
    return [int(json.loads(line)["process"]["args"][-1]) for line in lines]


def test_a_file_is_turned_over_and_for_its_owner_alone(folder: Path, marker: str) -> None:
    path = nobodys(folder / "log") / "alerts.json"
    sink = {"type": "file", "path": str(path), "max_bytes": 20_000, "keep": 100}
    with sensor(folder, marker, [sink]) as running:
        execute(marker, ALERTS)
        running.wait_for_alert(lambda alert: alert["process"]["args"][-1] == str(ALERTS - 1))
        assert running.stop() == 0
    older = sorted(path.parent.glob("alerts.json.*"), key=lambda each: -int(each.suffix[1:]))
    files = [*older, path]
    assert len(files) > 2, "it was turned over more than once"
    assert numbers(*files) == list(range(ALERTS))
    for each in files:
        status = each.stat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o600, NOBODY.pw_uid)
        assert status.st_size <= 20_000


def test_a_folder_of_roots_is_told_at_the_start_and_once_given_away_gets_all(
    folder: Path, marker: str
) -> None:
    path = folder / "log" / "alerts.json"
    path.parent.mkdir()
    with sensor(folder, marker, [{"type": "file", "path": str(path)}]) as running:
        assert f"{path.parent}: this user may not write there" in running.stderr
        execute(marker, 3)
        running.wait_for_alert(lambda alert: alert["process"]["args"][-1] == "2")
        nobodys(path.parent)
        until(lambda: numbers(path) == [0, 1, 2], 60)
        assert running.stop() == 0


@pytest.fixture
def full_disk(folder: Path) -> Iterator[Path]:
    """A small file system of the sensor's user."""
    mounted_at = folder / "disk"
    mounted_at.mkdir()
    options = f"size=2m,mode=0755,uid={NOBODY.pw_uid}"
    command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(mounted_at)]
    mounted = subprocess.run(command, capture_output=True, check=False)
    if mounted.returncode != 0:
        pytest.skip(f"a small file system cannot be mounted here: {mounted.stderr.decode()}")
    yield mounted_at
    subprocess.run(["umount", "-l", str(mounted_at)], check=True)


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(b"x" * 4096)
        except OSError as error:
            if error.errno != errno.ENOSPC:
                raise


def test_a_full_disk_stops_neither_detection_nor_what_is_elsewhere(
    folder: Path, full_disk: Path, marker: str
) -> None:
    """The spool and one file are on the disk that is full, another file is not."""
    here, elsewhere = full_disk / "alerts.json", nobodys(folder / "log") / "alerts.json"
    sinks = [
        {"type": "file", "name": "here", "path": str(here)},
        {"type": "file", "name": "elsewhere", "path": str(elsewhere)},
    ]
    spool = {"directory": str(nobodys(full_disk / "spool"))}
    with sensor(folder, marker, sinks, spool=spool) as running:
        fill(full_disk / "ballast")
        execute(marker, ALERTS)
        running.wait_for_alert(lambda alert: alert["process"]["args"][-1] == str(ALERTS - 1))
        until(lambda: numbers(elsewhere) == list(range(ALERTS)))
        assert len(set(numbers(here))) < ALERTS
        running.wait_for_line("alerts go to the sinks from memory")
        (full_disk / "ballast").unlink()
        until(lambda: sorted(set(numbers(here))) == list(range(ALERTS)), 60)
        assert running.stop() == 0
    assert [int(alert["process"]["args"][-1]) for alert in running.alerts] == list(range(ALERTS))
    assert numbers(here) == list(range(ALERTS)), "once each"
    assert running.stderr.splitlines()[-1].startswith("sensor ended: ")
