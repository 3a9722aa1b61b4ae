"""Where the programs for execs that failed are attached, on kernels of several kinds."""

from __future__ import annotations

import os

import pytest

from sensor.errors import ProbeError
from sensor.kernel import failed
from sensor.kernel.btf import Btf
from sensor.kernel.program import Hook


class Types:
    """A kernel with everything; functions and members can be missing."""

    def __init__(self, *, functions: bool = True, members: bool = True) -> None:
        self.functions = functions
        self.members = members

    def offset(self, struct: str, *path: str) -> int | None:
        return 100 + len(path) if self.members else None

    def function(self, name: str) -> int | None:
        return hash(name) % 1000 + 1 if self.functions else None

    def tracepoint(self, name: str) -> int:
        assert name == "sys_exit"
        return 7


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_at_the_return_of_the_calls_where_the_kernel_can(
    machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failed, "refusal", lambda _function: None)
    plan = failed.plan(Types(), machine, "6.1.0")
    assert plan.hook is Hook.RETURN
    assert not plan.at_every_call
    assert plan.first == {"return of execve": "on_failed", "return of execveat": "on_failed_at"}
    assert len(plan.programs) == 8
    assert not any("AT_SYS_EXIT" in flag for flag in plan.flags)


@pytest.mark.parametrize(
    ("functions", "refusal"), [(False, None), (True, "Operation not permitted")]
)
def test_at_the_end_of_all_calls_where_it_cannot(
    functions: bool, refusal: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failed, "refusal", lambda _function: refusal)
    plan = failed.plan(Types(functions=functions), "x86_64", "6.1.0")
    assert plan.at_every_call
    assert plan.first == {"sys_exit": "on_failed"}
    assert set(plan.programs.values()) == {7}
    assert "on_failed_at" not in plan.programs
    assert {"-DAT_SYS_EXIT=1", "-DNUMBER_EXECVE=59", "-DNUMBER_EXECVEAT=322"} <= set(plan.flags)


def test_not_at_the_return_where_a_program_may_be_entered_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(failed, "refusal", lambda _function: None)
    plans = [failed.plan(Types(), "x86_64", f"5.{minor}.0") for minor in (10, 11, 12)]
    assert [plan.at_every_call for plan in plans] == [False, True, False]


def test_arm_keeps_the_first_argument_elsewhere_once_a_call_has_returned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    class Recording(Types):
        def offset(self, struct: str, *path: str) -> int | None:
            asked.append((struct, *path))
            return 8

    monkeypatch.setattr(failed, "refusal", lambda _function: "not supported")
    flags = failed.plan(Recording(), "aarch64", "6.1.0").flags
    assert ("pt_regs", "orig_x0") in asked
    assert {"-DOFF_CALL_ARG0=8", "-DOFF_CALL_ARG1=16", "-DOFF_CALL_ARG2=24"} <= set(flags)
    assert not any("COMPAT_OF_TASK" in flag for flag in flags)


def test_another_machine_is_refused_by_name() -> None:
    with pytest.raises(ProbeError, match="riscv64"):
        failed.plan(Types(), "riscv64", "6.1.0")


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failed, "refusal", lambda _function: None)
    with pytest.raises(ProbeError, match="OFF_CALL_ARG0"):
        failed.plan(Types(members=False), "x86_64", "6.1.0")


def test_the_running_kernel_has_what_either_way_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    for refusal in (None, "refused"):
        monkeypatch.setattr(failed, "refusal", lambda _function, said=refusal: said)
        with Btf() as btf:
            flags = failed.plan(btf, os.uname().machine, "6.1.0").flags
        assert all(flag.rpartition("=")[2].isdigit() for flag in flags)
