"""What a container did just before stands in its alert, and not what others did."""

from __future__ import annotations

import ctypes as ct
import mmap
from pathlib import Path
from typing import TYPE_CHECKING

from sensor.kernel.layout import BANKS, CGROUPS, RECORDERS, Bank, Recorder

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


def test_the_recorder_is_mapped_only_while_it_is_read(
    debian: Container, sensor: Sensor, marker: str
) -> None:
    """What stays mapped counts as the sensor's memory: the recorders and the filter are megabytes."""
    debian.exec_run(["grep", "aws_access_key_id", marker])
    alert = sensor.wait_for_alert(lambda found: found["process"]["args"][-1] == marker)
    assert "recent_activity" in alert["sensor"]
    sizes = {
        int(end, 16) - int(start, 16)
        for start, end in (
            line.split()[0].split("-")
            for line in Path(f"/proc/{sensor.pid}/maps").read_text().splitlines()
            if line.endswith("anon_inode:bpf-map")
        )
    }
    assert CGROUPS * 8 in sizes  # the table of cgroups, which is written to all the time
    large = (RECORDERS * ct.sizeof(Recorder), BANKS * ct.sizeof(Bank))
    assert sizes.isdisjoint(-(-size // mmap.PAGESIZE) * mmap.PAGESIZE for size in large)
