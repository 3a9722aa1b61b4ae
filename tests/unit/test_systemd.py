"""What systemd is told, as a real datagram socket receives it."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from sensor.systemd import Manager

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def peer(tmp_path: Path) -> Iterator[socket.socket]:
    with listening(tmp_path / "notify") as made:
        yield made


def listening(path: Path) -> socket.socket:
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(str(path))
    made.settimeout(5)
    return made


def manager(peer: socket.socket, **environ: str) -> Manager:
    return Manager({"NOTIFY_SOCKET": peer.getsockname(), **environ})


def told(peer: socket.socket) -> list[str]:
    """All that was sent so far."""
    peer.setblocking(False)
    messages = []
    try:
        while True:
            messages.append(peer.recv(4096).decode())
    except BlockingIOError:
        return messages


def test_the_words_of_a_life(peer: socket.socket) -> None:
    subject = manager(peer)
    subject.ready("seeing\nall")
    subject.reloading()
    subject.stopping("")
    ready, reloading, stopping = told(peer)
    assert ready == "READY=1\nSTATUS=seeing all"
    assert reloading.startswith("RELOADING=1\nMONOTONIC_USEC=")
    assert stopping == "STOPPING=1\nSTATUS="


def test_a_sign_of_life_twice_as_often_as_is_wanted(peer: socket.socket) -> None:
    subject = manager(peer, WATCHDOG_USEC="3000000", WATCHDOG_PID=str(os.getpid()))
    for tenth in range(60):
        subject.turn(100 + tenth / 10, lambda: "well")
    messages = told(peer)
    assert messages.count("WATCHDOG=1") == 4
    assert messages.count("STATUS=well") == 1


@pytest.mark.parametrize(
    "environ",
    [{}, {"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, {"WATCHDOG_USEC": "0"}],
    ids=["none", "another's", "off"],
)
def test_where_no_sign_is_wanted_none_is_sent(peer: socket.socket, environ: dict[str, str]) -> None:
    subject = manager(peer, **environ)
    subject.turn(100.0, lambda: "well")
    assert told(peer) == ["STATUS=well"]


def test_an_abstract_socket() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        peer.bind(f"\0sensor-test-{os.getpid()}")
        subject = Manager({"NOTIFY_SOCKET": f"@sensor-test-{os.getpid()}"})
        subject.ready("")
        assert told(peer) == ["READY=1\nSTATUS="]


def test_no_child_speaks_in_our_name(peer: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": peer.getsockname(), "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}
    Manager(environ)
    assert environ == {}


def test_the_socket_is_opened_at_once_and_found_again_when_it_is_new(tmp_path: Path) -> None:
    first = listening(tmp_path / "notify")
    subject = manager(first)
    (tmp_path / "notify").rename(tmp_path / "moved")
    subject.ready("by the open one")
    assert told(first) == ["READY=1\nSTATUS=by the open one"]
    first.close()
    with listening(tmp_path / "notify") as second:
        subject.ready("by name")
        assert told(second) == ["READY=1\nSTATUS=by name"]


def test_readiness_waits_for_room(peer: socket.socket) -> None:
    """A manager that does not read for a while must not make it lost."""
    subject = manager(peer)
    for _ in range(10_000):
        subject.reloading()
    subject.ready("now")
    assert not [each for each in told(peer) if each.startswith("READY=1")]
    subject.turn(100.0, lambda: "well")
    assert told(peer) == ["READY=1\nSTATUS=now", "STATUS=well"]


@pytest.mark.parametrize("name", ["", "vsock:2:1234", "/no/such/socket"])
def test_without_a_socket_it_is_silent(name: str) -> None:
    subject = Manager({"NOTIFY_SOCKET": name})
    subject.ready("x")
    subject.turn(100.0, lambda: pytest.fail("nobody would read it"))
    subject.stopping("x")
    subject.close()
