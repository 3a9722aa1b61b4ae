"""A Docker daemon of our own: started in private namespaces, gone without a trace afterwards.

The daemon sees the machine's cgroups as they are (no remount), so the kernel reports the same cgroup
names that a real host would; network and mounts are private, so another daemon on the machine is not
disturbed (a second dockerd with `--bridge=none` deletes the first one's docker0).
"""

from __future__ import annotations

import os
import secrets
import select
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import docker
from cgroup_of_its_own import hierarchies
from docker.errors import DockerException
from patience import patient

if TYPE_CHECKING:
    from types import TracebackType

READY_SECONDS = patient(60)
STOP_SECONDS = patient(20)
STARTS = 3
TOO_SLOW = "timeout waiting for containerd to start"


class EngineError(Exception):
    """The daemon cannot be started; the message holds the last lines of its log."""


def with_own_containerd(directory: Path) -> str:
    """Shell commands, for a mount namespace of its own, that make a dockerd start its own containerd.

    One that the machine runs would be used in its place, and does not see the mounts in the daemon's
    namespace: its socket is out of sight there. What the daemon's own containerd has there instead is
    in `directory`, and stays over a crash: shims whose sockets were gone would be taken for dead.
    """
    sockets = directory / "containerd"
    sockets.mkdir(exist_ok=True)
    return f"[ ! -d /run/containerd ] || mount --bind {sockets} /run/containerd || exit 1;"


def missing_for_engine() -> str | None:
    """Why no daemon can be started here, or None."""
    if os.geteuid() != 0:
        return "root is needed to start dockerd"
    for program in ("dockerd", "containerd", "runc", "unshare", "setpriv"):
        if shutil.which(program) is None:
            return f"{program} is not installed (Debian: docker.io, util-linux)"
    return None


class DockerEngine:
    """One dockerd with its own data, containerd, sockets and namespaces.

    `start` returns when the daemon answers; `stop` ends its containers, shims, containerd and the
    daemon, and removes its files. `crash` kills the daemon alone.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._parent = directory
        self._directory: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        # Ids and pidfds of the containers that a crash left behind.
        self._orphans: list[tuple[str, int]] = []
        # Held open: the number of a namespace that is gone is given to the next one, anybody's.
        self._mount_namespaces: list[int] = []

    @property
    def directory(self) -> Path:
        assert self._directory is not None, "the engine was not started"
        return self._directory

    @property
    def socket(self) -> Path:
        return self.directory / "docker.sock"

    @property
    def host(self) -> str:
        """The address in DOCKER_HOST form."""
        return f"unix://{self.socket}"

    @property
    def log(self) -> Path:
        return self.directory / "dockerd.log"

    def client(self) -> docker.DockerClient:
        return docker.DockerClient(base_url=self.host, timeout=READY_SECONDS)

    def start(self) -> Self:
        reason = missing_for_engine()
        if reason is not None:
            raise EngineError(reason)
        if self._directory is None:
            # Not /tmp, which may be a tmpfs: images and layers belong on a disk.
            parent = self._parent or Path("/var/tmp")
            # Not mkdtemp: containerd's namespaces do not take every name that it makes.
            self._directory = parent / f"sensor-engine-{secrets.token_hex(6)}"
            # The sensor that reads the socket is unprivileged: it must be able to walk here.
            self._directory.mkdir(mode=0o755)
        try:
            for left in reversed(range(STARTS)):
                self._spawn()
                try:
                    self._await_ready()
                    break
                except EngineError:
                    if left == 0 or not self._was_too_slow():
                        raise
        except BaseException:
            self.stop()
            raise
        assert self._process is not None
        namespace = f"/proc/{self._process.pid}/ns/mnt"
        self._mount_namespaces.append(os.open(namespace, os.O_RDONLY | os.O_CLOEXEC))
        return self

    def _spawn(self) -> None:
        with self.log.open("ab") as log:
            # `--pdeathsig`: if the test run dies without its teardown, so does the daemon.
            self._process = subprocess.Popen(
                [
                    *("unshare", "--net", "--mount", "--propagation", "private"),
                    *(
                        "sh",
                        "-c",
                        f'{with_own_containerd(self.directory)} exec "$@"',
                        "sh",
                        "setpriv",
                        "--pdeathsig",
                        "TERM",
                        "dockerd",
                    ),
                    *self._options(),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _was_too_slow(self) -> bool:
        """Whether dockerd gave up on its containerd, for which it waits 15 s, whatever the machine."""
        assert self._process is not None
        if self._process.poll() is None or TOO_SLOW not in self.log.read_text(errors="replace"):
            return False
        self._forget_containerd()
        return True

    def _forget_containerd(self) -> None:
        # It dies with its daemon, but as long as nobody has reaped it the next daemon would take it for
        # alive and wait for it.
        (self.directory / "exec/containerd/containerd.pid").unlink(missing_ok=True)

    def _options(self) -> list[str]:
        return [
            "--bridge=none",
            "--iptables=false",
            "--ip6tables=false",
            f"--data-root={self.directory / 'data'}",
            f"--exec-root={self.directory / 'exec'}",
            f"--pidfile={self.directory / 'dockerd.pid'}",
            f"--host={self.host}",
            # A name of its own, so that two engines never meet in one containerd.
            f"--containerd-namespace={self.directory.name}",
            f"--containerd-plugins-namespace={self.directory.name}-plugins",
        ]

    def _await_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise EngineError(f"dockerd ended at once:\n{self._log_tail()}")
            try:
                client = self.client()  # asks for the version
            except DockerException:
                # dockerd announces readiness to systemd only, so it has to be asked again.
                time.sleep(0.05)
            else:
                client.close()
                return
        raise EngineError(f"dockerd did not answer within {READY_SECONDS:g} s:\n{self._log_tail()}")

    def _log_tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    def stop(self) -> None:
        """End everything that `start` began; safe to call twice."""
        if self._process is not None:
            if self._process.poll() is None:
                with suppress(Exception):  # a broken daemon is killed below all the same
                    self._remove_containers()
            self._end_daemon()
        self._end_leftovers()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def crash(self) -> None:
        """Kill the daemon: its socket answers no more, its containers go on; `start` brings it back."""
        assert self._process is not None
        client = self.client()
        for container in client.containers.list(ignore_removed=True):
            # Nobody else would end these, should the daemon not come back. One that is ending has no
            # process by now, or 0 for its number.
            with suppress(OSError):
                pidfd = os.pidfd_open(container.attrs["State"]["Pid"])
                self._orphans.append((container.id, pidfd))
        client.close()
        self._process.kill()
        self._process.wait()
        self._process = None
        self._forget_containerd()

    def _remove_containers(self) -> None:
        client = self.client()
        try:
            for container in client.containers.list(all=True):
                container.remove(force=True)
        finally:
            client.close()

    def _end_daemon(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def _end_leftovers(self) -> None:
        """Kill what a crash left: containers, and what lives in a mount namespace of our making.

        The namespaces are ours alone, so nothing that somebody else started can be in them.
        """
        for container, pidfd in self._orphans:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            select.select([pidfd], [], [], STOP_SECONDS)
            os.close(pidfd)
            # Its runtime was not asked to delete it, so nobody else removes its cgroups.
            for root in hierarchies():
                with suppress(OSError):  # gone by the daemon that came back
                    (root / "docker" / container).rmdir()
        self._orphans.clear()
        ours = {os.fstat(namespace).st_ino for namespace in self._mount_namespaces}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with suppress(OSError):  # gone meanwhile
                if (entry / "ns/mnt").stat().st_ino in ours:
                    os.kill(int(entry.name), signal.SIGKILL)
        for namespace in self._mount_namespaces:
            os.close(namespace)
        self._mount_namespaces.clear()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
