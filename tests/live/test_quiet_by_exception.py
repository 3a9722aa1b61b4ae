"""From an alert to the exception that `suggest` makes of it, which a running sensor takes and counts."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from sensor_process import SENSOR, Sensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker.models.containers import Container
    from testbed import Engine

RULE_ID = "6f6f2a3a-1d3b-4c53-9d0e-2f8d2c1f7a13"
RULE = """\
name: The marker of a test
id: {rule}
description: made for a test
severity: low
risk_score: 21
query: process where process.args == "{marker}"
"""
EXPIRED = """\
exceptions:
  - id: of-last-year
    rules: {rule}
    executable: /opt/noop
    reason: was needed once
    owner: the test
    expires: 2020-01-31
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the sensor can read, and one in it that it may write to, when it is root no more."""
    made = Path(tempfile.mkdtemp(prefix="sensor-test-exceptions-", dir="/var/tmp"))
    made.chmod(0o755)
    (made / "exceptions.d").mkdir()
    (made / "state").mkdir()
    nobody = pwd.getpwnam("nobody")
    os.chown(made / "state", nobody.pw_uid, nobody.pw_gid)
    yield made
    shutil.rmtree(made)


def exceptions(*arguments: str | Path, given: str = "") -> str:
    """What a command of `sensor exceptions` says."""
    command = [SENSOR, "exceptions", *arguments]
    ran = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_an_alert_is_made_an_exception_which_hides_counts_and_is_reviewed(
    debian: Container, engine: Engine, folder: Path, marker: str
) -> None:
    rules, entries, state = folder / "rule.yml", folder / "exceptions.d", folder / "state"
    rules.write_text(RULE.format(rule=RULE_ID, marker=marker))
    (entries / "old.yml").write_text(EXPIRED.format(rule=RULE_ID))
    review = state / "review.json"
    configuration = {
        "builtin_rules": False,
        "rules": [str(rules)],
        "alerts": {
            "exceptions": [str(entries)],
            "exceptions_state": str(state / "exceptions.json"),
            "limits": [{"rule": RULE_ID, "max_alerts": 2, "interval_s": 3600}],
        },
        "sinks": [{"type": "file", "path": str(review), "events": True}],
    }
    (folder / "sensor.yaml").write_text(yaml.safe_dump(configuration))
    with Sensor("--config", folder / "sensor.yaml", environment=engine.environment) as sensor:
        # What has expired hides nothing, and that is told.
        expired = sensor.wait_for_alert(lambda each: "exception_expired" in each["sensor"])
        assert expired["sensor"]["exception_expired"]["id"] == "of-last-year"
        assert expired["host"]["hostname"]
        debian.exec_run(["/opt/noop", marker])
        alert = sensor.wait_for_argument(marker)

        proposal = exceptions(
            "suggest", "-", "--owner", "the test", "--reason", "it is ours", given=json.dumps(alert)
        )
        (entry,) = yaml.safe_load(proposal)["exceptions"]
        assert entry["rules"] == RULE_ID
        assert entry["executable"] == "/opt/noop"
        assert entry["command_line"] == f"/opt/noop {marker}"
        assert entry["image"] == "sensor-test/debian:12"
        assert entry["container"] == debian.name
        entry["record"] = True
        (entries / "new.yml").write_text(yaml.safe_dump({"exceptions": [entry]}))
        sensor.process.send_signal(signal.SIGHUP)
        sensor.wait_for_line("rules reloaded")
        for _ in range(3):
            debian.exec_run(["/opt/noop", marker])
        # The narrowest: another command line is another thing.
        debian.exec_run(["/opt/noop", marker, "more"])
        sensor.wait_for_argument("more")
        debian.exec_run(["/opt/noop", marker, "beyond"])
        debian.exec_run(["/opt/noop", marker])
        sensor.process.send_signal(signal.SIGHUP)  # a reload goes on counting
        sensor.wait_for_line("rules reloaded", after=1)
        debian.exec_run(["/opt/noop", marker, "the last"])
        assert sensor.stop() == 0
    mine = sensor.alerts_with(marker)
    assert [each["process"]["args"][2:] for each in mine] == [[], ["more"]]
    (held,) = [each for each in sensor.alerts if "held_back" in each["sensor"]]
    assert held["sensor"]["held_back"]["count"] == 2
    assert held["sensor"]["held_back"]["containers"] == [
        {"id": debian.id, "name": debian.name, "count": 2}
    ]
    assert held["host"]["hostname"]
    told = [each for each in sensor.alerts if "exception_expired" in each["sensor"]]
    assert told == [expired], "once, whatever was reloaded"

    written = [json.loads(line) for line in review.read_text().splitlines()]
    recorded = [each for each in written if "exception" in each.get("rule", {})]
    assert [each["event"]["kind"] for each in recorded] == ["event"] * 4
    assert {each["rule"]["exception"]["id"] for each in recorded} == {entry["id"]}
    assert {each["process"]["command_line"] for each in recorded} == {f"/opt/noop {marker}"}

    arguments = (entries, "--rules", rules)
    report = exceptions("report", *arguments, "--state", state / "exceptions.json")
    hidden = {
        identifier: line.split()[0]
        for identifier in (entry["id"], "of-last-year")
        for line in report.splitlines()
        if identifier in line
    }
    assert hidden == {entry["id"]: "4", "of-last-year": "never"}
    assert f"{RULE_ID} (4)" in report
    assert "of-last-year" in exceptions("list", *arguments)
    assert "expired on 2020-01-31" in exceptions("check", *arguments)
