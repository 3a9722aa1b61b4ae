"""Cases: an exec is told, once, with its whole argv, whichever way it was started."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import threading
from pathlib import Path

from harness import BUSYBOX, Guest, argv_bytes, in_child

from sensor.kernel.layout import ARGS_MAX


def argv_is_told_whole(guest: Guest) -> None:
    """argv with empty arguments, spaces, control characters and bytes that are not UTF-8"""
    mark = guest.mark()
    argv = guest.busybox("", "two words", "\udcff\udcfe", "line\nand\x1b[2J", "ü", mark, "")
    event = guest.event(mark)
    assert event.args == tuple(argv)
    assert not event.args_truncated
    assert event.args_bytes == len(argv_bytes(argv))


def eighty_kib(guest: Guest) -> None:
    """argv with one argument of 80 KiB"""
    mark = guest.mark()
    argv = guest.busybox("y" * (80 << 10), mark)
    event = guest.event(mark)
    assert event.args == tuple(argv)
    assert not event.args_truncated


def a_thousand_arguments(guest: Guest) -> None:
    """argv of 1,000 arguments, 120 KiB in all"""
    mark = guest.mark()
    argv = guest.busybox(*(f"{number:0120}" for number in range(1000)), mark)
    assert guest.event(mark).args == tuple(argv)


def over_the_limit(guest: Guest) -> None:
    """argv over the limit: cut, said to be cut, and passed by the filter without a match"""
    mark = guest.mark()
    with guest.filtering(b"found nowhere"), guest.counting() as moved:
        argv = guest.busybox(mark, *["z" * 1000] * 300)
        event = guest.event(mark)
        assert moved() == {"execs": 1, "sent": 1, "truncated": 1}
    whole = argv_bytes(argv)
    assert event.args_truncated
    assert event.args_bytes == len(whole)
    assert event.args is not None
    told = argv_bytes(event.args)[:-1]
    assert whole.startswith(told)
    assert ARGS_MAX - 8 <= len(told) <= ARGS_MAX


def memfd_by_execveat(guest: Guest) -> None:
    """execveat of a memfd, which has no path"""
    mark = guest.mark()
    memfd = os.memfd_create("launched")
    with open(BUSYBOX, "rb") as program, open(memfd, "wb", closefd=False) as copy:
        shutil.copyfileobj(program, copy)
    # os.execve of a descriptor is fexecve, and that is execveat(fd, "", AT_EMPTY_PATH)
    in_child(lambda: os.execve(memfd, ["busybox", "true", mark], {}))
    os.close(memfd)
    event = guest.event(mark)
    assert event.args == ("busybox", "true", mark)
    assert event.executable_memfd
    assert not event.executable_deleted
    assert event.process.executable == "/memfd:launched"


def deleted_executable(guest: Guest) -> None:
    """exec of a file that has no name any more"""
    mark = guest.mark()
    shutil.copy(BUSYBOX, "/tmp/gone")
    descriptor = os.open("/tmp/gone", os.O_RDONLY)
    os.unlink("/tmp/gone")
    in_child(lambda: os.execve(descriptor, ["busybox", "true", mark], {}))
    os.close(descriptor)
    event = guest.event(mark)
    assert event.executable_deleted
    assert not event.executable_memfd
    assert event.process.executable == "/tmp/gone"


def script(guest: Guest) -> None:
    """a script: its interpreter's argv, and the script's name beside the interpreter's"""
    mark = guest.mark()
    path = Path("/tmp/some-script")
    path.write_text(f"#!{BUSYBOX} sh\n:\n")
    path.chmod(0o755)
    subprocess.run([path, mark], check=True)
    event = guest.event(mark)
    assert event.args == (BUSYBOX, "sh", str(path), mark)
    assert event.filename == str(path)
    assert event.names == ("some-script", "busybox")
    assert event.process.executable == BUSYBOX


def from_another_thread(guest: Guest) -> None:
    """exec by a thread that does not lead its process"""
    mark = guest.mark()

    def exec_in_thread() -> None:
        argv = ["busybox", "true", mark]
        thread = threading.Thread(target=os.execv, args=(BUSYBOX, argv))
        thread.start()
        thread.join()
        raise AssertionError("the exec did not happen")

    pid = in_child(exec_in_thread)
    event = guest.event(mark)
    assert event.args == ("busybox", "true", mark)
    assert (event.process.pid, event.tid) == (pid, pid)


def failed_execs(guest: Guest) -> None:
    """execs that fail are not told: no such file, a folder, not executable, no format, too long"""
    mark = guest.mark()
    plain, text = Path("/tmp/plain"), Path("/tmp/text")
    plain.touch(mode=0o644)
    text.write_text("no program\n")
    text.chmod(0o755)
    attempts = {
        ("/tmp/missing", mark): errno.ENOENT,
        ("/tmp", mark): errno.EACCES,
        (str(plain), mark): errno.EACCES,
        (str(text), mark): errno.ENOEXEC,
        (BUSYBOX, mark, "x" * (256 << 10)): errno.E2BIG,
    }

    def fail_then_exec() -> None:
        refusals = {}
        for path, *argv in attempts:
            try:
                os.execv(path, argv)
            except OSError as error:
                refusals[path, *argv] = error.errno
        assert refusals == attempts
        os.execv(BUSYBOX, ["busybox", "true", mark])

    with guest.counting() as moved:
        in_child(fail_then_exec)
        assert guest.event(mark).args == ("busybox", "true", mark)
        assert moved() == {"execs": 1, "sent": 1}


def twenty_three(guest: Guest) -> None:
    """23 execs at once are 23 events and 23 in the counters"""
    mark = guest.mark()
    with guest.counting() as moved:
        running = [
            subprocess.Popen(["busybox", "true", mark, str(number)], executable=BUSYBOX)
            for number in range(23)
        ]
        for process in running:
            assert process.wait() == 0
        events = guest.wait(mark, 23)
        assert moved() == {"execs": 23, "sent": 23}
    assert {event.process.pid for event in events} == {process.pid for process in running}
    assert {(event.args or ())[-1] for event in events} == {str(number) for number in range(23)}
