"""The seam to an engine that can act on containers: actions, states, and what a control offers."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from sensor.containers.container import Container


class Action(StrEnum):
    """What can be done to a container. The last two undo the first two."""

    PAUSE = "pause"
    DISCONNECT = "disconnect"
    STOP = "stop"
    KILL = "kill"
    UNPAUSE = "unpause"
    RECONNECT = "reconnect"


UNDONE_BY: Final = {Action.PAUSE: Action.UNPAUSE, Action.DISCONNECT: Action.RECONNECT}
ISOLATING: Final = (Action.PAUSE, Action.DISCONNECT, Action.STOP, Action.KILL)


class State(StrEnum):
    """Of a container: what matters for isolating it."""

    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A network that a container is in. `settings` is what its control needs to connect it again."""

    name: str
    addresses: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A container as it is now. `networks`: None where the engine does not say."""

    container: Container
    state: State
    networks: tuple[Network, ...] | None = None


class Control(Protocol):
    """One engine. All of it raises SourceError when the engine does not answer."""

    name: str

    def see(self, container_id: str) -> Seen | None:
        """The container as it is now; None: this engine has no such container."""
        ...

    def list(self) -> tuple[Container, ...]:
        """What runs, for names and beginnings of ids."""
        ...

    def refusal(self, action: Action, seen: Seen) -> str | None:
        """Why this engine cannot do that to this container, or None."""
        ...

    def act(
        self, action: Action, seen: Seen, *, grace_s: int, networks: tuple[Network, ...]
    ) -> None:
        """Do it. `grace_s` is for stop, `networks` for reconnect."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...
