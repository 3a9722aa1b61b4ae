"""What root can do to a running sensor from outside: close its descriptors, and change its maps.

Nobody else can detach a program of this kind: the kernel has no call for it, a descriptor is all that
holds it. So a descriptor is closed inside of the sensor, by ptrace, as a debugger would.
"""

from __future__ import annotations

import ctypes as ct
import os
import platform
from pathlib import Path

import pytest

_ATTACH, _DETACH, _PEEK, _POKE, _STEP, _GETREGS, _SETREGS = 16, 17, 2, 5, 9, 12, 13
_SYSCALL_INSTRUCTION = 0x050F
_CLOSE, _BPF, _PIDFD_GETFD = 3, 321, 438
_BPF_MAP_DELETE_ELEM = 3
# Results of a call that the kernel would begin again by itself.
_RESTARTED = range(-514, -511)


_NAMES = (
    *("r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx"),
    *("rsi", "rdi", "orig_rax", "rip", "cs", "eflags", "rsp", "ss", "fs_base", "gs_base"),
    *("ds", "es", "fs", "gs"),
)


class _Registers(ct.Structure):
    _fields_ = [(name, ct.c_ulonglong) for name in _NAMES]


_libc = ct.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ct.c_long, ct.c_long, ct.c_void_p, ct.c_void_p]
_libc.ptrace.restype = ct.c_long


def need_amd64() -> None:
    if platform.machine() != "x86_64":
        pytest.skip("another process's descriptors can be closed by this test on amd64 only")


def descriptors(pid: int, what: str) -> list[int]:
    """Descriptors of a process by what they are (`anon_inode:[eventpoll]`), or by a line of their fdinfo."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        lines = Path(f"/proc/{pid}/fdinfo/{link.name}").read_text().splitlines()
        if os.readlink(link) == what or what in lines:
            found.append(int(link.name))
    return sorted(found)


def close_inside(pid: int, descriptor: int) -> None:
    """Make the process close a descriptor of its own, and go on as if nothing had been."""
    _ptrace(_ATTACH, pid)
    os.waitpid(pid, 0)
    try:
        registers = _Registers()
        _ptrace(_GETREGS, pid, 0, ct.addressof(registers))
        before = _Registers.from_buffer_copy(registers)
        instruction = _ptrace(_PEEK, pid, registers.rip)
        _ptrace(_POKE, pid, registers.rip, (instruction & ~0xFFFF) | _SYSCALL_INSTRUCTION)
        registers.rax, registers.rdi = _CLOSE, descriptor
        registers.orig_rax = (1 << 64) - 1  # not inside of a call: nothing to begin again
        _ptrace(_SETREGS, pid, 0, ct.addressof(registers))
        _ptrace(_STEP, pid)
        os.waitpid(pid, 0)
        _ptrace(_GETREGS, pid, 0, ct.addressof(registers))
        _ptrace(_POKE, pid, before.rip, instruction)
        if ct.c_longlong(before.rax).value in _RESTARTED:
            before.rax = before.orig_rax
            before.rip -= 2
        _ptrace(_SETREGS, pid, 0, ct.addressof(before))
        assert registers.rax == 0, "the descriptor could not be closed"
    finally:
        _ptrace(_DETACH, pid)


def delete_from_map(pid: int, descriptor: int, key: int) -> None:
    """Delete an element of a map that the process holds; the key is a 32-bit number."""
    pidfd = os.pidfd_open(pid)
    mine = _libc.syscall(_PIDFD_GETFD, pidfd, descriptor, 0)
    os.close(pidfd)
    assert mine >= 0, os.strerror(ct.get_errno())
    index = ct.c_uint32(key)
    attributes = (ct.c_uint64 * 4)(mine, ct.addressof(index))
    result = _libc.syscall(_BPF, _BPF_MAP_DELETE_ELEM, ct.byref(attributes), ct.sizeof(attributes))
    os.close(mine)
    assert result == 0, os.strerror(ct.get_errno())


def _ptrace(request: int, pid: int, address: int = 0, data: int = 0) -> int:
    ct.set_errno(0)
    result: int = _libc.ptrace(request, pid, address, data)
    if result == -1 and (error := ct.get_errno()):
        raise OSError(error, os.strerror(error))
    return result
