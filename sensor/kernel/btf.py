"""Offsets of kernel structures, read from the running kernel's BTF through libbpf.

In: `/sys/kernel/btf/vmlinux`, as libbpf finds it. Out: byte offsets of named members. This replaces
kernel headers: a few milliseconds, nothing to install. Needs no privileges.
"""

from __future__ import annotations

import ctypes as ct
import os
from collections.abc import Iterator
from typing import Self

from sensor.errors import ProbeError
from sensor.kernel.libbpf import libbpf

# Kinds of BTF types, as in the kernel's documentation of the format.
_STRUCT, _UNION, _ENUM, _TYPEDEF, _FUNCTION = 4, 5, 6, 8, 12
_MODIFIERS = {8, 9, 10, 11, 18}  # typedef, volatile, const, restrict, type tag: they name a type
_HEADER = 12  # bytes of struct btf_type before its members
_MEMBER = 12  # bytes of struct btf_member


class _Type(ct.Structure):
    _fields_ = (("name_off", ct.c_uint32), ("info", ct.c_uint32), ("size_or_type", ct.c_uint32))


class _Member(ct.Structure):
    _fields_ = (("name_off", ct.c_uint32), ("type", ct.c_uint32), ("offset", ct.c_uint32))


class Btf:
    """The running kernel's types. Raises `ProbeError` when the kernel has no BTF."""

    def __init__(self) -> None:
        self._lib = libbpf()
        self._btf = self._lib.btf__load_vmlinux_btf()
        if not self._btf:
            error = os.strerror(ct.get_errno())
            raise ProbeError(
                f"the kernel's type information cannot be read ({error}): "
                "it needs CONFIG_DEBUG_INFO_BTF and a readable /sys/kernel/btf/vmlinux"
            )

    def close(self) -> None:
        if self._btf:
            self._lib.btf__free(self._btf)
            self._btf = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def offset(self, struct: str, *path: str) -> int | None:
        """Offset in bytes of a member, following `path` through embedded structures."""
        type_id: int = self._lib.btf__find_by_name_kind(self._btf, struct.encode(), _STRUCT)
        if type_id < 0:
            return None
        total = 0
        for name in path:
            found = self._find(type_id, name)
            if found is None:
                return None
            offset, type_id = found
            total += offset
        return total

    def tracepoint(self, name: str) -> int:
        """The id of a tracepoint's type. Raises `ProbeError` when the kernel has none of the name."""
        found: int = self._lib.btf__find_by_name_kind(
            self._btf, f"btf_trace_{name}".encode(), _TYPEDEF
        )
        if found < 0:
            raise ProbeError(f"this kernel has no tracepoint {name}")
        return found

    def function(self, name: str) -> int | None:
        """The id of a function of the kernel's; None where it has none that a program may hook."""
        found: int = self._lib.btf__find_by_name_kind(self._btf, name.encode(), _FUNCTION)
        return None if found < 0 else found

    def size(self, struct: str) -> int | None:
        type_id: int = self._lib.btf__find_by_name_kind(self._btf, struct.encode(), _STRUCT)
        return None if type_id < 0 else self._type(type_id).size_or_type

    def enumerator(self, enum: str, name: str) -> int | None:
        type_id: int = self._lib.btf__find_by_name_kind(self._btf, enum.encode(), _ENUM)
        if type_id < 0:
            return None
        address = self._lib.btf__type_by_id(self._btf, type_id)
        count = _Type.from_address(address).info & 0xFFFF
        for index in range(count):
            pair = (ct.c_uint32 * 2).from_address(address + _HEADER + 8 * index)
            if self._name(pair[0]) == name:
                return int(pair[1])
        return None

    def _type(self, type_id: int) -> _Type:
        return _Type.from_address(self._lib.btf__type_by_id(self._btf, type_id))

    def _name(self, offset: int) -> str:
        raw: bytes = self._lib.btf__name_by_offset(self._btf, offset)
        return raw.decode()

    def _resolve(self, type_id: int) -> tuple[int, int]:
        """The type behind typedefs and qualifiers, and its kind."""
        while True:
            described = self._type(type_id)
            kind = described.info >> 24 & 0x1F
            if kind not in _MODIFIERS:
                return type_id, kind
            type_id = described.size_or_type

    def _members(self, type_id: int) -> Iterator[tuple[str, int, int]]:
        address = self._lib.btf__type_by_id(self._btf, type_id)
        described = _Type.from_address(address)
        bitfields = described.info >> 31  # then the upper byte of an offset is a bit size
        for index in range(described.info & 0xFFFF):
            member = _Member.from_address(address + _HEADER + _MEMBER * index)
            bits = member.offset & 0xFFFFFF if bitfields else member.offset
            yield self._name(member.name_off), member.type, bits // 8

    def _find(self, type_id: int, name: str) -> tuple[int, int] | None:
        type_id, _ = self._resolve(type_id)
        for member, member_type, offset in self._members(type_id):
            if member == name:
                return offset, member_type
            if not member:  # an anonymous struct or union: its members count as ours
                inner, kind = self._resolve(member_type)
                if kind in (_STRUCT, _UNION):
                    found = self._find(inner, name)
                    if found is not None:
                        return offset + found[0], found[1]
        return None
