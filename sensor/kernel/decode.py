"""Records to events: bytes from the ring become frozen `ExecEvent`s.

In: one record at a time, in the order of the ring. Out: an event, or None while the parts of a long
argv are gathered. Raises only `DecodeError`, never reads outside the record. This is the one place
where bytes become text, with `surrogateescape`.
"""

from __future__ import annotations

import ctypes as ct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from sensor.errors import DecodeError
from sensor.event import Cgroup, ExecEvent, Failure, Namespaces, Process
from sensor.kernel import layout
from sensor.kernel.layout import ABI_VERSION, Flag, Kind, Role, Span

_HEADER_SIZE = ct.sizeof(layout.Header)
_PLAIN_PATHS_MAX = 256
_EXEC_SIZE = ct.sizeof(layout.Exec)
_PROCESS_SIZE = ct.sizeof(layout.Process)
_ARGS_DATA = layout.Args.data.offset
_IMAGE = layout.Process.image.offset + layout.Image.text.offset


def text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def basename(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


@dataclass(slots=True)
class _Pending:
    """The parts of one exec's argv that came so far, on one CPU."""

    exec_ns: int
    parts: list[bytes] = field(default_factory=list)


@dataclass(slots=True)
class Decoder:
    """Turns records into events. One for each ring, for it gathers the parts of long argvs.

    `realtime_offset_ns` is CLOCK_REALTIME minus CLOCK_BOOTTIME. `incomplete` counts execs whose
    gathered argv came to nothing, because the ring was full.
    """

    realtime_offset_ns: int
    host_pid_ns: int | None
    host_mnt_ns: int | None
    incomplete: int = 0
    _pending: dict[int, _Pending] = field(default_factory=dict)
    _plain_paths: OrderedDict[tuple[int, str], None] = field(default_factory=OrderedDict)

    def feed(self, record: bytes) -> ExecEvent | None:
        if len(record) < _HEADER_SIZE:
            raise DecodeError(f"a record of {len(record)} bytes has no header")
        header = layout.Header.from_buffer_copy(record)
        if header.version != ABI_VERSION:
            raise DecodeError(f"ABI version {header.version}, not {ABI_VERSION}")
        if header.size > len(record):
            raise DecodeError(f"{header.size} bytes said, {len(record)} there")
        record = record[: header.size]
        if header.kind == Kind.ARGS:
            self._gather(header, record)
            return None
        if header.kind in (Kind.EXEC, Kind.FAILED):
            return self._exec(header, record)
        raise DecodeError(f"unknown kind of record {header.kind}")

    def _gather(self, header: layout.Header, record: bytes) -> None:
        if len(record) < _ARGS_DATA:
            raise DecodeError("a part of an argv has no data")
        index = int.from_bytes(record[_HEADER_SIZE : _HEADER_SIZE + 4], "little")
        pending = self._pending.get(header.cpu)
        if pending is None or pending.exec_ns != header.exec_ns:
            if pending is not None:  # its EXEC never came: the ring had no room
                self.incomplete += 1
            pending = self._pending[header.cpu] = _Pending(header.exec_ns)
        if index < layout.CHUNKS_MAX and len(pending.parts) <= index:
            # A part that was lost leaves a gap: an empty one, and argv ends there.
            pending.parts.extend([b""] * (index - len(pending.parts)))
            pending.parts.append(record[_ARGS_DATA:])

    def _exec(self, header: layout.Header, record: bytes) -> ExecEvent:
        if len(record) < _EXEC_SIZE:
            raise DecodeError(f"an exec of {len(record)} bytes")
        raw = layout.Exec.from_buffer_copy(record)
        tail = record[_EXEC_SIZE:]
        flags = Flag(header.flags & _ALL_FLAGS)
        args_bytes = raw.args_total
        argv, whole = self._argv(header, raw, tail)
        read_error = bool(flags & Flag.ARGS_READ_ERROR)
        truncated = bool(flags & Flag.ARGS_TRUNCATED) or (not whole and not read_error)
        args = None if read_error and not argv else split_argv(argv)

        executable = _path(tail, raw.exe, flags)
        filename = text(_span(tail, raw.filename).rstrip(b"\0"))
        directory = _path(tail, raw.cwd, flags & Flag.PATH_TRUNCATED)
        comm = text(raw.comm)
        failure = None
        if header.kind == Kind.FAILED:
            failure = _failure(tail, raw, executable)
            executable = _asked_for(filename, None if flags & Flag.AT_FD else directory)
        name, names = _names(filename, executable, comm)
        tty = (raw.tty_major, raw.tty_minor) if flags & Flag.TTY else None
        ancestors, session_leader, group_leader = _processes(tail, raw.processes, self._with_path)
        return ExecEvent(
            time_ns=header.exec_ns + self.realtime_offset_ns,
            process=Process(
                pid=raw.tgid,
                start_ns=raw.start_ns,
                name=name,
                executable=executable,
                args=args,
                args_truncated=truncated,
                uid=raw.euid,
                gid=raw.egid,
                session_id=raw.sid,
                group_id=raw.pgid,
                tty=tty,
                cgroup_id=raw.cgroups[0].id,
                pid_ns=raw.pid_ns or None,
                mnt_ns=raw.mnt_ns or None,
                working_directory=directory,
            ),
            names=names,
            filename=filename,
            tid=raw.tid,
            ppid=raw.ppid,
            args=args,
            args_bytes=args_bytes,
            args_truncated=truncated,
            args_read_error=read_error,
            real_uid=raw.ruid,
            real_gid=raw.rgid,
            executable_deleted=failure is None
            and bool(flags & Flag.EXE_UNLINKED)
            and not flags & Flag.EXE_PSEUDO,
            executable_memfd=failure is None
            and bool(flags & Flag.EXE_PSEUDO)
            and basename(executable or "").startswith("memfd:"),
            cgroups=_cgroups(tail, raw, truncated=bool(flags & Flag.CGROUP_TRUNCATED)),
            namespaces=self._namespaces(raw),
            ancestors=ancestors,
            session_leader=session_leader,
            group_leader=group_leader,
            failure=failure,
        )

    def _argv(self, header: layout.Header, raw: layout.Exec, tail: bytes) -> tuple[bytes, bool]:
        """Argv as it lay in memory, and whether all that the kernel read of it is there."""
        pending = self._pending.pop(header.cpu, None)
        argv = _span(tail, raw.args)
        if header.flags & Flag.ARGS_CHUNKED:
            if pending is not None and pending.exec_ns == header.exec_ns:
                for part in pending.parts:
                    if not part:
                        break
                    argv += part
        elif pending is not None:
            self.incomplete += 1
        return argv, len(argv) >= min(raw.args_total, layout.ARGS_MAX)

    def _with_path(self, process: Process, filename: str) -> Process:
        """The process, with its executable's path where that is gone since the process is ending.

        It is the path as given to exec, if that was seen to be the executable's own path, with no link
        in it, of another process in the same mount namespace. `docker exec` needs this: the runtime
        ends while what it started does its exec.
        """
        if process.mnt_ns is None or not filename.startswith("/"):
            return process
        key = (process.mnt_ns, filename)
        if process.executable == filename:
            self._plain_paths[key] = None
            self._plain_paths.move_to_end(key)
            if len(self._plain_paths) > _PLAIN_PATHS_MAX:
                self._plain_paths.popitem(last=False)
        elif process.executable is None and key in self._plain_paths:
            return replace(process, executable=filename)
        return process

    def _namespaces(self, raw: layout.Exec) -> Namespaces | None:
        if self.host_pid_ns is None or self.host_mnt_ns is None or not raw.pid_ns or not raw.mnt_ns:
            return None
        return Namespaces(
            pid=raw.pid_ns,
            mnt=raw.mnt_ns,
            pid_is_host=raw.pid_ns == self.host_pid_ns,
            mnt_is_host=raw.mnt_ns == self.host_mnt_ns,
        )


_ALL_FLAGS = sum(Flag)


def _span(tail: bytes, span: Span) -> bytes:
    end = span.offset + span.length
    if end > len(tail):
        raise DecodeError(f"a span ends at {end}, the record at {len(tail)}")
    return tail[span.offset : end]


def _path(tail: bytes, span: Span, flags: Flag | int) -> str | None:
    """A path from its components, leaf first. A cut path starts with `.../`."""
    components = _components(_span(tail, span))
    if flags & Flag.EXE_UNREADABLE:
        return None
    joined = "/".join(reversed(components))
    if flags & (Flag.PATH_TRUNCATED | Flag.TAIL_FULL):
        return f".../{joined}"
    return f"/{joined}"


def _components(raw: bytes) -> list[str]:
    return [text(part) for part in raw.split(b"\0")[:-1]] if raw else []


def _cgroups(tail: bytes, raw: layout.Exec, *, truncated: bool) -> tuple[Cgroup, ...]:
    return tuple(
        Cgroup(
            id=cgroup.id,
            path="/" + "/".join(reversed(_components(_span(tail, cgroup.names)))),
            truncated=truncated,
        )
        for cgroup in raw.cgroups
        if cgroup.id
    )


def split_argv(argv: bytes) -> tuple[str, ...]:
    """Argv's arguments. The kernel ends each with a NUL; a cut argv lacks the last one."""
    if not argv:
        return ()
    parts = argv.split(b"\0")
    if not parts[-1]:
        parts.pop()
    return tuple(text(part) for part in parts)


def _failure(tail: bytes, raw: layout.Exec, executable: str | None) -> Failure:
    """Why it failed, and what the process still is."""
    args = None
    kept = _span(tail, raw.previous)
    if len(kept) >= ct.sizeof(layout.Image):
        image = layout.Image.from_buffer_copy(kept)
        head = bytes(image.text)[image.filename_len : min(image.text_len, layout.IMAGE_LEN)]
        # an argv that could not be read is not known, which is not the same as empty
        args = split_argv(head) if head or not image.args_total else None
    return Failure(error=raw.error, executable=executable, args=args)


def _asked_for(filename: str, directory: str | None) -> str | None:
    """The path that was to be executed, as far as it is told; links are not followed."""
    if filename.startswith("/"):
        return filename
    if not filename or directory is None or directory.startswith("..."):
        return None
    return f"{directory.rstrip('/')}/{filename.removeprefix('./')}"


def _names(filename: str, executable: str | None, comm: str) -> tuple[str, tuple[str, ...]]:
    """The name to show, and all names the process answers to.

    The name is what it was invoked by, except where that is only a handle to a file (/proc/self/exe,
    /dev/fd/9): then it is the file's.
    """
    invoked = basename(filename) or comm
    resolved = basename(executable) if executable else ""
    handle = filename.startswith(("/proc/", "/dev/fd/"))
    name = resolved if handle and resolved else invoked
    return name, tuple(dict.fromkeys(n for n in (name, invoked, resolved) if n))


def _processes(
    tail: bytes, span: Span, completed: Callable[[Process, str], Process]
) -> tuple[tuple[Process, ...], Process | None, Process | None]:
    """The ancestors, the parent first, and the leaders of the session and of the group."""
    _span(tail, span)
    position, end = span.offset, span.offset + span.length
    ancestors: list[Process] = []
    session_leader = group_leader = None
    while position + _PROCESS_SIZE <= end:
        raw = layout.Process.from_buffer_copy(tail, position)
        start = position + _IMAGE
        kept = tail[start : start + min(raw.image.text_len, layout.IMAGE_LEN)]
        filename = text(kept[: raw.image.filename_len].rstrip(b"\0"))
        process = completed(_process(tail, raw, kept, filename), filename)
        if raw.role & Role.ANCESTOR:
            ancestors.append(process)
        if raw.role & Role.SESSION_LEADER:
            session_leader = process
        if raw.role & Role.GROUP_LEADER:
            group_leader = process
        position += _PROCESS_SIZE + raw.exe.length
        position += -position % 8
    return tuple(ancestors), session_leader, group_leader


def _process(tail: bytes, raw: layout.Process, kept: bytes, filename: str) -> Process:
    flags = Flag(raw.flags & _ALL_FLAGS)
    executable = _path(tail, raw.exe, flags)
    comm = text(raw.comm)
    args = None
    truncated = False
    if flags & Flag.IN_TABLE:
        head = kept[raw.image.filename_len :]
        truncated = raw.image.args_total > len(head)
        args = split_argv(head)
    # A process that forked and did not exec, or renamed itself, still is what it was started as.
    name, _ = _names(filename or comm, executable, comm)
    return Process(
        pid=raw.tgid,
        start_ns=raw.start_ns,
        name=name,
        executable=executable,
        args=args,
        args_truncated=truncated,
        uid=raw.euid,
        gid=raw.egid,
        session_id=raw.sid,
        group_id=raw.pgid,
        tty=(raw.tty_major, raw.tty_minor) if flags & Flag.TTY else None,
        cgroup_id=raw.cgroup_id,
        # a process that is ending may have left them already
        pid_ns=raw.pid_ns or None,
        mnt_ns=raw.mnt_ns or None,
    )
