"""The kernel's process table stays right where pids come again, threads exec, and cgroups are many.

Its bound under a storm of forks, orphans and processes that came and went are cases of tests/kernels.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import images
import pytest
from cgroup_of_its_own import hierarchies

sys.path.append(str(Path(__file__).parents[1] / "kernels" / "guest"))

from harness import Guest, in_child, processes  # the kernel side alone, as on the other kernels

if TYPE_CHECKING:
    from collections.abc import Iterator

LAST_PID = Path("/proc/sys/kernel/ns_last_pid")
TRIES = 200  # somebody else may take the number
CGROUPS = 500
MARK = b"process-table-mark-"


# By perf is how it is on kernels from 6.19 on.
@pytest.fixture(scope="module", params=[False, True], ids=["raw tracepoints", "by perf"])
def guest(machine: None, request: pytest.FixtureRequest) -> Iterator[Guest]:
    reason = images.missing_for_images()
    if reason is not None:
        pytest.skip(reason)
    loaded = Guest.load(by_perf=request.param)
    assert loaded.probe.loaded.may_miss is None
    # Or the execs of the whole machine would fill the ring while nobody reads it.
    with loaded.filtering(MARK):
        yield loaded
    loaded.rings.close()
    loaded.probe.close()


@pytest.fixture
def mark() -> str:
    return f"{MARK.decode()}{secrets.token_hex(8)}-end"


def with_pid(wanted: int, argv: list[str]) -> bool:
    """Fork a child that runs argv in a child of its own; False where its pid is not the one wanted."""
    LAST_PID.write_text(str(wanted - 1))
    child = os.fork()
    if child == 0:
        code = subprocess.run(argv, check=False).returncode if os.getpid() == wanted else 0
        os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    return child == wanted


def test_a_pid_that_comes_again_has_nothing_of_its_earlier_owner(guest: Guest, mark: str) -> None:
    busybox = images.busybox_path()
    assert busybox is not None
    if not LAST_PID.exists():
        pytest.skip("the kernel has no ns_last_pid")
    earlier = f"earlier-{mark}"
    first = subprocess.Popen([busybox, "true", earlier])
    assert first.wait() == 0
    assert any(with_pid(first.pid, [str(busybox), "true", mark]) for _ in range(TRIES))
    event, old = guest.event(mark), guest.event(earlier)
    parent = event.ancestors[0]
    assert (parent.pid, old.process.pid) == (first.pid, first.pid)
    assert parent.start_ns > old.process.start_ns
    ours = tuple(os.fsdecode(Path("/proc/self/cmdline").read_bytes()).split("\0")[:-1])
    # The table keeps a head of 256 bytes of it.
    assert parent.args is not None
    assert parent.args[:2] == ours[:2]
    assert earlier not in parent.args


def test_a_thread_that_execs_becomes_its_process(guest: Guest, mark: str, tmp_path: Path) -> None:
    busybox = images.busybox_path()
    launch = images.compile_programs(tmp_path)["launch"]
    script = [str(busybox), "busybox", "sh", "-c", f"{busybox} true {mark}; :"]
    process = subprocess.Popen([launch, "thread", *script])
    pid = process.pid
    assert process.wait() == 0
    event = guest.event(mark)
    parent = event.ancestors[0]
    assert (parent.pid, parent.args) == (pid, tuple(script[1:]))
    assert pid not in guest.table()


def test_each_of_many_cgroups_is_told_apart(guest: Guest, mark: str) -> None:
    """Each exec is of its own cgroup; names and ids of those before are not taken for it."""
    root = next(path for path in hierarchies() if (path / "cgroup.controllers").exists())
    busybox = str(images.busybox_path())
    parent = root / f"many-{mark}"
    parent.mkdir()
    expected = {}
    try:
        for number in range(CGROUPS):
            folder = parent / f"{number:064x}"
            folder.mkdir()
            expected[f"{number}"] = (folder.stat().st_ino, f"/{parent.name}/{folder.name}")

            def join_and_exec(folder: Path = folder, number: int = number) -> None:
                (folder / "cgroup.procs").write_text("0")
                os.execv(busybox, ["busybox", "true", mark, str(number)])

            in_child(join_and_exec)
            folder.rmdir()
            guest.read()
    finally:
        parent.rmdir()
    events = guest.wait(mark, CGROUPS)
    told = {
        event.args[-1]: (event.process.cgroup_id, cgroup.path)
        for event in events
        if event.args
        for cgroup in event.cgroups
        if cgroup.id == event.process.cgroup_id
    }
    assert told == expected
    # a number may have come again meanwhile
    alive = processes()
    kept = {event.process.pid for event in events} & guest.table()
    assert not kept - alive - processes()
    counters = guest.probe.counters()
    assert {name: counters[name] for name in ("missed", "no_scratch", "call_failed")} == {
        "missed": 0,
        "no_scratch": 0,
        "call_failed": 0,
    }
