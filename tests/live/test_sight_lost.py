"""A sensor whose program is detached, or whose ring is gone, says so on every sink and ends with code 3."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from patience import patient
from sensor_process import Sensor
from tampering import close_inside, delete_from_map, descriptors, need_amd64

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

EMIT_EXEC = 3  # its place among the tail calls

LINK = "tp_name:\tsched_process_exec"
EPOLL = "anon_inode:[eventpoll]"
TAIL_CALLS = "map_type:\t3"  # BPF_MAP_TYPE_PROG_ARRAY


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that the sensor can write to when it is root no more."""
    directory = Path(tempfile.mkdtemp(prefix="sensor-test-sight-", dir="/var/tmp"))
    directory.chmod(0o777)
    yield directory
    shutil.rmtree(directory)


def lost_sight(alerts: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without what the machine's other processes gave rise to."""
    return [alert for alert in alerts if alert["rule"]["id"] == "sensor.sight_lost"]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (LINK, "its program in the kernel is detached (sched_process_exec)"),
        (EPOLL, "the ring cannot be read: Bad file descriptor"),
        (TAIL_CALLS, "what its program in the kernel tells does not come through"),
    ],
    ids=["detached", "no ring", "tampered with"],
)
def test_it_ends_with_code_3_and_says_why_on_every_sink(folder: Path, what: str, said: str) -> None:
    need_amd64()
    file = folder / "alerts.json"
    config = folder / "sensor.yaml"
    config.write_text(
        "containers: {sockets: []}\ncanary_interval_s: 1\n"
        f"sinks: [{{type: file, path: {file}}}]\n"
    )
    with Sensor("--config", config) as sensor:
        (descriptor,) = descriptors(sensor.pid, what)
        if what == TAIL_CALLS:
            delete_from_map(sensor.pid, descriptor, EMIT_EXEC)
        else:
            close_inside(sensor.pid, descriptor)
        assert sensor.wait(patient(60)) == 3
    (own,) = lost_sight(sensor.alerts)
    assert said in own["message"]
    assert own["event"]["severity"] == 99
    (written,) = lost_sight(map(json.loads, file.read_text().splitlines()))
    assert written["event"]["id"] == own["event"]["id"]
    assert said in sensor.stderr.splitlines()[-1]
    assert "Traceback" not in sensor.stderr
