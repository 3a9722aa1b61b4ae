"""What a container did just before stands in its alert, and not what others did."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docker.models.containers import Container
    from sensor_process import Sensor


def test_an_alert_tells_what_its_container_did_before(
    debian: Container, busybox: Container, sensor: Sensor, marker: str
) -> None:
    debian.exec_run(["ls", f"/{marker}-first"])
    busybox.exec_run(["ls", f"/{marker}-elsewhere"])
    debian.exec_run(["ls", f"/{marker}-second"])
    debian.exec_run(["grep", "aws_access_key_id", marker])
    alert = sensor.wait_for_alert(lambda found: found["process"]["args"][-1] == marker)
    recent = [entry["process"]["args"] for entry in alert["sensor"]["recent_activity"]]
    ours = [args for args in recent if marker in args[-1]]
    assert ours == [["ls", f"/{marker}-first"], ["ls", f"/{marker}-second"]]
