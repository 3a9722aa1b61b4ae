"""Compiler flags from a kernel's types, and from kernels that lack some."""

from __future__ import annotations

import pytest

from sensor.errors import ProbeError
from sensor.kernel.btf import Btf
from sensor.kernel.offsets import compiler_flags


class Types:
    """A kernel that has everything at offset 8, except what is named."""

    def __init__(self, *missing: tuple[str, ...]) -> None:
        self.missing = missing

    def offset(self, struct: str, *path: str) -> int | None:
        return None if (struct, *path) in self.missing else 8

    def size(self, struct: str) -> int | None:
        return None if (struct,) in self.missing else 16

    def enumerator(self, enum: str, name: str) -> int | None:
        return 14


def test_a_member_that_moved_is_found_at_its_other_name() -> None:
    flags = compiler_flags(Types(("kernfs_node", "parent"), ("task_struct", "start_boottime")))
    assert "-DOFF_KERNFS_NODE_PARENT=8" in flags
    assert "-DOFF_TASK_START_TIME=8" in flags


def test_all_that_is_missing_is_named_at_once() -> None:
    with pytest.raises(ProbeError, match=r"task_struct\.mm, .*|.*cred\.uid") as caught:
        compiler_flags(Types(("task_struct", "mm"), ("cred", "uid")))
    assert "task_struct.mm" in str(caught.value)
    assert "cred.uid" in str(caught.value)


def test_records_of_events_are_asked_for_only_where_they_are_used() -> None:
    types = Types(("trace_event_raw_task_newtask", "clone_flags"))
    assert "-DBY_PERF" not in compiler_flags(types)
    with pytest.raises(ProbeError, match=r"trace_event_raw_task_newtask\.clone_flags"):
        compiler_flags(types, by_perf=True)


@pytest.mark.parametrize("by_perf", [False, True])
def test_the_running_kernel_has_everything(by_perf: bool) -> None:
    with Btf() as btf:
        flags = compiler_flags(btf, by_perf=by_perf)
        assert btf.offset("no_such_struct", "x") is None
        assert btf.offset("task_struct", "no_such_member") is None
    numbers = [flag for flag in flags if flag != "-DBY_PERF"]
    assert all(flag.rpartition("=")[2].isdigit() for flag in numbers)
