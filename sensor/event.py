"""What the kernel saw, as plain values: the types that flow from decode to alert.

Text is decoded with `surrogateescape`, so the raw bytes are recoverable with
`text.encode("utf-8", "surrogateescape")`. `None` means "not known"; an empty string or tuple means
"known to be empty".
"""

from __future__ import annotations

from dataclasses import dataclass

# Major numbers of the virtual consoles and of the pseudo-terminals.
TERMINAL_MAJORS = frozenset((4, *range(136, 144)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One process as the kernel's process table knows it.

    `start_ns` is CLOCK_BOOTTIME since boot: with `pid` it is the process's identity.
    `pid` is the kernel's tgid in the host's pid namespace. `tty` is the controlling terminal's major
    and minor number. `cgroup_id` is that of the default hierarchy; `pid_ns` and
    `mnt_ns` are inode numbers.
    """

    pid: int
    start_ns: int
    name: str
    executable: str | None
    args: tuple[str, ...] | None
    args_truncated: bool = False
    uid: int | None = None
    gid: int | None = None
    session_id: int | None = None
    group_id: int | None = None
    tty: tuple[int, int] | None = None
    cgroup_id: int | None = None
    pid_ns: int | None = None
    mnt_ns: int | None = None
    working_directory: str | None = None

    @property
    def interactive(self) -> bool:
        """Whether its controlling terminal is one that a person types at."""
        return self.tty is not None and self.tty[0] in TERMINAL_MAJORS


@dataclass(frozen=True, slots=True, kw_only=True)
class Cgroup:
    """A process's place in one cgroup hierarchy: ids and path as seen from the host's root."""

    id: int
    path: str
    truncated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespaces:
    """Inode numbers of the namespaces of the process, and whether they are the host's own."""

    pid: int
    mnt: int
    pid_is_host: bool
    mnt_is_host: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentExec:
    """One exec of a cgroup's recent past. `boottime_ns` is CLOCK_BOOTTIME, `args` the head of argv."""

    boottime_ns: int
    pid: int
    ppid: int
    uid: int
    args: tuple[str, ...]
    args_truncated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an exec failed, and what the process went on with: its program's path and its argv.

    `error` is an errno. `args` are the head of the argv the process was started with; None where that
    is not known.
    """

    error: int
    executable: str | None
    args: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecEvent:
    """One exec.

    `time_ns` is CLOCK_REALTIME since the epoch. `names` are the names the process answers to: the
    basename it was invoked by, then the basename of the executable where that differs.
    `args` is None where argv could not be read. `ancestors` starts with the parent.

    Of one that failed, `process` has the name, the path and the argv that were asked for. The path is
    None where it is not absolute and where it starts is not known; `filename` is empty where it is not
    known.
    """

    time_ns: int
    process: Process
    names: tuple[str, ...]
    filename: str
    tid: int
    ppid: int
    args: tuple[str, ...] | None
    args_bytes: int
    args_truncated: bool
    args_read_error: bool
    real_uid: int
    real_gid: int
    executable_deleted: bool
    executable_memfd: bool
    cgroups: tuple[Cgroup, ...]
    namespaces: Namespaces | None
    ancestors: tuple[Process, ...]
    session_leader: Process | None = None
    group_leader: Process | None = None
    failure: Failure | None = None
