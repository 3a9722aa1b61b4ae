"""The process table's first content, from a folder that looks like /proc."""

from __future__ import annotations

import ctypes as ct
from pathlib import Path

from sensor.kernel.layout import IMAGE_LEN, PROCS_WAYS, Proc
from sensor.kernel.seed import ProcessTable

PLACES = 64


def table() -> ProcessTable:
    return ProcessTable(bytearray(PLACES * ct.sizeof(Proc)), PLACES)


def test_a_process_is_put_once() -> None:
    subject = table()
    assert subject.put(5, b"a\0", b"/bin/a")
    assert subject.put(5, b"b\0b\0", b"/bin/b")
    assert subject.tgids() == {5}
    image = subject._at(5).image
    assert (image.args_total, image.filename_len, image.text_len) == (4, 7, 11)
    assert bytes(image.text[:11]) == b"/bin/b\0b\0b\0"


def test_what_is_too_long_is_cut_and_a_long_path_left_out() -> None:
    subject = table()
    subject.put(5, b"x" * 1000, b"/" + b"y" * 200)
    image = subject._at(5).image
    assert (image.args_total, image.filename_len, image.text_len) == (1000, 0, IMAGE_LEN)


def test_processes_whose_numbers_are_alike_stand_beside_each_other() -> None:
    subject = table()
    alike = [5 + PLACES * number for number in range(PROCS_WAYS)]
    assert all(subject.put(tgid, b"a\0", b"/a") for tgid in alike)
    assert not subject.put(5 + PLACES * PROCS_WAYS, b"a\0", b"/a")
    subject.remove(alike[3])
    assert subject.put(5 + PLACES * PROCS_WAYS, b"a\0", b"/a")
    assert subject.tgids() == {*alike, 5 + PLACES * PROCS_WAYS} - {alike[3]}


def test_what_came_in_between_is_seen(tmp_path: Path) -> None:
    """An exec while its entry is written: what is in the table in the end is the new program."""
    from sensor.kernel import seed  # noqa: PLC0415

    entry = tmp_path / "7"
    entry.mkdir()
    (entry / "exe").symlink_to("/bin/new")
    (entry / "cmdline").write_bytes(b"old\0")

    class Meanwhile(ProcessTable):
        def put(self, tgid: int, cmdline: bytes, filename: bytes) -> bool:
            (entry / "cmdline").write_bytes(b"new\0")
            return super().put(tgid, cmdline, filename)

    subject = Meanwhile(bytearray(PLACES * ct.sizeof(Proc)), PLACES)
    assert seed._put(subject, entry)
    assert bytes(subject._at(7).image.text[9:13]) == b"new\0"
