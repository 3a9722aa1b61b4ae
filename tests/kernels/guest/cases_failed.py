"""Cases: execs that failed, where they are asked for. They load the program once more for that."""

from __future__ import annotations

import ctypes as ct
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import BUSYBOX, FAILED, Guest, in_child

from sensor.kernel.layout import FAILED_ARGS, FAILED_ARGS_LEN, Mode

_AT_FDCWD = -100
_SYS_EXECVEAT = {"x86_64": 322, "aarch64": 281}


@contextmanager
def _telling() -> Iterator[Guest]:
    """The program with that part of it, beside the one at work."""
    guest = Guest.load(failed=True)
    try:
        yield guest
    finally:
        guest.close()


def _fail(path: str, argv: list[str]) -> int:
    try:
        os.execv(path, argv)
    except OSError as error:
        return error.errno or 0
    raise AssertionError("an exec that was to fail did not")


def _execveat(directory: int, path: bytes, argv: list[bytes]) -> int:
    libc = ct.CDLL(None, use_errno=True)
    array = (ct.c_char_p * (len(argv) + 1))(*argv, None)
    libc.syscall(_SYS_EXECVEAT[os.uname().machine], directory, path, array, array, 0)
    return ct.get_errno()


def failed_execs_on_demand(_guest: Guest) -> dict[str, object]:
    """execs that fail are told on demand: which, why, by whom, and a filter of their own"""
    plain, text = Path("/tmp/plain"), Path("/tmp/text")
    plain.touch(mode=0o644)
    text.write_text("no program\n")
    text.chmod(0o755)
    with _telling() as guest:
        _each_reason(guest, plain, text)
        _by_execveat(guest)
        _long_argv(guest)
        _filtered(guest)
        total = guest.probe.counters()
        assert total["failed"] == total["failed_sent"] + total["failed_filtered"]
        assert total["failed_lost"] == total["failed_shed"] == total["missed"] == 0
        return {"at_every_call": guest.probe.loaded.at_every_call}


def _each_reason(guest: Guest, plain: Path, text: Path) -> None:
    mark = guest.mark()
    attempts = {
        "/tmp/missing": errno.ENOENT,
        "/tmp": errno.EACCES,
        str(plain): errno.EACCES,
        str(text): errno.ENOEXEC,
    }

    def body() -> None:
        assert {path: _fail(path, ["busybox", mark, path]) for path in attempts} == attempts
        os.execv(BUSYBOX, ["busybox", "true", mark])

    pid = in_child(body)
    events = guest.wait(mark, len(attempts), FAILED)
    for event, (path, number) in zip(events, attempts.items(), strict=True):
        assert event.failure is not None
        assert event.failure.error == number
        assert event.failure.executable == os.path.realpath("/proc/self/exe")
        assert event.failure.args == _own_argv()
        assert (event.filename, event.process.executable) == (path, path)
        assert event.args == ("busybox", mark, path)
        assert not event.args_truncated
        assert not event.args_read_error
        assert (event.process.pid, event.ppid) == (pid, os.getpid())
        assert event.ancestors[0].pid == os.getpid()
    (succeeded,) = (event for event in guest.wait(mark, 5) if event.failure is None)
    assert succeeded.args == ("busybox", "true", mark)


def _own_argv() -> tuple[str, ...]:
    raw = Path("/proc/self/cmdline").read_bytes()
    return tuple(os.fsdecode(part) for part in raw.split(b"\0")[:-1])


def _by_execveat(guest: Guest) -> None:
    mark = guest.mark()
    directory = os.open("/usr", os.O_RDONLY | os.O_DIRECTORY)

    def body() -> None:
        os.chdir("/tmp")
        argv = [b"nothing", mark.encode()]
        assert _execveat(directory, b"no/nothing", argv) == errno.ENOENT
        assert _execveat(_AT_FDCWD, b"./nothing", argv) == errno.ENOENT

    in_child(body)
    os.close(directory)
    in_folder, here = guest.wait(mark, 2, FAILED)
    assert (in_folder.filename, in_folder.process.executable) == ("no/nothing", None)
    assert (here.filename, here.process.executable) == ("./nothing", "/tmp/nothing")
    assert in_folder.process.name == here.process.name == "nothing"


def _long_argv(guest: Guest) -> None:
    mark = guest.mark()
    many = ["x", mark, *["y"] * (2 * FAILED_ARGS)]
    long = ["x", mark, "z" * (256 << 10)]
    in_child(lambda: (_fail("/tmp/missing", many), _fail(BUSYBOX, long)))
    of_many, of_long = guest.wait(mark, 2, FAILED)
    assert of_many.args == tuple(many[:FAILED_ARGS])
    assert of_many.args_truncated
    assert of_long.failure is not None
    assert of_long.failure.error == errno.E2BIG
    assert of_long.args_truncated
    assert sum(len(arg) + 1 for arg in of_long.args or ()) == FAILED_ARGS_LEN


def _filtered(guest: Guest) -> None:
    mark, needle = guest.mark(), "needle-of-failures"
    literal = b"\0" + needle.encode() + b"\0"
    with guest.filtering(literal, mode=Mode.MATCHING), guest.counting() as moved:
        in_child(lambda: (_fail("/tmp/missing", ["x", mark]), _fail(f"/tmp/{needle}", [mark])))
        (event,) = guest.wait(mark, 1, FAILED)
        assert event.process.name == needle
        assert {name: n for name, n in moved().items() if name.startswith("failed")} == {
            "failed": 2,
            "failed_sent": 1,
            "failed_filtered": 1,
        }
