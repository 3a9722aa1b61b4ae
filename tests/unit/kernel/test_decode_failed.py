"""Records of execs that failed."""

from __future__ import annotations

import errno

import pytest
from records import exec_record, image_of

from sensor.event import ExecEvent
from sensor.kernel.decode import Decoder
from sensor.kernel.layout import Flag, Kind


def decoded(**fields: object) -> ExecEvent:
    decoder = Decoder(realtime_offset_ns=0, host_pid_ns=1, host_mnt_ns=1)
    wanted = {
        "kind": Kind.FAILED,
        "error": errno.ENOENT,
        "filename": b"/usr/bin/nmap\0",
        "argv": b"nmap\0-sV\0",
        "exe": b"dash\0bin\0usr\0",
        "comm": b"sh",
        "previous": image_of(b"/bin/sh", b"sh\0-c\0nmap\0"),
    }
    event = decoder.feed(exec_record(**(wanted | fields)))  # type: ignore[arg-type]
    assert event is not None
    return event


def test_what_was_asked_for_and_what_the_process_still_is() -> None:
    event = decoded()
    assert event.failure is not None
    assert event.failure.error == errno.ENOENT
    assert event.failure.executable == "/usr/bin/dash"
    assert event.failure.args == ("sh", "-c", "nmap")
    assert (event.filename, event.process.executable) == ("/usr/bin/nmap", "/usr/bin/nmap")
    assert event.process.name == "nmap"
    assert event.names == ("nmap",)
    assert event.args == event.process.args == ("nmap", "-sV")


@pytest.mark.parametrize(
    ("filename", "flags", "path"),
    [
        (b"./nmap\0", Flag(0), "/srv/nmap"),
        (b"tools/nmap\0", Flag(0), "/srv/tools/nmap"),
        (b"../nmap\0", Flag(0), "/srv/../nmap"),
        (b"nmap\0", Flag.AT_FD, None),
        (b"nmap\0", Flag.PATH_TRUNCATED, None),
        (b"/nmap\0", Flag.AT_FD, "/nmap"),
    ],
)
def test_the_path_is_told_as_far_as_it_is_known(
    filename: bytes, flags: Flag, path: str | None
) -> None:
    event = decoded(filename=filename, flags=flags)
    assert event.process.executable == path
    assert event.process.name == "nmap"


def test_without_a_path_the_caller_gives_the_name() -> None:
    event = decoded(filename=b"", argv=b"", flags=Flag.ARGS_READ_ERROR)
    assert (event.filename, event.process.executable, event.args) == ("", None, None)
    assert event.process.name == "sh"
    assert event.args_read_error


def test_argv_may_be_there_in_part() -> None:
    event = decoded(argv=b"nmap\0", flags=Flag.ARGS_READ_ERROR)
    assert event.args == ("nmap",)
    assert event.args_read_error
    assert decoded(flags=Flag.ARGS_TRUNCATED).args_truncated


def test_what_the_process_was_started_with_may_be_unknown() -> None:
    unread = image_of(b"/bin/sh", b"")
    unread.args_total = 10
    for previous in (None, unread):
        failure = decoded(previous=previous).failure
        assert failure is not None
        assert failure.args is None
    empty = decoded(previous=image_of(b"/bin/sh", b"")).failure
    assert empty is not None
    assert empty.args == ()


def test_a_caller_that_is_deleted_is_not_what_was_asked_for() -> None:
    event = decoded(flags=Flag.EXE_UNLINKED | Flag.EXE_PSEUDO, exe=b"memfd:x\0")
    assert not event.executable_deleted
    assert not event.executable_memfd


def test_one_that_succeeded_has_no_failure() -> None:
    assert decoded(kind=Kind.EXEC, error=0, previous=None).failure is None
