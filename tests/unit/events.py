"""Events for tests: a plain exec in a container, any field of which can be said otherwise."""

from __future__ import annotations

from typing import Any

from sensor.ecs import Host
from sensor.event import Cgroup, ExecEvent, Namespaces, Process

CONTAINER_ID = "5f2b0c3c9f0d4c7e8a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f6071"

HOST = Host(
    hostname="node-1",
    kernel="6.1.0",
    architecture="x86_64",
    boot_id="815a760f-8153-49e1-9d0b-da0d3b2a468c",
    machine_id=None,
    realtime_offset_ns=1_700_000_000_000_000_000,
)


def process(**fields: Any) -> Process:
    defaults: dict[str, Any] = {
        "pid": 100,
        "start_ns": 5_000_000,
        "name": "grep",
        "executable": "/usr/bin/grep",
        "args": ("grep", "-r", "needle"),
        "uid": 0,
        "gid": 0,
        "session_id": 90,
        "group_id": 100,
        "pid_ns": 1,
        "mnt_ns": 1,
    }
    return Process(**(defaults | fields))


def exec_event(subject: Process | None = None, **fields: Any) -> ExecEvent:
    subject = subject or process()
    defaults: dict[str, Any] = {
        "time_ns": 1_700_000_000_123_456_789,
        "process": subject,
        "names": (subject.name,),
        "filename": subject.executable or subject.name,
        "tid": subject.pid,
        "ppid": 50,
        "args": subject.args,
        "args_bytes": sum(len(arg) + 1 for arg in subject.args or ()),
        "args_truncated": False,
        "args_read_error": False,
        "real_uid": 0,
        "real_gid": 0,
        "executable_deleted": False,
        "executable_memfd": False,
        "cgroups": (Cgroup(id=7, path=f"/docker/{CONTAINER_ID}"),),
        "namespaces": Namespaces(pid=1, mnt=2, pid_is_host=False, mnt_is_host=False),
        "ancestors": (),
    }
    return ExecEvent(**(defaults | fields))
