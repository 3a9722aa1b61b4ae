"""Execs that failed: the programs for them, where they are attached, and what they ask of the kernel.

In: the kernel's types and the machine. Out: hooks and compiler flags. The programs are in
bpf/failed.bpf.c.
"""

from __future__ import annotations

import ctypes as ct
import os
from dataclasses import dataclass
from typing import Protocol

from sensor.errors import ProbeError
from sensor.kernel.program import Hook, attach, load

SOURCE = "failed.bpf.c"
RING = "sn_failed"

# The one release that preempts a program at a function's return, and enters it again meanwhile.
_UNGUARDED = "5.11."
# r1 = the first argument; return 0. In 5.10's BTF execveat's has no known type, and cannot be read.
_ATTEMPT = bytes.fromhex("7911000000000000 b700000000000000 9500000000000000")


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    """The programs of one system call: the first one, and those that it calls by a table."""

    call: str
    first: str
    table: str
    called: dict[str, int]


# Indexes as in bpf/failed.bpf.c.
CHAINS = (
    Chain(
        call="execve",
        first="on_failed",
        table="sn_failed_calls",
        called={"failed_scan": 0, "failed_tell": 1, "failed_send": 2},
    ),
    Chain(
        call="execveat",
        first="on_failed_at",
        table="sn_failed_at_calls",
        called={"failed_at_scan": 0, "failed_at_tell": 1, "failed_at_send": 2},
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """How a machine calls the kernel: the functions' names, the calls' numbers, `struct pt_regs`.

    `registers` hold the first three arguments, each a member and an offset in it; `first_at_exit`
    the first one once the call has returned. `compat` is a structure's member and a bit in it that
    says of a call that a 32-bit program made it.
    """

    prefix: str
    numbers: dict[str, int]
    number: str
    registers: tuple[tuple[str, int], ...]
    first_at_exit: str
    compat: tuple[tuple[str, ...], int]


_MACHINES = {
    "x86_64": Machine(
        prefix="__x64_sys_",
        numbers={"execve": 59, "execveat": 322},
        number="orig_ax",
        registers=(("di", 0), ("si", 0), ("dx", 0)),
        first_at_exit="di",
        compat=(("task_struct", "thread_info", "status"), 0x2),
    ),
    "aarch64": Machine(
        prefix="__arm64_sys_",
        numbers={"execve": 221, "execveat": 281},
        number="syscallno",
        registers=(("regs", 0), ("regs", 8), ("regs", 16)),
        first_at_exit="orig_x0",
        compat=(("pt_regs", "pstate"), 0x10),
    ),
}


class Types(Protocol):
    """What this module asks of BTF: a seam, so that other kernels can be tested."""

    def offset(self, struct: str, *path: str) -> int | None: ...
    def function(self, name: str) -> int | None: ...
    def tracepoint(self, name: str) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is loaded and where: each program's hook and the BTF id of that, and compiler flags.

    `first` are those to attach, by what they are attached to.
    """

    hook: Hook
    programs: dict[str, int]
    first: dict[str, str]
    flags: tuple[str, ...]

    @property
    def at_every_call(self) -> bool:
        """Whether all system calls of the machine run a program."""
        return self.hook is Hook.TRACEPOINT


def plan(types: Types, name: str, release: str) -> Plan:
    """At the return of the two system calls where the kernel can do that, else at all calls' end.

    `name` is the machine's and `release` the kernel's, as `uname` has them. Raises `ProbeError` where
    it can do neither.
    """
    machine = _MACHINES.get(name)
    if machine is None:
        raise ProbeError(f"failed execs cannot be told on {name}")
    if release.startswith(_UNGUARDED):
        return _at_every_call(types, machine)
    functions = [types.function(machine.prefix + chain.call) for chain in CHAINS]
    known = [function for function in functions if function is not None]
    if len(known) == len(CHAINS) and all(refusal(function) is None for function in known):
        return Plan(
            hook=Hook.RETURN,
            programs={
                program: function
                for chain, function in zip(CHAINS, known, strict=True)
                for program in (chain.first, *chain.called)
            },
            first={f"return of {chain.call}": chain.first for chain in CHAINS},
            flags=_flags(types, machine, at_exit=False),
        )
    return _at_every_call(types, machine)


def _at_every_call(types: Types, machine: Machine) -> Plan:
    tracepoint = types.tracepoint("sys_exit")
    called = [program for chain in CHAINS for program in chain.called]
    return Plan(
        hook=Hook.TRACEPOINT,
        programs=dict.fromkeys([CHAINS[0].first, *called], tracepoint),
        first={"sys_exit": CHAINS[0].first},
        flags=_flags(types, machine, at_exit=True),
    )


def refusal(function: int) -> str | None:
    """Why no program can look at this function's argument as it returns; None where one can."""
    code = ct.create_string_buffer(_ATTEMPT)
    try:
        program = load("attempt", ct.addressof(code), len(_ATTEMPT), Hook.RETURN, function)
    except ProbeError as exc:
        return str(exc)
    try:
        os.close(attach("attempt", program))
    except ProbeError as exc:
        return str(exc)
    finally:
        os.close(program)
    return None


def _flags(types: Types, machine: Machine, *, at_exit: bool) -> tuple[str, ...]:
    registers = list(machine.registers)
    if at_exit:
        registers[0] = (machine.first_at_exit, 0)
    values = {
        f"OFF_CALL_ARG{number}": _add(types.offset("pt_regs", member), offset)
        for number, (member, offset) in enumerate(registers)
    }
    if at_exit:
        place, bit = machine.compat
        values |= {
            "AT_SYS_EXIT": 1,
            "OFF_CALL_NUMBER": types.offset("pt_regs", machine.number),
            "NUMBER_EXECVE": machine.numbers["execve"],
            "NUMBER_EXECVEAT": machine.numbers["execveat"],
            "OFF_COMPAT": types.offset(*place),
            "COMPAT_BIT": bit,
        }
        if place[0] == "task_struct":
            values["COMPAT_OF_TASK"] = 1
    missing = [name for name, value in values.items() if value is None]
    if missing:
        raise ProbeError(f"this kernel's type information lacks: {', '.join(missing)}")
    return tuple(f"-D{name}={value}" for name, value in values.items())


def _add(offset: int | None, more: int) -> int | None:
    return None if offset is None else offset + more
