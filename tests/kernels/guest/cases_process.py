"""Cases: whose exec it was. Ancestors, leaders, cgroup, namespaces, ids, terminal, paths, times.

Together they read through every offset of a kernel structure that the program is compiled with.
"""

from __future__ import annotations

import fcntl
import os
import pty
import shutil
import subprocess
import termios
import time
from pathlib import Path

from harness import BUSYBOX, PROCESSES_MAX, Guest, boottime_ns, in_child, processes

CGROUPS = Path("/sys/fs/cgroup")
# Runs the rest of its arguments and then something of its own, so that the shell does not exec it.
SHELL = ("sh", "-c", '"$@"; :')


def lineage(guest: Guest) -> None:
    """the ancestors up to the first process, with their arguments; session and group leaders"""
    mark = guest.mark()
    inner = ["busybox", *SHELL, "inner", BUSYBOX, "true", mark]
    outer = ["busybox", *SHELL, "outer", BUSYBOX, *inner[1:]]
    process = subprocess.Popen(outer, executable=BUSYBOX, start_new_session=True)
    assert process.wait() == 0
    event = next(event for event in guest.wait(mark, 3) if (event.args or ())[1] == "true")
    inner_shell, outer_shell, python, init = event.ancestors
    assert inner_shell.args == (BUSYBOX, *inner[1:])
    assert outer_shell.args == tuple(outer)
    assert outer_shell.pid == process.pid
    assert outer_shell.name == "busybox"
    assert outer_shell.executable == BUSYBOX
    assert event.ppid == inner_shell.pid
    assert python.pid == os.getpid()
    assert python.executable == os.readlink("/proc/self/exe")
    assert python.args == _cmdline(os.getpid())
    assert python.start_ns // 10**7 == _start_ticks(os.getpid())
    assert (init.pid, init.args) == (1, _cmdline(1))
    assert event.process.session_id == process.pid
    assert event.process.group_id == process.pid
    assert event.session_leader == outer_shell
    assert event.group_leader == outer_shell


def orphan(guest: Guest) -> None:
    """an orphan: its parent is gone, its ancestor is the first process"""
    mark = guest.mark()

    def leave_a_child() -> None:
        if os.fork() == 0:
            while os.getppid() != 1:
                time.sleep(0.01)
            os.execv(BUSYBOX, ["busybox", "true", mark])

    in_child(leave_a_child)
    event = guest.event(mark)
    assert event.ppid == 1
    assert [ancestor.pid for ancestor in event.ancestors] == [1]


def table_is_bounded(guest: Guest) -> None:
    """a fork storm fills the process table to its limit and no further"""
    storm = 'for i in $(seq "$1"); do read line <&3 & done; echo started; wait'
    mark = guest.mark()
    before = guest.table()
    assert before == processes()
    more = PROCESSES_MAX + 100
    with guest.counting() as moved, _shell(f"exec 3<&0; {storm}", str(more)) as shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        assert shell.stdout.readline() == b"started\n"
        assert len(guest.table()) == PROCESSES_MAX
        assert moved()["procs_full"] >= len(before) + 1 + more - PROCESSES_MAX
        argv = guest.busybox(mark)
        event = guest.event(mark)
        assert event.args == tuple(argv)
        assert event.ancestors[0].args == _cmdline(os.getpid())
        shell.stdin.close()
        assert shell.wait() == 0
    assert guest.table() == before


def table_forgets(guest: Guest) -> None:
    """2,000 processes that came and went leave nothing in the process table"""
    before, forks = guest.table(), _forks()
    with _shell('for i in $(seq "$1"); do ( : ); done', "2000") as shell:
        assert shell.wait() == 0
    assert _forks() - forks >= 2000
    assert guest.table() == before == processes()


def cgroup_path(guest: Guest) -> None:
    """the path and the id of a cgroup v2, and none of cgroup v1"""
    path = Path("kubepods.slice/kubepods-pod0a.slice") / f"cri-containerd-{'5f' * 32}.scope"
    folder = CGROUPS / path
    folder.mkdir(parents=True)
    mark = guest.mark()
    _run_in(folder, mark)
    event = guest.event(mark)
    (cgroup,) = event.cgroups
    assert cgroup.path == f"/{path}"
    assert cgroup.id == folder.stat().st_ino == event.process.cgroup_id
    assert not cgroup.truncated
    _remove(folder)

    (root,) = guest.run().cgroups
    assert root.path == "/"
    assert root.id == CGROUPS.stat().st_ino


def deep_cgroup(guest: Guest) -> None:
    """a cgroup deeper than the program follows is said to be cut, and its own name is there"""
    folder = CGROUPS.joinpath(*(f"level-{number}" for number in range(20)))
    folder.mkdir(parents=True)
    mark = guest.mark()
    _run_in(folder, mark)
    (cgroup,) = guest.event(mark).cgroups
    assert cgroup.truncated
    assert cgroup.path.endswith("/level-18/level-19")
    assert cgroup.id == folder.stat().st_ino
    _remove(folder)


def recent_execs(guest: Guest) -> None:
    """the flight recorder keeps what a cgroup did last, in order, and no other cgroup's"""
    folder = CGROUPS / "recorded"
    folder.mkdir()
    marks = [guest.mark() for _ in range(3)]
    for mark in marks:
        _run_in(folder, mark)
        guest.busybox("elsewhere")
    recent = guest.probe.recorder.last(folder.stat().st_ino, before_ns=boottime_ns())
    assert [exec_.args for exec_ in recent] == [("busybox", "true", mark) for mark in marks]
    assert [exec_.pid for exec_ in recent] == [guest.event(mark).process.pid for mark in marks]
    _remove(folder)


def namespaces(guest: Guest) -> None:
    """own namespaces are told from the host's; pids are the host's all the same"""
    mark = guest.mark()
    argv = ["busybox", "unshare", "-m", "-p", "-f", BUSYBOX, "true", mark]
    subprocess.run(argv, executable=BUSYBOX, check=True)
    event = next(event for event in guest.wait(mark, 2) if (event.args or ())[1] == "true")
    assert event.namespaces is not None
    assert not event.namespaces.pid_is_host
    assert not event.namespaces.mnt_is_host
    assert event.process.pid > os.getpid()

    here = guest.run().namespaces
    assert here is not None
    assert here.pid_is_host
    assert here.mnt_is_host
    assert here.pid == Path("/proc/self/ns/pid").stat().st_ino
    assert here.mnt == Path("/proc/self/ns/mnt").stat().st_ino


def user_and_group(guest: Guest) -> None:
    """real and effective user and group"""
    mark = guest.mark()

    def exec_as_somebody() -> None:
        os.setresgid(1001, 1002, 1003)
        os.setresuid(2001, 2002, 2003)
        os.execv(BUSYBOX, ["busybox", "true", mark])

    in_child(exec_as_somebody)
    event = guest.event(mark)
    assert (event.real_uid, event.process.uid) == (2001, 2002)
    assert (event.real_gid, event.process.gid) == (1001, 1002)


def terminal(guest: Guest) -> None:
    """the controlling terminal and the session"""
    mark = guest.mark()
    master, slave = pty.openpty()
    number = int(os.ttyname(slave).rpartition("/")[2])

    def exec_at_the_terminal() -> None:
        os.setsid()
        fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
        os.execv(BUSYBOX, ["busybox", "true", mark])

    pid = in_child(exec_at_the_terminal)
    os.close(slave)
    os.close(master)
    event = guest.event(mark)
    assert event.process.tty == (136, number)
    assert event.process.interactive
    assert event.process.session_id == pid
    assert guest.run().process.tty is None


def paths(guest: Guest) -> None:
    """paths across mounts, as given and as resolved; working directory; as seen inside a chroot"""
    root = Path("/tmp/root")
    (root / "bin").mkdir(parents=True)
    shutil.copy(BUSYBOX, root / "bin/tool")
    (root / "bin/link").symlink_to("tool")
    mark, inside = guest.mark(), guest.mark()
    argv = ["busybox", "true", mark]
    subprocess.run(argv, executable="./link", cwd=root / "bin", check=True)
    event = guest.event(mark)
    assert event.filename == "./link"
    assert event.names == ("link", "tool")
    assert event.process.executable == f"{root}/bin/tool"
    assert event.process.working_directory == f"{root}/bin"

    def exec_in_root() -> None:
        os.chroot(root)
        os.chdir("/")
        os.execv("/bin/tool", ["busybox", "true", inside])

    in_child(exec_in_root)
    event = guest.event(inside)
    assert event.process.executable == "/bin/tool"
    assert event.process.working_directory == "/"


def times(guest: Guest) -> None:
    """the time of the exec, and the start of the process"""
    before = time.time_ns()
    boot_before = boottime_ns()
    event = guest.run()
    slack = 50_000_000  # the guest's two clocks may be slewed apart by now
    assert before - slack <= event.time_ns <= time.time_ns() + slack
    assert boot_before <= event.process.start_ns <= boottime_ns()


def _shell(script: str, argument: str) -> subprocess.Popen[bytes]:
    """A shell, for it forks much faster than Python does, with pipes for its input and output."""
    argv = ["busybox", "sh", "-c", script, "storm", argument]
    return subprocess.Popen(argv, executable=BUSYBOX, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def _forks() -> int:
    """How many processes and threads were started since boot."""
    lines = Path("/proc/stat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("processes "))


def _run_in(folder: Path, mark: str) -> None:
    def join_and_exec() -> None:
        (folder / "cgroup.procs").write_text("0")
        os.execv(BUSYBOX, ["busybox", "true", mark])

    in_child(join_and_exec)


def _remove(folder: Path) -> None:
    while folder != CGROUPS:
        folder.rmdir()
        folder = folder.parent


def _cmdline(pid: int) -> tuple[str, ...]:
    return tuple(os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")[:-1])


def _start_ticks(pid: int) -> int:
    """Start of a process since boot in hundredths of a second."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2]
    return int(after_name.split()[19])
