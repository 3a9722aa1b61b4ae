"""A running sensor and systemd's end of the socket: each word in its time, from the unprivileged process."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import struct
from pathlib import Path

import pytest
from patience import patient
from sensor_process import Sensor

CREDENTIALS = struct.Struct("3i")


class Peer:
    """The socket as systemd has it: it looks at who the sender is."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.settimeout(30)
        self.socket.bind(str(path))

    def wait_for(self, word: str) -> tuple[dict[str, str], int, int]:
        """The first message from now on with the word; its lines, and the sender's pid and uid."""
        while True:
            data, ancillary, _, _ = self.socket.recvmsg(4096, 128)
            lines = dict(line.split("=", 1) for line in data.decode().split("\n"))
            if word in lines:
                pid, uid, _ = CREDENTIALS.unpack(ancillary[0][2][: CREDENTIALS.size])
                return lines, pid, uid


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """In a folder that only root can enter: nobody could open it later."""
    tmp_path.chmod(0o700)
    return tmp_path / "notify"


def test_ready_alive_reloading_and_stopping(path: Path, tmp_path: Path) -> None:
    peer = Peer(path)
    config = tmp_path / "sensor.yaml"
    config.write_text("containers: {sockets: []}\n")
    nobody = pwd.getpwnam("nobody").pw_uid
    environment = {"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "1000000"}
    sensor = Sensor("--config", config, environment=environment).spawn()
    try:
        lines, pid, uid = peer.wait_for("READY")
        assert (lines["READY"], pid, uid) == ("1", sensor.pid, nobody)
        assert "sensor ready" in lines["STATUS"]
        for _ in range(3):
            assert peer.wait_for("WATCHDOG")[1:] == (sensor.pid, nobody)

        os.kill(sensor.pid, signal.SIGHUP)
        lines, _, _ = peer.wait_for("RELOADING")
        assert int(lines["MONOTONIC_USEC"]) > 0
        lines, _, _ = peer.wait_for("READY")
        assert lines["STATUS"].startswith("seeing: ")

        os.kill(sensor.pid, signal.SIGTERM)
        lines, _, _ = peer.wait_for("STOPPING")
        assert "losses: " in lines["STATUS"]
        assert sensor.wait(patient(10)) == 0
    finally:
        sensor.kill()
        peer.socket.close()


def test_a_sensor_that_cannot_start_never_says_that_it_is_ready(path: Path) -> None:
    peer = Peer(path)
    sensor = Sensor(
        "--strict", "--rules", "/dev/null", environment={"NOTIFY_SOCKET": str(path)}
    ).spawn()
    assert sensor.wait(patient(30)) == 2
    peer.socket.setblocking(False)
    with pytest.raises(BlockingIOError):
        peer.socket.recv(4096)
    peer.socket.close()
