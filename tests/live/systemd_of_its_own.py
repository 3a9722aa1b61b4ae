"""A systemd of the tests' own: process 1 of a pid namespace, with mounts and a cgroup that end with it.

It knows the units of one folder, and starts none by itself. What it starts runs on this kernel.
"""

from __future__ import annotations

import os
import secrets
import select
import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

from cgroup_of_its_own import CgroupOfItsOwn, hierarchies
from patience import patient

if TYPE_CHECKING:
    from types import TracebackType

PROGRAM = "/lib/systemd/systemd"
# Mounts of cgroups anew: from inside of the cgroup namespace their root is our cgroup.
BOOT = """
set -e
mount -t tmpfs run /run
if [ -d /sys/fs/cgroup/unified ]; then
    mount -t tmpfs cgroup /sys/fs/cgroup
    mkdir /sys/fs/cgroup/systemd /sys/fs/cgroup/unified
    mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
    mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
else
    umount --lazy /sys/fs/cgroup # the same once more on itself is refused
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
exec "$@"
"""


class Systemd:
    """Enter it, and it has booted; leave it, and nothing of it is left."""

    def __init__(self, folder: Path) -> None:
        self.units = folder / "units"
        self._folder = folder
        self._name = f"sensor-test-{secrets.token_hex(4)}"
        self._cgroup = CgroupOfItsOwn(self._name.encode())
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.units.mkdir(exist_ok=True)
        (self.units / "idle.target").write_text("[Unit]\nDefaultDependencies=no\n")
        self._cgroup.__enter__()
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(str(self._folder / "booted"))
        notify.settimeout(30)
        namespaces = ["--mount", "--cgroup", "--pid", "--fork", "--kill-child", "--mount-proc"]
        with (self._folder / "systemd.log").open("wb") as log, notify:
            self._process = subprocess.Popen(
                ["unshare", *namespaces, "bash", "-c", BOOT, "boot", PROGRAM, "--unit=idle.target"],
                env={
                    "PATH": os.environ["PATH"],
                    "container": "sensor-test",
                    "NOTIFY_SOCKET": str(self._folder / "booted"),
                    "SYSTEMD_UNIT_PATH": str(self.units),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=self._cgroup.join,  # noqa: PLW1509 - it writes to files, no more
            )
            try:
                while b"READY=1" not in notify.recv(4096):
                    pass
            except TimeoutError:
                self.__exit__(None, None, None)
                said = (self._folder / "systemd.log").read_text(errors="replace")
                raise AssertionError(f"systemd did not boot:\n{said[-2000:]}") from None
        return self

    def control(self, *arguments: str) -> str:
        """Run systemctl against it; returns what it printed, and fails where it fails."""
        assert self._process is not None
        (child,) = self._children()
        ran = subprocess.run(
            ["nsenter", f"--target={child}", "--mount", "--pid", "systemctl", *arguments],
            capture_output=True,
            text=True,
            timeout=patient(60),
            check=False,
        )
        assert ran.returncode == 0, ran.stderr
        return ran.stdout

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        printed = self.control("show", f"--property={','.join(properties)}", unit)
        return dict(line.split("=", 1) for line in printed.splitlines())

    def pid_outside(self, pid: int) -> int:
        """Our number of a process that has another one in there."""
        (child,) = self._children()
        namespace = os.readlink(f"/proc/{child}/ns/pid")
        for directory in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                lines = (directory / "status").read_text().splitlines()
                numbers = next(line for line in lines if line.startswith("NSpid:")).split()
                if numbers[-1] == str(pid) and os.readlink(directory / "ns/pid") == namespace:
                    return int(directory.name)
        raise AssertionError(f"there is no process {pid} in it")

    def _children(self) -> list[int]:
        assert self._process is not None
        pid = self._process.pid
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._process is not None
        ends = [os.pidfd_open(pid) for pid in self._children()]
        self._process.kill()  # and with it process 1, and with that all others
        self._process.wait()
        for end in ends:
            select.select([end], [], [])
            os.close(end)
        for root in hierarchies():
            for directory, _, _ in os.walk(root / self._name, topdown=False):
                if directory != str(root / self._name):
                    os.rmdir(directory)
        self._cgroup.__exit__(kind, error, trace)


def installed() -> bool:
    return Path(PROGRAM).exists() and shutil.which("systemctl") is not None and bool(hierarchies())
