"""The file of a database: one process has it, nobody else reads it, and what is broken is kept."""

from __future__ import annotations

import errno
import os
import pwd
from pathlib import Path

import pytest

from sensor.alerts.database_file import claim, make_private, set_aside, unusable

ME = pwd.getpwuid(os.geteuid()).pw_name


def test_a_place_is_claimed_once(tmp_path: Path) -> None:
    place = tmp_path / "x.lock"
    held = claim(place)
    with pytest.raises(BlockingIOError):
        claim(place)
    os.close(held)
    os.close(claim(place))


@pytest.mark.parametrize("use", [claim, make_private])
def test_no_link_is_followed(use, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        use(tmp_path / "link")
    assert target.read_text() == "precious"


def test_a_file_that_was_open_to_others_is_closed_to_them(tmp_path: Path) -> None:
    path = tmp_path / "x.db"
    path.touch(mode=0o644)
    make_private(path)
    assert path.stat().st_mode & 0o777 == 0o600


def test_what_is_set_aside_leaves_no_log_behind(tmp_path: Path, caplog) -> None:
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / f"x.db{suffix}").write_text(suffix or "broken")
    set_aside(tmp_path / "x.db", ValueError("why"), 1234.9)
    assert [each.name for each in tmp_path.iterdir()] == ["x.db.broken-1234"]
    assert (tmp_path / "x.db.broken-1234").read_text() == "broken"
    assert f"{tmp_path}/x.db is broken (why); kept as {tmp_path}/x.db.broken-1234" in caplog.text


def test_a_folder_that_is_missing_comes_with_the_command_that_makes_it(tmp_path: Path) -> None:
    place = tmp_path / "it is/not there" / "x.lock"
    with pytest.raises(FileNotFoundError) as caught:
        claim(place)
    assert unusable(place, caught.value) == (
        f"{place}: cannot be used: No such file or directory; make the folder for the sensor's user:"
        f" install -d -o {ME} -m 0700 '{place.parent}'"
    )


def test_a_folder_of_another_is_said_to_be_and_not_to_be_taken_from_them(tmp_path: Path) -> None:
    refused = PermissionError(errno.EACCES, "Permission denied")
    said = unusable(Path("/etc/x.lock"), refused)
    assert (
        said == f"/etc/x.lock: cannot be used: Permission denied; /etc belongs to root, not to {ME}"
    )
    assert "install" not in said


def test_another_trouble_is_said_as_it_is(tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    place = tmp_path / "x.lock"
    assert unusable(place, full) == f"{place}: cannot be used: No space left on device"
