"""A Docker daemon of our own: started in private namespaces, gone without a trace afterwards.

The daemon sees the machine's cgroups as they are (no remount), so the kernel reports the same cgroup
names that a real host would; network and mounts are private, so another daemon on the machine is not
disturbed (a second dockerd with `--bridge=none` deletes the first one's docker0).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Self

import docker

if TYPE_CHECKING:
    from types import TracebackType

READY_SECONDS = 60
STOP_SECONDS = 20


class EngineError(Exception):
    """The daemon cannot be started; the message holds the last lines of its log."""


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
        self._mount_namespaces: set[int] = set()

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
        return docker.DockerClient(base_url=self.host, timeout=60)

    def start(self) -> Self:
        reason = missing_for_engine()
        if reason is not None:
            raise EngineError(reason)
        if self._directory is None:
            # Not /tmp, which may be a tmpfs: images and layers belong on a disk.
            parent = self._parent or Path("/var/tmp")
            self._directory = Path(tempfile.mkdtemp(prefix="sensor-engine-", dir=parent))
            # The sensor that reads the socket is unprivileged: it must be able to walk here.
            self._directory.chmod(0o755)
        with self.log.open("ab") as log:
            # `--pdeathsig`: if the test run dies without its teardown, so does the daemon.
            self._process = subprocess.Popen(
                [
                    *("unshare", "--net", "--mount", "--propagation", "private"),
                    *("setpriv", "--pdeathsig", "TERM", "dockerd"),
                    *self._options(),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            self._await_ready()
        except BaseException:
            self.stop()
            raise
        self._mount_namespaces.add(Path(f"/proc/{self._process.pid}/ns/mnt").stat().st_ino)
        return self

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
            if self.socket.exists():
                client = self.client()
                try:
                    client.ping()
                except Exception:  # noqa: BLE001 - any kind of "not yet": asked again below
                    pass
                else:
                    return
                finally:
                    client.close()
            # dockerd announces readiness to systemd only, so it has to be asked.
            time.sleep(0.05)
        raise EngineError(f"dockerd did not answer within {READY_SECONDS} s:\n{self._log_tail()}")

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
        self._process.kill()
        self._process.wait()
        self._process = None

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
        """Kill what still lives in a mount namespace we made: containerd or shims after a crash.

        The namespaces are ours alone, so nothing that somebody else started can be in them.
        """
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with suppress(OSError):  # gone meanwhile
                if (entry / "ns/mnt").stat().st_ino in self._mount_namespaces:
                    os.kill(int(entry.name), signal.SIGKILL)
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
