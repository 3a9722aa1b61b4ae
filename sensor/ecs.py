"""Events as documents in the Elastic Common Schema, the form rules match and alerts carry.

In: an `ExecEvent`, and the `container` and `orchestrator` blocks of the stage that resolved it. Out:
a nested dict. Names and types are ECS's; what ECS lacks stands under `sensor`. What is not known is
left out, never empty. Strings may hold lone surrogates for bytes that are no UTF-8; then
`sensor.args_base64` has the argv's bytes.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import os
import platform
import pwd
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from sensor.event import ExecEvent, Failure, Process, RecentExec

Document = dict[str, Any]

ECS_VERSION: Final = "8.10.0"

# Runtimes' helpers, by the start of the executable's name: what they start in a container is its entry.
_RUNTIMES = ("containerd-shim", "runc", "crun", "conmon", "docker-containerd-shim")


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What every document says of the host. `realtime_offset_ns` is CLOCK_REALTIME - CLOCK_BOOTTIME."""

    hostname: str
    kernel: str
    architecture: str
    boot_id: str
    machine_id: str | None
    realtime_offset_ns: int

    @classmethod
    def read(cls, realtime_offset_ns: int, root: Path = Path("/")) -> Host:
        """The host's own names. In a container NODE_NAME or the environment names the node."""
        uname = platform.uname()
        return cls(
            hostname=os.environ.get("NODE_NAME") or socket.gethostname(),
            kernel=uname.release,
            architecture=uname.machine,
            boot_id=(root / "proc/sys/kernel/random/boot_id").read_text().strip(),
            machine_id=_first_line(root / "etc/machine-id"),
            realtime_offset_ns=realtime_offset_ns,
        )

    def fields(self) -> Document:
        block: Document = {
            "hostname": self.hostname,
            "name": self.hostname,
            "architecture": self.architecture,
            "boot": {"id": self.boot_id},
            "os": {"type": "linux", "kernel": self.kernel},
        }
        if self.machine_id:
            block["id"] = self.machine_id
        return block

    def entity_id(self, process: Process) -> str:
        """A process's identity: the same over restarts of the sensor, never reused."""
        identity = f"{self.boot_id}:{process.pid}:{process.start_ns}"
        return hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()


def event_document(event: ExecEvent, host: Host, place: Document, sequence: int) -> Document:
    """The document of one exec. `place` holds the blocks `container` and `orchestrator`."""
    process = event.process
    chain = (process, *event.ancestors)
    in_container = "id" in place.get("container", {})
    block = _process(process, host, process)
    del block["same_as_process"]  # it tells of the others
    block["real_user"] = {"id": str(event.real_uid)}
    block["real_group"] = {"id": str(event.real_gid)}
    if event.ancestors:
        block["parent"] = _process(event.ancestors[0], host, process)
    session = process if process.session_id == process.pid else event.session_leader
    group = process if process.group_id == process.pid else event.group_leader
    entry = _entry_leader(chain)
    if session is not None:
        block["session_leader"] = _process(session, host, process)
    if group is not None:
        block["group_leader"] = _process(group, host, process)
    if entry is not None:
        leader, kind = entry
        block["entry_leader"] = _process(leader, host, process) | {"entry_meta": {"type": kind}}

    ours: Document = {
        "args_bytes": event.args_bytes,
        "args_truncated": event.args_truncated,
        "args_read_error": event.args_read_error,
        "executable_deleted": event.executable_deleted,
        "executable_memfd": event.executable_memfd,
        "filename": event.filename,
        "ancestor_entity_ids": [host.entity_id(ancestor) for ancestor in event.ancestors],
    }
    if event.failure is not None:
        block |= _previous(event.failure)
        if event.args_truncated:
            del ours["args_bytes"]  # nobody counted the rest
        if not event.filename:
            del ours["filename"]
    if event.args and not _is_utf8(event.args):
        ours["args_base64"] = [
            base64.b64encode(arg.encode("utf-8", "surrogateescape")).decode() for arg in event.args
        ]
    entity_id = block["entity_id"]
    return {
        "@timestamp": timestamp(event.time_ns),
        "ecs": {"version": ECS_VERSION},
        "data_stream": {
            "type": "logs",
            "dataset": "cloud_defend.process",
            "namespace": "default",
        },
        "event": {
            "id": hashlib.blake2b(
                f"{entity_id}:{event.time_ns - host.realtime_offset_ns}".encode(), digest_size=16
            ).hexdigest(),
            "kind": "event",
            "category": ["process"],
            "type": ["start" if event.failure is None else "info"],
            "action": "exec",
            # the module and dataset for which Elastic's container rules are written
            "module": "cloud_defend",
            "dataset": "cloud_defend.process",
            "outcome": "success" if event.failure is None else "failure",
            "sequence": sequence,
        },
        **({} if event.failure is None else {"error": _error(event.failure.error)}),
        "host": host.fields(),
        "process": block,
        "user": _user(process.uid, in_container=in_container),
        "group": {"id": str(process.gid)},
        "sensor": ours,
        **place,
    }


def recent_activity(execs: tuple[RecentExec, ...], host: Host) -> list[Document]:
    """What a container did just before, oldest first, for `sensor.recent_activity` of an alert."""
    return [
        {
            "@timestamp": timestamp(recent.boottime_ns + host.realtime_offset_ns),
            "process": {
                "pid": recent.pid,
                "parent": {"pid": recent.ppid},
                "args": list(recent.args),
                "user": {"id": str(recent.uid)},
            },
            "args_truncated": recent.args_truncated,
        }
        for recent in execs
    ]


def ancestry(event: ExecEvent, host: Host) -> list[Document]:
    """The process's known ancestors, parent first, for `sensor.ancestors` of an alert.

    `in_container` is left out where the namespaces cannot tell, as in a container that has the host's.
    """
    own, namespaces = event.process, event.namespaces
    blocks = []
    for ancestor in event.ancestors:
        block = _process(ancestor, host, own)
        del block["same_as_process"]
        if ancestor.args_truncated:
            block["args_truncated"] = True
        if namespaces is not None and not (namespaces.pid_is_host and namespaces.mnt_is_host):
            block["in_container"] = (
                not namespaces.pid_is_host and ancestor.pid_ns == own.pid_ns
            ) or (not namespaces.mnt_is_host and ancestor.mnt_ns == own.mnt_ns)
        blocks.append(block)
    return blocks


def matching_view(document: Document) -> Document:
    """The document as rules see it: `process.name` with all names the process answers to.

    A rule that names `grep` means the program, whether it was called by a link of another name
    or through a handle: the executable's own name counts, too. The document itself keeps one name.
    """
    process = document.get("process")
    if not isinstance(process, dict):
        return document
    executable, name = process.get("executable"), process.get("name")
    if not isinstance(executable, str) or not isinstance(name, str):
        return document
    filename = document.get("sensor", {}).get("filename")
    names = [name]
    for path in (executable, filename):
        if isinstance(path, str) and (last := path.rpartition("/")[2]) and last not in names:
            names.append(last)
    if len(names) == 1:
        return document
    return {**document, "process": {**process, "name": names}}


def document_of(view: Document) -> Document:
    """The document of which this is the view."""
    process = view.get("process")
    if not isinstance(process, dict) or not isinstance(names := process.get("name"), list):
        return view
    return {**view, "process": {**process, "name": names[0]}} if names else view


def timestamp(time_ns: int) -> str:
    """Nanoseconds since the epoch as ECS writes time: UTC, here with microseconds."""
    seconds, rest = divmod(time_ns, 1_000_000_000)
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{rest // 1000:06}Z"


def _process(process: Process, host: Host, subject: Process) -> Document:
    block: Document = {
        "pid": process.pid,
        "entity_id": host.entity_id(process),
        "name": process.name,
        "executable": process.executable,
        "working_directory": process.working_directory,
        "interactive": process.interactive,
        "start": timestamp(process.start_ns + host.realtime_offset_ns),
    }
    if process.args is not None:
        block["args"] = list(process.args)
        block["args_count"] = len(process.args)
        block["command_line"] = " ".join(process.args)
    if process.tty is not None:
        major, minor = process.tty
        block["tty"] = {"char_device": {"major": major, "minor": minor}}
    if process.uid is not None:
        block["user"] = {"id": str(process.uid)}
    if process.gid is not None:
        block["group"] = {"id": str(process.gid)}
    block["same_as_process"] = process.pid == subject.pid
    return {key: value for key, value in block.items() if value is not None}


def _previous(failure: Failure) -> Document:
    """What the process is, in whose place another program was to come."""
    previous: Document = {}
    if failure.executable is not None:
        previous["executable"] = failure.executable
    if failure.args is not None:
        previous["args"] = list(failure.args)
        previous["args_count"] = len(failure.args)
    return {"previous": previous} if previous else {}


def _error(number: int) -> Document:
    return {"code": errno.errorcode.get(number, str(number)), "message": os.strerror(number)}


def _entry_leader(chain: tuple[Process, ...]) -> tuple[Process, str] | None:
    """The process by which somebody or something came in, nearest first, and how it came.

    A session's leader that was started by a container runtime, by sshd, by a login, or by init.
    None where the known ancestors end before it.
    """
    for index, process in enumerate(chain[:-1], 1):
        if process.session_id != process.pid:
            continue
        kind = _entry_kind(process, chain[index:])
        if kind is not None:
            return process, kind
    return None


def _entry_kind(process: Process, above: tuple[Process, ...]) -> str | None:
    parent = above[0]
    parent_name = _executable_name(parent)
    if parent_name.startswith(_RUNTIMES):
        return None if _is_helper(process, above) else "container"
    if parent_name.startswith("sshd"):
        return "sshd"
    if parent_name in ("login", "agetty"):
        return "console"
    if parent_name.startswith(("ssm-agent-worker", "ssm-session-worker")):
        return "ssm"
    return "init" if parent.pid == 1 else None


def _is_helper(process: Process, above: tuple[Process, ...]) -> bool:
    """Whether a runtime started it on the host, as its own helper, and not in a container.

    A container's process may call itself what it likes, but its mount namespace is its own. A parent
    that is ending has none any more: then that of its own parents counts, which are the runtime's, too.
    """
    outside = next((one.mnt_ns for one in above if one.mnt_ns is not None), None)
    if process.mnt_ns is None or outside is None:
        return _executable_name(process).startswith(_RUNTIMES)
    return process.mnt_ns == outside


def _executable_name(process: Process) -> str:
    return (process.executable or process.name).rpartition("/")[2]


def _is_utf8(args: tuple[str, ...]) -> bool:
    try:
        for arg in args:
            arg.encode()
    except UnicodeEncodeError:
        return False
    return True


def _user(uid: int | None, *, in_container: bool) -> Document:
    """The effective user. A container has users of its own: there only root's name is certain."""
    if uid is None:
        return {}
    name = ("root" if uid == 0 else None) if in_container else _host_user(uid)
    return {"id": str(uid), "name": name} if name else {"id": str(uid)}


@cache
def _host_user(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None


def _first_line(path: Path) -> str | None:
    try:
        return path.read_text().strip() or None
    except OSError:
        return None
