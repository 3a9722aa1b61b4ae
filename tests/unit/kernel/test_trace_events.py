"""Trace events by number, and which kernels need them."""

from __future__ import annotations

from pathlib import Path

import pytest

from sensor.kernel.trace_events import TraceFs, are_needed


@pytest.mark.parametrize(
    ("release", "expected"),
    [
        ("5.10.0-46-cloud-amd64", False),
        ("6.18.44", False),
        ("6.19.0-rc1", True),
        ("7.2.13+deb14-cloud-amd64", True),
        ("10.0", True),
        ("odd", True),
    ],
)
def test_which_kernels_preempt_a_raw_tracepoint(release: str, expected: bool) -> None:
    assert are_needed(release) is expected


def test_a_mounted_tracefs_is_read(tmp_path: Path) -> None:
    event = tmp_path / "events/sched/sched_process_exec"
    event.mkdir(parents=True)
    (event / "id").write_text("365\n")
    with TraceFs(tmp_path) as tracefs:
        assert tracefs.number("sched/sched_process_exec") == 365
        with pytest.raises(FileNotFoundError):
            tracefs.number("sched/none_such")


def test_without_a_mount_it_is_had_all_the_same(tmp_path: Path) -> None:
    """Which needs root. Refused is what the loader expects of it, too."""
    mounts = Path("/proc/self/mountinfo").read_text()
    try:
        with TraceFs(tmp_path / "nowhere") as tracefs:
            assert tracefs.number("sched/sched_process_exec") > 0
    except PermissionError:
        pytest.skip("mounting tracefs needs CAP_SYS_ADMIN")
    assert Path("/proc/self/mountinfo").read_text() == mounts
