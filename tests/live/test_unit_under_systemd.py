"""deploy/systemd's unit under a real systemd: started when ready, reloaded, and started anew when it must be."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sensor_process import REPOSITORY, SENSOR
from systemd_of_its_own import Systemd, installed
from tampering import close_inside, descriptors, need_amd64

if TYPE_CHECKING:
    from collections.abc import Iterator

UNIT = "ebpf-container-sensor.service"
LINK = "tp_name:\tsched_process_exec"


class Output:
    """What the service writes, line by line, as it comes."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        self._lines: list[str] = []
        self._changed = threading.Condition()
        # Open for writing, too: it does not end when the service does.
        self._file = os.fdopen(os.open(path, os.O_RDWR), "r", errors="replace")
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._file:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()

    def wait_for(self, text: str, times: int = 1) -> None:
        with self._changed:
            came = self._changed.wait_for(
                lambda: sum(text in line for line in self._lines) >= times, 60
            )
            assert came, "".join(self._lines)


@pytest.fixture
def folder() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="sensor-test-systemd-", dir="/var/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def systemd(folder: Path) -> Iterator[Systemd]:
    if not installed():
        pytest.skip("systemd is not installed: the unit was not started")
    with Systemd(folder) as manager:
        yield manager


def install(systemd: Systemd, folder: Path) -> Output:
    """The unit as it is, but for where this checkout is and what it says goes; and a quicker watchdog."""
    (folder / "sensor.yaml").write_text("containers: {sockets: []}\n")
    (systemd.units / UNIT).write_text(
        (REPOSITORY / "deploy/systemd" / UNIT)
        .read_text()
        .replace("/usr/bin/sensor", str(SENSOR))
        .replace("/etc/sensor", str(folder))
    )
    drop_in = systemd.units / f"{UNIT}.d" / "test.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(
        "[Unit]\nDefaultDependencies=no\n"
        "[Service]\nPrivateTmp=no\nProtectHome=no\nRestartSec=100ms\n"
        "WatchdogSec=2\nTimeoutAbortSec=1\n"
        f"StandardOutput=null\nStandardError=file:{folder}/output\n"
    )
    output = Output(folder / "output")
    systemd.control("daemon-reload")
    return output


def test_the_service_is_what_systemd_says_it_is(systemd: Systemd, folder: Path) -> None:
    need_amd64()
    output = install(systemd, folder)
    properties = ("ActiveState", "StatusText", "MainPID", "NRestarts", "Result")

    systemd.control("start", UNIT)  # returns when it has said that it is ready
    started = systemd.show(UNIT, *properties)
    assert (started["ActiveState"], started["NRestarts"]) == ("active", "0")
    assert started["StatusText"].startswith(("sensor ready: ", "seeing: "))

    systemd.control("reload", UNIT)
    output.wait_for("rules reloaded")
    reloaded = systemd.show(UNIT, *properties)
    assert (reloaded["ActiveState"], reloaded["MainPID"]) == ("active", started["MainPID"])

    pid = systemd.pid_outside(int(reloaded["MainPID"]))
    (link,) = descriptors(pid, LINK)
    close_inside(pid, link)
    output.wait_for(
        "error: the sensor saw no more and ended: its program in the kernel is detached"
    )
    output.wait_for("sensor ready", times=2)
    anew = systemd.show(UNIT, *properties)
    assert (anew["NRestarts"], anew["MainPID"] != started["MainPID"]) == ("1", True)

    systemd.control("kill", "--signal=STOP", UNIT)  # its loop turns no more
    output.wait_for("sensor ready", times=3)
    assert systemd.show(UNIT, *properties)["NRestarts"] == "2"

    systemd.control("stop", UNIT)
    ended = systemd.show(UNIT, *properties)
    assert (ended["ActiveState"], ended["Result"]) == ("inactive", "success")


def test_a_wrong_configuration_fails_the_start_and_is_not_tried_again(
    systemd: Systemd, folder: Path
) -> None:
    output = install(systemd, folder)
    (folder / "sensor.yaml").write_text("rulez: []\n")
    with pytest.raises(AssertionError, match="failed because"):
        systemd.control("start", UNIT)
    output.wait_for("rulez: unknown key")
    state = systemd.show(UNIT, "ActiveState", "NRestarts", "ExecMainStatus")
    assert state == {"ActiveState": "failed", "NRestarts": "0", "ExecMainStatus": "2"}
