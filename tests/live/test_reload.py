"""SIGHUP puts the rules in force as their files are now: no exec in between goes unjudged, none is
judged twice, and files that cannot be used change nothing.
"""

from __future__ import annotations

import itertools
import shutil
import signal
import tempfile
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sensor_process import Sensor

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker.models.containers import Container
    from sensor_process import Alert
    from testbed import Engine

RELOADS = 20

RULE = """\
name: The marker of a test
id: {rule_id}
description: made for a test
severity: low
risk_score: 21
query: process where process.args == "{marker}"
"""


def rule_id(number: int) -> str:
    return f"6f6f2a3a-1d3b-4c53-9d0e-{number:012d}"


def number_of(alert: Alert) -> int:
    return int(alert["rule"]["id"].rpartition("-")[2])


@pytest.fixture
def rules() -> Iterator[Path]:
    """A folder that the sensor can read when it is root no more."""
    directory = Path(tempfile.mkdtemp(prefix="sensor-test-rules-", dir="/var/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def write(path: Path, content: str) -> None:
    """Put a file in place in one step: a reload may come at any time."""
    draft = path.with_suffix(".draft")
    draft.write_text(content)
    draft.rename(path)


def hang_up(sensor: Sensor) -> None:
    sensor.process.send_signal(signal.SIGHUP)


def test_a_storm_of_execs_through_20_reloads(
    debian: Container, engine: Engine, rules: Path, marker: str
) -> None:
    """Each exec alerts exactly once, by the rule of its time.

    Each reload gives the rule that the execs match another id, and adds a rule of another word, so that
    the filter in the kernel is another one, too.
    """
    matching = rules / "matching.yml"
    write(matching, RULE.format(rule_id=rule_id(0), marker=marker))
    words = [f"word-{uuid.uuid4().hex}" for _ in range(RELOADS)]
    stop = f"/srv/stop-{marker}"
    # The marker is whole in the argv of the storm's execs only.
    storm = (
        f"A={marker[:12]}; i=0; until [ -e {stop} ]; do i=$((i + 1)); "
        f'/opt/noop "${{A}}{marker[12:]}" $i; [ $((i % 8)) != 0 ] || sleep 0.01; done; echo $i'
    )
    arguments = ("--no-builtin", "--no-limit", "--rules", rules)
    with Sensor(*arguments, environment=engine.environment) as sensor:
        output = debian.exec_run(["bash", "-c", storm], stream=True).output
        assert not isinstance(output, bytes)
        try:
            sensor.wait_for_argument(marker)
            for reload, word in enumerate(words, 1):
                write(matching, RULE.format(rule_id=rule_id(reload), marker=marker))
                write(
                    rules / f"{word}.yml",
                    RULE.format(rule_id=rule_id(1000 + reload), marker=word),
                )
                hang_up(sensor)
                sensor.wait_for_line(f"rules reloaded: {reload + 1} in force")
            sensor.wait_for_alert(lambda alert: number_of(alert) == RELOADS)
        finally:
            debian.exec_run(["touch", stop])
        last = int(b"".join(output))
        debian.exec_run(["bash", "-c", f"for word in {' '.join(words)}; do /opt/noop $word; done"])
        sensor.wait_for_argument(words[-1])
        assert sensor.stop() == 0
    assert [alert["process"]["args"][1] for alert in sensor.alerts[-RELOADS:]] == words
    alerts = sensor.alerts[:-RELOADS]
    assert [int(alert["process"]["args"][-1]) for alert in alerts] == list(range(1, last + 1))
    in_force = [number for number, _ in itertools.groupby(alerts, key=number_of)]
    assert in_force == sorted(in_force), "an old rule came back"
    assert in_force[0] == 0
    assert in_force[-1] == RELOADS
    assert sensor.stderr.splitlines()[-1].endswith("losses: none")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name: [", "rule.yml:"),
        (RULE.format(rule_id=rule_id(2), marker='x" and'), "rule.yml:6:"),
        (RULE.format(rule_id=rule_id(2), marker="x") + "quary: y\n", "quary"),
    ],
    ids=["no YAML", "no EQL", "unknown key"],
)
def test_a_broken_file_leaves_the_old_rules_in_force(
    debian: Container, engine: Engine, rules: Path, marker: str, content: str, said: str
) -> None:
    """What is wrong is said, with its place; mended, the file is taken at the next reload."""
    path = rules / "rule.yml"
    write(path, RULE.format(rule_id=rule_id(1), marker=marker))
    arguments = ("--no-builtin", "--no-limit", "--rules", path)
    with Sensor(*arguments, environment=engine.environment) as sensor:
        write(path, content)
        hang_up(sensor)
        sensor.wait_for_line(said)
        sensor.wait_for_line("stays in force as it was")
        own = sensor.wait_for_alert(lambda found: found["rule"]["id"] == "sensor.reload_incomplete")
        assert said in own["sensor"]["reload_incomplete"]["errors"][0]
        debian.exec_run(["/opt/noop", marker, "old"])
        assert number_of(sensor.wait_for_argument("old")) == 1

        write(path, RULE.format(rule_id=rule_id(3), marker=marker))
        hang_up(sensor)
        sensor.wait_for_line("rules reloaded: 1 in force", after=1)
        debian.exec_run(["/opt/noop", marker, "mended"])
        assert number_of(sensor.wait_for_argument("mended")) == 3
        assert sensor.stop() == 0


def test_a_broken_file_among_others_keeps_its_own_rule_and_no_more(
    debian: Container, engine: Engine, rules: Path, marker: str
) -> None:
    """The other files are taken as they are: a changed one, and one that is gone."""
    words = {name: f"{name}-{marker}" for name in ("broken", "changed", "gone")}
    for number, (name, word) in enumerate(words.items(), 1):
        write(rules / f"{name}.yml", RULE.format(rule_id=rule_id(number), marker=word))
    arguments = ("--no-builtin", "--no-limit", "--rules", rules)
    with Sensor(*arguments, environment=engine.environment) as sensor:
        write(rules / "broken.yml", "name: [")
        write(rules / "changed.yml", RULE.format(rule_id=rule_id(22), marker=words["changed"]))
        (rules / "gone.yml").unlink()
        hang_up(sensor)
        sensor.wait_for_line("rules reloaded: 2 in force")
        for name in ("gone", "broken", "changed"):
            debian.exec_run(["/opt/noop", words[name]])
        sensor.wait_for_argument(words["changed"])
        assert sensor.stop() == 0
    assert [number_of(each) for each in sensor.alerts_with(marker)] == [1, 22]


def test_a_strict_sensor_takes_all_files_or_none(
    debian: Container, engine: Engine, rules: Path, marker: str
) -> None:
    write(rules / "good.yml", RULE.format(rule_id=rule_id(1), marker=marker))
    arguments = ("--no-builtin", "--no-limit", "--strict", "--rules", rules)
    with Sensor(*arguments, environment=engine.environment) as sensor:
        write(rules / "good.yml", RULE.format(rule_id=rule_id(2), marker=marker))
        write(rules / "broken.yml", "name: [")
        hang_up(sensor)
        sensor.wait_for_line("broken.yml:")
        sensor.wait_for_line("the old ones stay in force")
        own = sensor.wait_for_alert(lambda found: found["rule"]["id"] == "sensor.reload_failed")
        assert "broken.yml" in own["sensor"]["reload_failed"]["reason"]
        debian.exec_run(["/opt/noop", marker])
        assert number_of(sensor.wait_for_argument(marker)) == 1
        assert sensor.stop() == 0


def test_settings_are_read_again_and_what_needs_a_restart_is_said(
    debian: Container, engine: Engine, rules: Path, marker: str
) -> None:
    """A folder of rules that comes by config.d, and an exception; the file then breaks."""
    main, beside = rules / "sensor.yaml", rules / "config.d" / "10-rules.yml"
    main.write_text("builtin_rules: false\n")
    beside.parent.mkdir()
    found = rules / "found"
    found.mkdir()
    (found / "rule.yml").write_text(RULE.format(rule_id=rule_id(1), marker=marker))
    with Sensor("--no-limit", "--config", main, environment=engine.environment) as sensor:
        write(beside, f"rules: [{found}]\nkernel: {{ring_bytes: 8388608}}\n")
        hang_up(sensor)
        sensor.wait_for_line("configuration reloaded: rules")
        sensor.wait_for_line("kernel.ring_bytes has changed; that needs a restart")
        sensor.wait_for_line("rules reloaded: 1 in force")
        debian.exec_run(["/opt/noop", marker, "read"])
        assert number_of(sensor.wait_for_argument("read")) == 1

        write(beside, f"rules: [{found}]\nrulez: []\n")
        hang_up(sensor)
        sensor.wait_for_line("10-rules.yml: rulez: unknown key")
        debian.exec_run(["/opt/noop", marker, "kept"])
        assert number_of(sensor.wait_for_argument("kept")) == 1
        assert sensor.stop() == 0


def test_exceptions_of_a_broken_file_stay(
    debian: Container, engine: Engine, rules: Path, marker: str
) -> None:
    write(rules / "rule.yml", RULE.format(rule_id=rule_id(1), marker=marker))
    folder = rules / "exceptions.d"
    folder.mkdir()
    text = (
        f"exceptions:\n  - {{id: quiet, rules: all, args: hidden-{marker}, reason: a test, "
        "owner: tests, expires: never}\n"
    )
    write(folder / "known.yml", text)
    main = rules / "sensor.yaml"
    main.write_text(f"builtin_rules: false\nalerts: {{limit: false, exceptions: [{folder}]}}\n")
    arguments = ("--config", main, "--rules", rules / "rule.yml")
    with Sensor(*arguments, environment=engine.environment) as sensor:
        write(folder / "known.yml", text + "  - {id: quiet\n")
        hang_up(sensor)
        sensor.wait_for_line("known.yml: the exceptions in it stay as they were")
        sensor.wait_for_line("rules reloaded: 1 in force")
        debian.exec_run(["/opt/noop", marker, f"hidden-{marker}"])
        debian.exec_run(["/opt/noop", marker, "shown"])
        sensor.wait_for_argument("shown")
        assert sensor.stop() == 0
    assert [each["process"]["args"][-1] for each in sensor.alerts_with(marker)] == ["shown"]
