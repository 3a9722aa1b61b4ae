"""A runtime behind the CRI (containerd, CRI-O): stop and kill by its API, pause by the kernel.

The CRI has no call that pauses a container, and a container's network is its pod's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sensor.containers.cri import Channel
from sensor.containers.cri_answers import pb
from sensor.errors import SourceError
from sensor.respond.control import Action, Network, Seen, State
from sensor.respond.freezer import Freezer, freezer_of

if TYPE_CHECKING:
    from pathlib import Path

    from sensor.containers.container import Container
    from sensor.containers.cri import CriSource

_TIMEOUT_S: Final = 15.0
_RUNNING: Final = 1


class CriControl:
    """Acts through the runtime that the source reads from."""

    def __init__(self, source: CriSource, *, proc_root: Path) -> None:
        self.name = source.name
        self._source = source
        self._proc_root = proc_root

    def see(self, container_id: str) -> Seen | None:
        """Facts and state by the runtime, whether it is frozen by the kernel."""
        container = self._source.look_up(container_id)
        if container is None:
            return None
        if container.is_sandbox:
            return Seen(container=container, state=State.RUNNING)
        channel = Channel(self.name, self._source.path, _TIMEOUT_S)
        try:
            answer = channel.ask(
                "ContainerStatus",
                pb.ContainerStatusRequest(container_id=container_id),
                pb.ContainerStatusResponse,
            )
        finally:
            channel.close()
        if answer is None:
            return None
        state = State.RUNNING if answer.status.state == _RUNNING else State.STOPPED
        freezer = self._freezer(container)
        if state is State.RUNNING and freezer is not None and freezer.is_frozen:
            state = State.PAUSED
        return Seen(container=container, state=state)

    def list(self) -> tuple[Container, ...]:
        """What runs, or is paused."""
        return self._source.list()

    def refusal(self, action: Action, seen: Seen) -> str | None:
        """What the CRI has no call for, and the sandbox, which is no container of its own."""
        if seen.container.is_sandbox:
            return "it is the sandbox of a pod: name one of the pod's containers"
        if action in (Action.DISCONNECT, Action.RECONNECT):
            return (
                "its network is its pod's, and the CRI cannot take it away:"
                " use `--action quarantine`, or pause or stop it"
            )
        if action is Action.PAUSE and self._freezer(seen.container) is None:
            return "its cgroup has no freezer that can be reached from here: stop it"
        return None

    def act(
        self, action: Action, seen: Seen, *, grace_s: int, networks: tuple[Network, ...]
    ) -> None:
        """Do it; `networks` has no use here."""
        del networks
        freezer = self._freezer(seen.container)
        if action in (Action.PAUSE, Action.UNPAUSE):
            if freezer is None:
                raise SourceError(f"{self.name}: the container's cgroup is gone")
            freezer.freeze() if action is Action.PAUSE else freezer.thaw()
            return
        grace_s = grace_s if action is Action.STOP else 0
        if freezer is not None and freezer.is_frozen:
            # What is frozen takes no signal with cgroup v1, not even SIGKILL.
            freezer.thaw()
        channel = Channel(self.name, self._source.path, _TIMEOUT_S + grace_s)
        try:
            channel.ask(
                "StopContainer",
                pb.StopContainerRequest(container_id=seen.container.id, timeout=grace_s),
                pb.StopContainerResponse,
            )
        finally:
            channel.close()

    def close(self) -> None:
        """Nothing is held open."""

    def _freezer(self, container: Container) -> Freezer | None:
        return freezer_of(container.pid or 0, container.id, proc_root=self._proc_root)
