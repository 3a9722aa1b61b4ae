"""libbpf's functions that the sensor calls, with their types, through ctypes.

libbpf keeps its C interface stable within a major version; Debian 12 has 1.1 as libbpf1.
"""

from __future__ import annotations

import ctypes as ct
from functools import cache

from sensor.errors import ProbeError

SAMPLE_CALLBACK = ct.CFUNCTYPE(ct.c_int, ct.c_void_p, ct.c_void_p, ct.c_size_t)


class ProgramOptions(ct.Structure):
    """`struct bpf_prog_load_opts`; `sz` says how much of it the caller knows."""

    _fields_ = (
        ("sz", ct.c_size_t),
        ("attempts", ct.c_int),
        ("expected_attach_type", ct.c_int),
        ("prog_btf_fd", ct.c_uint32),
        ("prog_flags", ct.c_uint32),
        ("prog_ifindex", ct.c_uint32),
        ("kern_version", ct.c_uint32),
        ("attach_btf_id", ct.c_uint32),
        ("attach_prog_fd", ct.c_uint32),
        ("attach_btf_obj_fd", ct.c_uint32),
        ("fd_array", ct.c_void_p),
        ("func_info", ct.c_void_p),
        ("func_info_cnt", ct.c_uint32),
        ("func_info_rec_size", ct.c_uint32),
        ("line_info", ct.c_void_p),
        ("line_info_cnt", ct.c_uint32),
        ("line_info_rec_size", ct.c_uint32),
        ("log_level", ct.c_uint32),
        ("log_size", ct.c_uint32),
        ("log_buf", ct.c_void_p),
    )


_SIGNATURES: dict[str, tuple[object, tuple[object, ...]]] = {
    "btf__load_vmlinux_btf": (ct.c_void_p, ()),
    "btf__free": (None, (ct.c_void_p,)),
    "btf__find_by_name_kind": (ct.c_int32, (ct.c_void_p, ct.c_char_p, ct.c_uint32)),
    "btf__type_by_id": (ct.c_void_p, (ct.c_void_p, ct.c_uint32)),
    "btf__name_by_offset": (ct.c_char_p, (ct.c_void_p, ct.c_uint32)),
    "bpf_prog_load": (
        ct.c_int,
        (ct.c_int, ct.c_char_p, ct.c_char_p, ct.c_void_p, ct.c_size_t, ct.c_void_p),
    ),
    "bpf_link_create": (ct.c_int, (ct.c_int, ct.c_int, ct.c_int, ct.c_void_p)),
    "bpf_raw_tracepoint_open": (ct.c_int, (ct.c_char_p, ct.c_int)),
    "ring_buffer__new": (ct.c_void_p, (ct.c_int, SAMPLE_CALLBACK, ct.c_void_p, ct.c_void_p)),
    "ring_buffer__add": (ct.c_int, (ct.c_void_p, ct.c_int, SAMPLE_CALLBACK, ct.c_void_p)),
    "ring_buffer__poll": (ct.c_int, (ct.c_void_p, ct.c_int)),
    "ring_buffer__consume": (ct.c_int, (ct.c_void_p,)),
    "ring_buffer__free": (None, (ct.c_void_p,)),
}


@cache
def libbpf() -> ct.CDLL:
    """The loaded library. Raises `ProbeError` when it is missing."""
    try:
        library = ct.CDLL("libbpf.so.1", use_errno=True)
    except OSError as exc:
        raise ProbeError(f"libbpf 1.x is missing ({exc}): apt-get install libbpf1") from exc
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library
