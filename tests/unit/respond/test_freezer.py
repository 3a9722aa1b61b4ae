"""The freezer of a container, found by a process of it, and never another's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sensor.respond.freezer import freezer_of

if TYPE_CHECKING:
    from pathlib import Path

ID = "c" * 64
OTHER = "d" * 64
POD = f"/kubepods/besteffort/pod1234/{ID}"


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "proc" / "7").mkdir(parents=True)
    return tmp_path / "proc"


@pytest.mark.parametrize(
    ("line", "folder", "switch", "unified"),
    [
        (f"0::{POD}", "", "cgroup.freeze", True),
        (f"0::{POD}", "unified", "cgroup.freeze", True),
        (f"5:freezer:{POD}", "freezer", "freezer.state", False),
    ],
)
def test_is_found_where_the_hierarchy_is(
    line: str, folder: str, switch: str, unified: bool, proc: Path, tmp_path: Path
) -> None:
    (proc / "7" / "cgroup").write_text(f"9:memory:{POD}\n{line}\n")
    directory = tmp_path / "cgroup" / folder / POD.lstrip("/")
    directory.mkdir(parents=True)
    (directory / switch).write_text("")
    found = freezer_of(7, ID, proc_root=proc, cgroup_root=tmp_path / "cgroup")
    assert found is not None
    assert (found.directory, found.unified) == (directory, unified)


def test_a_pid_that_belongs_to_another_container_now_freezes_nothing(
    proc: Path, tmp_path: Path
) -> None:
    (proc / "7" / "cgroup").write_text(f"0::/kubepods/besteffort/pod1234/{OTHER}\n")
    assert freezer_of(7, ID, proc_root=proc, cgroup_root=tmp_path) is None


def test_a_process_that_is_gone_freezes_nothing(proc: Path, tmp_path: Path) -> None:
    assert freezer_of(8, ID, proc_root=proc, cgroup_root=tmp_path) is None
    assert freezer_of(0, ID, proc_root=proc, cgroup_root=tmp_path) is None
