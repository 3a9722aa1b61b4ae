"""One program into the kernel: its instructions loaded for a hook, and attached to it.

In: instructions as BCC compiled them. Out: file descriptors. BCC itself loads raw tracepoints of the
older kind only, to which the kernel's structures are numbers: each member read is a call. With the
tracepoint's type the verifier knows what the arguments point to, and members are read in place.
"""

from __future__ import annotations

import ctypes as ct
import os
from enum import IntEnum

from sensor.errors import ProbeError
from sensor.kernel.libbpf import ProgramOptions, libbpf

_BPF_PROG_TYPE_TRACEPOINT = 5
_BPF_PROG_TYPE_TRACING = 26


class Hook(IntEnum):
    """What a program is attached to: a trace event by perf, a tracepoint, or the return of a function."""

    EVENT = 0
    TRACEPOINT = 23  # BPF_TRACE_RAW_TP
    RETURN = 25  # BPF_TRACE_FEXIT


_INSTRUCTION = 8  # bytes
_LICENSE = b"Dual BSD/GPL"  # as in bpf/sensor.bpf.c
_LOG_BYTES = 16 << 20
_LOG_LINES = 12


def load(name: str, start: int, size: int, hook: Hook, hook_type: int | None) -> int:
    """Load the `size` bytes of instructions at address `start` and return the program's descriptor.

    `hook_type` is the BTF id of the tracepoint's type, or of the function; None for a trace event.
    Raises `ProbeError` with the verifier's last words.
    """
    options = ProgramOptions(sz=ct.sizeof(ProgramOptions))
    if hook_type is not None:
        options.expected_attach_type = hook
        options.attach_btf_id = hook_type
    arguments = (
        _BPF_PROG_TYPE_TRACEPOINT if hook is Hook.EVENT else _BPF_PROG_TYPE_TRACING,
        name.encode(),
        _LICENSE,
        start,
        size // _INSTRUCTION,
        ct.byref(options),
    )
    library = libbpf()
    fd: int = library.bpf_prog_load(*arguments)
    if fd >= 0:
        return fd
    reason = os.strerror(-fd)
    # Once more for the words: writing them takes the verifier longer than its work.
    log = ct.create_string_buffer(_LOG_BYTES)
    options.log_level, options.log_size = 1, _LOG_BYTES
    options.log_buf = ct.addressof(log)
    fd = library.bpf_prog_load(*arguments)
    if fd >= 0:
        return fd
    said = log.value.decode(errors="backslashreplace").splitlines()[-_LOG_LINES:]
    raise ProbeError("\n".join([f"the kernel refuses the program {name}: {reason}", *said]))


def attach(name: str, fd: int) -> int:
    """Attach a loaded program to its hook; the attachment lasts as long as the descriptor."""
    link: int = libbpf().bpf_raw_tracepoint_open(None, fd)
    if link < 0:
        raise ProbeError(f"the program {name} cannot be attached: {os.strerror(-link)}")
    return link
