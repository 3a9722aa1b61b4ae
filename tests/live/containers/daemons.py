"""Container engines of our own beside the Docker one of `docker_engine`: containerd, Podman, and
Docker on cgroup v2. Each has its own files and private namespaces, and is gone afterwards.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import docker
import grpc
from cgroup_of_its_own import hierarchies
from cri_control import Cri
from docker.errors import DockerException
from docker_engine import STARTS, TOO_SLOW, with_own_containerd
from patience import patient

if TYPE_CHECKING:
    from types import TracebackType

READY_SECONDS = patient(60)
STOP_SECONDS = patient(20)
PAUSE = "docker.io/sensor-test/pause:1"

CONTAINERD = """
version = 2
root = "{directory}/root"
state = "{directory}/state"
[grpc]
  address = "{socket}"
[ttrpc]
  address = "{socket}.ttrpc"
[plugins."io.containerd.internal.v1.opt"]
  path = "{directory}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  stream_server_address = "127.0.0.1"
"""
PODMAN = """
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
pids_limit = 0
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


class Daemon:
    """A daemon in a mount and a network namespace of its own, where nothing else lives."""

    programs: tuple[str, ...] = ()

    @classmethod
    def missing(cls) -> str | None:
        """Why it cannot run here, or None."""
        absent = [program for program in cls.programs if shutil.which(program) is None]
        return f"not installed: {', '.join(absent)}" if absent else None

    def __init__(self) -> None:
        # A short path: a socket's may have 107 characters. Not mkdtemp, whose directory only root
        # may enter, while the sensor that reads the socket is not root.
        self.directory = Path("/var/tmp") / f"sensor-{secrets.token_hex(5)}"
        self.socket = self.directory / self.socket_name
        self._process: subprocess.Popen[bytes] | None = None
        self._namespace = -1

    socket_name = "daemon.sock"
    before = ""  # shell commands inside the namespaces, before the daemon
    cgroup: str | None = None  # the directory of each hierarchy that it leaves behind

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        return {}

    def __enter__(self) -> Self:
        self.directory.mkdir(mode=0o755)
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        command = self.command()
        script = f'ip link set lo up; {self.before} exec setpriv --pdeathsig TERM "$@"'
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    "unshare",
                    "-n",
                    "-m",
                    "--propagation",
                    "private",
                    "sh",
                    "-c",
                    script,
                    "sh",
                    *command,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **self.environment()},
            )
        deadline = time.monotonic() + READY_SECONDS
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(
                    f"{command[0]}: {(self.directory / 'log').read_text()[-2000:]}"
                )
            time.sleep(0.05)  # no daemon says to its parent that it is ready
        if self._namespace < 0:
            self._namespace = os.open(f"/proc/{self._process.pid}/ns/mnt", os.O_RDONLY)

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the daemon alone; what it started goes on."""
        if self._process is not None:
            self._process.send_signal(how)
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def stop(self) -> None:
        """End the daemon and all that lives in its namespace, which is ours alone."""
        self.end()
        if self._namespace >= 0:
            ours = os.fstat(self._namespace).st_ino
            for entry in Path("/proc").iterdir():
                with suppress(OSError):
                    if entry.name.isdigit() and (entry / "ns/mnt").stat().st_ino == ours:
                        os.kill(int(entry.name), signal.SIGKILL)
            os.close(self._namespace)
            self._namespace = -1
        for hierarchy in hierarchies() if self.cgroup else ():
            for directory, _, _ in os.walk(hierarchy / str(self.cgroup), topdown=False):
                with suppress(OSError):  # not empty: somebody else's
                    Path(directory).rmdir()
        shutil.rmtree(self.directory, ignore_errors=True)


class DockerOnV2(Daemon):
    """Docker where /sys/fs/cgroup is the unified hierarchy alone."""

    programs = ("dockerd", "containerd", "runc")
    socket_name = "docker.sock"

    @property
    def before(self) -> str:  # type: ignore[override]
        """Cgroups v2 alone, and a containerd of its own."""
        return (
            "umount -l /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup || exit 1;"
            f"{with_own_containerd(self.directory)}"
        )

    def command(self) -> list[str]:
        return [
            *("dockerd", "--bridge=none", "--iptables=false", "--ip6tables=false"),
            f"--data-root={self.directory}/data",
            f"--exec-root={self.directory}/exec",
            f"--pidfile={self.directory}/pid",
            f"--host=unix://{self.socket}",
            f"--containerd-namespace={self.directory.name}",
            f"--containerd-plugins-namespace={self.directory.name}-plugins",
        ]

    def start(self) -> None:
        """Again where dockerd gave up on its containerd, for which it waits 15 s, whatever the machine."""
        for left in reversed(range(STARTS)):
            # One that was not reaped yet would be taken for alive.
            (self.directory / "exec/containerd/containerd.pid").unlink(missing_ok=True)
            try:
                super().start()
            except AssertionError as error:
                if left == 0 or TOO_SLOW not in str(error):
                    raise
                self.end()
            else:
                return

    def client(self) -> docker.DockerClient:
        return docker.DockerClient(base_url=f"unix://{self.socket}", timeout=READY_SECONDS)

    def answers(self) -> bool:
        with suppress(DockerException):
            self.client().close()
            return True
        return False


class Podman(DockerOnV2):
    """Podman's service, which answers like Docker."""

    programs = ("podman", "conmon", "runc")
    socket_name = "podman.sock"
    cgroup = "libpod_parent"
    before = ""

    def environment(self) -> dict[str, str]:
        config = self.directory / "containers.conf"
        config.write_text(PODMAN)
        return {"CONTAINERS_CONF": str(config), "TMPDIR": str(self.directory)}

    def command(self) -> list[str]:
        return [
            "podman",
            f"--root={self.directory}/root",
            f"--runroot={self.directory}/run",
            f"--tmpdir={self.directory}/tmp",
            *("--storage-driver=vfs", "system", "service", "--time=0"),
            f"unix://{self.socket}",
        ]


class Containerd(Daemon):
    """containerd with its CRI, as a kubelet uses it."""

    programs = ("containerd", "ctr", "runc")
    socket_name = "containerd.sock"
    cgroup = "kubepods"

    def command(self) -> list[str]:
        config = self.directory / "config.toml"
        config.write_text(
            CONTAINERD.format(directory=self.directory, socket=self.socket, pause=PAUSE)
        )
        return ["containerd", "--config", str(config)]

    def cri(self) -> Cri:
        return Cri(str(self.socket), self.directory / "logs")

    def answers(self) -> bool:
        with suppress(grpc.RpcError):
            return self.cri().version() == "containerd"
        return False

    def load(self, images: bytes) -> None:
        """Take images as `docker save` writes them."""
        command = ["ctr", "-a", str(self.socket), "-n", "k8s.io", "images", "import", "-"]
        subprocess.run(command, input=images, check=True, capture_output=True)
