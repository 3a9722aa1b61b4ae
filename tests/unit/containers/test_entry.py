"""Processes that came in by exec, and those of the container's own tree."""

from __future__ import annotations

import pytest

from sensor.containers.container import Container
from sensor.containers.entry import entered_by_exec
from sensor.event import Process

CONTAINER = Container(id="a" * 64, source="docker", pid=100, pid_mode="private")


def process(pid: int, name: str, mnt_ns: int | None = 20) -> Process:
    return Process(pid=pid, start_ns=pid, name=name, executable=None, args=None, mnt_ns=mnt_ns)


INIT = process(100, "sh")
SHIM = process(50, "containerd-shim", mnt_ns=2)
RUNC = process(60, "runc", mnt_ns=2)
SYSTEMD = process(1, "systemd", mnt_ns=2)
GREP = process(200, "grep")
SHELL = process(199, "sh")


@pytest.mark.parametrize(
    ("who", "ancestors", "entered"),
    [
        (INIT, (SHIM, SYSTEMD), False),
        (GREP, (INIT, SHIM, SYSTEMD), False),
        (GREP, (SHELL, INIT), False),
        (GREP, (RUNC, SHIM, SYSTEMD), True),
        (GREP, (SHIM, SYSTEMD), True),
        (GREP, (SHELL, RUNC), True),
        (GREP, (process(70, "bash", mnt_ns=2), SYSTEMD), True),  # nsenter from a host's shell
        (GREP, (SHELL,), None),
        (GREP, (), None),
        (GREP, (process(201, "runc"),), None),  # a name faked inside
        (GREP, (process(201, "sh", mnt_ns=21),), None),  # unshare -m inside
        (GREP, (process(201, "runc", mnt_ns=None),), None),
    ],
)
def test_entry(who: Process, ancestors: tuple[Process, ...], entered: bool | None) -> None:
    assert entered_by_exec(who, ancestors, CONTAINER) is entered


def test_nothing_is_said_without_the_first_pid() -> None:
    for container in (None, Container(id="a", source="s"), Container(id="a", source="s", pid=0)):
        assert entered_by_exec(GREP, (RUNC,), container) is None


def test_an_orphan_in_the_host_s_pid_namespace_is_not_called_an_exec() -> None:
    """There the shim adopts the orphans of the container's own tree."""
    container = Container(id="a" * 64, source="docker", pid=100, pid_mode="host")
    assert entered_by_exec(GREP, (SHIM,), container) is None
    assert entered_by_exec(GREP, (RUNC,), container) is True
