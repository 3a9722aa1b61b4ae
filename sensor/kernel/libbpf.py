"""libbpf's functions that the sensor calls, with their types, through ctypes.

libbpf keeps its C interface stable within a major version; Debian 12 has 1.1 as libbpf1.
"""

from __future__ import annotations

import ctypes as ct
from functools import cache

from sensor.errors import ProbeError

SAMPLE_CALLBACK = ct.CFUNCTYPE(ct.c_int, ct.c_void_p, ct.c_void_p, ct.c_size_t)

_SIGNATURES: dict[str, tuple[object, tuple[object, ...]]] = {
    "btf__load_vmlinux_btf": (ct.c_void_p, ()),
    "btf__free": (None, (ct.c_void_p,)),
    "btf__find_by_name_kind": (ct.c_int32, (ct.c_void_p, ct.c_char_p, ct.c_uint32)),
    "btf__type_by_id": (ct.c_void_p, (ct.c_void_p, ct.c_uint32)),
    "btf__name_by_offset": (ct.c_char_p, (ct.c_void_p, ct.c_uint32)),
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
