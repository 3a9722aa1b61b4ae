"""The mirror of bpf/events.h, field by field.

A test compiles the header with the host's compiler and compares each offset and size. Names are the
C names without the `sensor_` prefix.
"""

from __future__ import annotations

import ctypes as ct
from enum import IntEnum, IntFlag

ABI_VERSION = 1
COMM_LEN = 16
INLINE_LEN = 4096
CHUNK_LEN = 8192
CHUNKS_MAX = 26
ARGS_MAX = INLINE_LEN - 8 + CHUNK_LEN * CHUNKS_MAX
IMAGE_LEN = 368
FILENAME_LEN = 96
HIERARCHIES = 2
PROCESSES = 10
RECENT = 32
RECENT_ARGS = 96
RECORDERS = 512
RECORDERS_WAYS = 4
PROCS_WAYS = 8
CGROUPS = 16384
CGROUP_HOST = 1
CGROUP_V1 = 0x9E3779B97F4A7C15
FILTER_BANK = 1
FILTER_PATHS = 2
FILTER_PLAN_SHIFT = 4
FILTER_HOST_SHIFT = 6
FILTER_HOST_STATE = 16
FILTER_STATE = 32
FAILED_ARGS_LEN = 4096
FAILED_ARGS = 128
NAMES_MAX = 8192
BANKS = 2
CLASSES = 64
STATES_MAX = 16384
STATE_START = 0
STATE_HIT = 1


class Kind(IntEnum):
    EXEC = 1
    ARGS = 2
    FAILED = 3


class Flag(IntFlag):
    ARGS_TRUNCATED = 1 << 0
    ARGS_READ_ERROR = 1 << 1
    ARGS_CHUNKED = 1 << 2
    EXE_UNLINKED = 1 << 3
    EXE_PSEUDO = 1 << 4
    PATH_TRUNCATED = 1 << 5
    CGROUP_TRUNCATED = 1 << 6
    TAIL_FULL = 1 << 7
    MATCHED = 1 << 8
    IN_TABLE = 1 << 9
    TTY = 1 << 10
    EXE_UNREADABLE = 1 << 11
    CGROUP_NEW = 1 << 12
    AT_FD = 1 << 14


class Role(IntFlag):
    ANCESTOR = 1 << 0
    SESSION_LEADER = 1 << 1
    GROUP_LEADER = 1 << 2


class Mode(IntEnum):
    ALL = 0
    MATCHING = 1
    CONTAINERS = 2


class Plan(IntEnum):
    """What the filter does with an exec."""

    PASS = 0
    SEARCH = 1
    DROP = 2


class Stat(IntEnum):
    """Indexes into a CPU's row of counters."""

    EXECS = 0
    SENT = 1
    FILTERED = 2
    RING_FULL = 3
    ARGS_LOST = 4
    ARGS_ERROR = 5
    TRUNCATED = 6
    PROCS_FULL = 7
    CALL_FAILED = 8
    NO_SCRATCH = 9
    SHED = 10
    FAILED = 12
    FAILED_SENT = 13
    FAILED_FILTERED = 14
    FAILED_LOST = 15
    FAILED_SHED = 16


STAT_COUNT = 32


class Span(ct.Structure):
    _fields_ = (("offset", ct.c_uint32), ("length", ct.c_uint32))


class Header(ct.Structure):
    _fields_ = (
        ("kind", ct.c_uint16),
        ("version", ct.c_uint16),
        ("size", ct.c_uint32),
        ("cpu", ct.c_uint32),
        ("flags", ct.c_uint32),
        ("exec_ns", ct.c_uint64),
    )


class Args(ct.Structure):
    _fields_ = (
        ("header", Header),
        ("index", ct.c_uint32),
        ("length", ct.c_uint32),
        ("data", ct.c_char * CHUNK_LEN),
    )


class Cgroup(ct.Structure):
    _fields_ = (("id", ct.c_uint64), ("names", Span))


class Image(ct.Structure):
    _fields_ = (
        ("args_total", ct.c_uint32),
        ("filename_len", ct.c_uint16),
        ("text_len", ct.c_uint16),
        ("text", ct.c_uint8 * IMAGE_LEN),
    )


class Process(ct.Structure):
    _fields_ = (
        ("start_ns", ct.c_uint64),
        ("cgroup_id", ct.c_uint64),
        ("role", ct.c_uint32),
        ("flags", ct.c_uint32),
        ("tgid", ct.c_uint32),
        ("sid", ct.c_uint32),
        ("pgid", ct.c_uint32),
        ("euid", ct.c_uint32),
        ("egid", ct.c_uint32),
        ("tty_major", ct.c_uint32),
        ("tty_minor", ct.c_uint32),
        ("pid_ns", ct.c_uint32),
        ("mnt_ns", ct.c_uint32),
        ("reserved", ct.c_uint32),
        ("exe", Span),
        ("comm", ct.c_char * COMM_LEN),
        ("image", Image),
    )


class Exec(ct.Structure):
    _fields_ = (
        ("header", Header),
        ("start_ns", ct.c_uint64),
        ("args_total", ct.c_uint64),
        ("tgid", ct.c_uint32),
        ("tid", ct.c_uint32),
        ("ppid", ct.c_uint32),
        ("old_tid", ct.c_uint32),
        ("ruid", ct.c_uint32),
        ("rgid", ct.c_uint32),
        ("euid", ct.c_uint32),
        ("egid", ct.c_uint32),
        ("suid", ct.c_uint32),
        ("sgid", ct.c_uint32),
        ("sid", ct.c_uint32),
        ("pgid", ct.c_uint32),
        ("tty_major", ct.c_uint32),
        ("tty_minor", ct.c_uint32),
        ("pid_ns", ct.c_uint32),
        ("mnt_ns", ct.c_uint32),
        ("error", ct.c_uint32),
        ("reserved", ct.c_uint32),
        ("args", Span),
        ("filename", Span),
        ("previous", Span),
        ("exe", Span),
        ("cwd", Span),
        ("processes", Span),
        ("cgroups", Cgroup * HIERARCHIES),
        ("comm", ct.c_char * COMM_LEN),
    )


class Proc(ct.Structure):
    _fields_ = (("tgid", ct.c_uint64), ("image", Image))


class Recent(ct.Structure):
    _fields_ = (
        ("exec_ns", ct.c_uint64),
        ("tgid", ct.c_uint32),
        ("ppid", ct.c_uint32),
        ("euid", ct.c_uint32),
        ("args_total", ct.c_uint32),
        ("args_len", ct.c_uint32),
        ("reserved", ct.c_uint32),
        ("args", ct.c_char * RECENT_ARGS),
    )


class Recorder(ct.Structure):
    _fields_ = (
        ("cgroup_id", ct.c_uint64),
        ("last_ns", ct.c_uint64),
        ("count", ct.c_uint64),
        ("recent", Recent * RECENT),
    )


class Config(ct.Structure):
    _fields_ = (
        ("mode", ct.c_uint32),
        ("filter", ct.c_uint32),
        ("knows_host", ct.c_uint32),
        ("sensor_tgid", ct.c_uint32),
        ("pid_ns", ct.c_uint32),
        ("mnt_ns", ct.c_uint32),
        ("failed", ct.c_uint64),
    )


class Bank(ct.Structure):
    _fields_ = (
        ("classes", ct.c_uint8 * 256),
        ("next", ct.c_uint16 * (STATES_MAX * CLASSES)),
    )
