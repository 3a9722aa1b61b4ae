"""What one process and its descendants do is one alert at once and one update, with nothing lost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sensor_process import Sensor, is_late

if TYPE_CHECKING:
    from docker.models.containers import Container
    from sensor_process import Alert
    from testbed import Engine

FILES = 5_000


def updates_of(sensor: Sensor, alert: Alert) -> list[Alert]:
    first = alert["event"]["id"]
    repeated = [each for each in sensor.alerts if each["sensor"].get("update_of") == first]
    return [each for each in repeated if not is_late(each)]


def ids(alerts: list[Alert]) -> list[str]:
    return [alert["event"]["id"] for alert in alerts]


def test_find_exec_grep_over_5000_files(debian: Container, engine: Engine, marker: str) -> None:
    """5,001 matching execs: what the user reads is one alert, and one update that counts them all."""
    folder = f"/tmp/{marker}"
    made = debian.exec_run(["bash", "-c", f"mkdir {folder} && cd {folder} && touch {{1..{FILES}}}"])
    assert made.exit_code == 0, made.output
    search = ["find", folder, "-type", "f", "-exec", "grep", "aws_secret_access_key", "{}", ";"]
    # However slow the machine is, the window's end is the sensor's.
    environment = engine.environment | {"SENSOR_ALERTS__COLLAPSE_WINDOW_S": "3600"}
    with Sensor(environment=environment) as sensor:
        ran = debian.exec_run(search)
        assert ran.exit_code == 0, ran.output
        first = sensor.wait_for_argument(marker)
        # Records come in order: once this has come, all of the search have been judged.
        debian.exec_run(["grep", "aws_session_token", f"sentinel-of-{marker[:12]}"])
        sensor.wait_for_argument("sentinel-of-")
        assert ids(sensor.alerts_with(marker)) == ids([first])
        assert sensor.stop() == 0
    assert first["process"]["args"] == search
    [update] = updates_of(sensor, first)
    assert ids(sensor.alerts_with(marker)) == ids([first, update])
    collapsed = update["sensor"]["collapsed"]
    assert (collapsed["count"], collapsed["new"]) == (FILES + 1, FILES)
    assert collapsed["distinct_args"] == FILES + 1
    assert len(collapsed["seen"]) == 20
    assert collapsed["seen"][0] == {"args": search, "count": 1}
    for seen in collapsed["seen"][1:]:
        assert seen["args"][:2] == ["grep", "aws_secret_access_key"]
        assert seen["args"][2].startswith(f"{folder}/")
    assert collapsed["first"] == first["@timestamp"] < collapsed["last"] == update["@timestamp"]
    assert update["container"] == first["container"]
    summary = sensor.stderr.splitlines()[-1]
    assert summary.endswith("losses: none"), summary
    assert f"collapsed={FILES} held_back=0" in summary


def test_the_update_comes_when_the_window_ends(
    debian: Container, engine: Engine, marker: str
) -> None:
    """`timeout` starts the `egrep` that becomes `grep -E`: three matches, one thing done."""
    search = ["timeout", "5", "egrep", "aws_access_key_id", f"/srv/{marker}"]
    environment = engine.environment | {"SENSOR_ALERTS__COLLAPSE_WINDOW_S": "2"}
    with Sensor(environment=environment) as sensor:
        debian.exec_run(search)
        first = sensor.wait_for_argument(marker)
        update = sensor.wait_for_alert(
            lambda alert: alert["sensor"].get("update_of") == first["event"]["id"]
        )
        assert sensor.stop() == 0
    assert first["process"]["args"] == search
    assert [seen["args"] for seen in update["sensor"]["collapsed"]["seen"]] == [
        search,
        ["/bin/sh", "/usr/bin/egrep", "aws_access_key_id", f"/srv/{marker}"],
        ["grep", "-E", "aws_access_key_id", f"/srv/{marker}"],
    ]
    assert update["event"]["id"] == f"{first['event']['id']}-1"
    assert "3 matching execs of one action" in update["message"]
    assert ids(sensor.alerts_with(marker)) == ids([first, update])
