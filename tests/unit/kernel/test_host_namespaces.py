"""The host's namespaces, from a /proc of the test's own making."""

from __future__ import annotations

from pathlib import Path

import pytest

from sensor.kernel.host_namespaces import host_namespace

KTHREADD = "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0 0\n"


def process(root: Path, pid: int, stat: str, *, readable: bool = True) -> int | None:
    """A process; the inode number of its mount namespace, or None where it may not be looked at."""
    folder = root / str(pid)
    folder.mkdir()
    (folder / "stat").write_text(stat)
    (folder / "ns").mkdir()
    if not readable:
        return None
    (folder / "ns/mnt").touch()
    return (folder / "ns/mnt").stat().st_ino


def test_it_is_the_first_processes(tmp_path: Path) -> None:
    first = process(tmp_path, 1, "1 (systemd) S 0 1 1 0 -1 4194560\n")
    process(tmp_path, 2, KTHREADD)

    assert host_namespace(tmp_path, "mnt") == first


def test_it_is_the_kernels_where_the_first_process_may_not_be_looked_at(tmp_path: Path) -> None:
    process(tmp_path, 1, "1 (systemd) S 0 1 1 0 -1 4194560\n", readable=False)
    second = process(tmp_path, 2, KTHREADD)

    assert host_namespace(tmp_path, "mnt") == second


@pytest.mark.parametrize(
    "stat",
    [
        "2 (kthreadd) S 1 2 2 0 -1 4194560 0\n",
        "2 (x) S 0 0 0 0 -1 2129984) S 1 2 2 0 -1 4194560 0\n",
        "2 (kthreadd) S 0\n",
        "2 (kthreadd) S 0 0 0 0 -1 many\n",
        "",
    ],
    ids=["no-kernel-thread", "a-name-like-a-line", "too-short", "no-number", "empty"],
)
def test_a_second_process_that_is_not_the_kernels_tells_nothing(tmp_path: Path, stat: str) -> None:
    process(tmp_path, 2, stat)

    assert host_namespace(tmp_path, "mnt") is None


def test_nothing_is_known_without_either(tmp_path: Path) -> None:
    assert host_namespace(tmp_path, "pid") is None


def test_on_this_machine_it_is_that_of_the_kernels_threads() -> None:
    assert Path("/proc/2/comm").read_text() == "kthreadd\n", "the tests are in a pid namespace"

    assert host_namespace(Path("/proc"), "mnt") == Path("/proc/2/ns/mnt").stat().st_ino
