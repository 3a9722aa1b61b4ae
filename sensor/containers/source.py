"""The seam to the engines: what a source of container metadata is, and what it tells.

A source is asked from threads of its own (see `feed.py`), never from the event thread. Sources for
Docker's API, the CRI and the Kubernetes API stand beside this file; `MemorySource` is the double
for tests and simulations.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal, Protocol

from sensor.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sensor.containers.container import Container

# No honest answer about one container comes near; one with 10 MB of labels still fits, is read
# once, and is cut down before anything of it is kept.
MAX_ANSWER_BYTES: Final = 16 << 20
MAX_LIST_BYTES: Final = 64 << 20
MAX_EVENT_BYTES: Final = 1 << 20

ChangeKind = Literal[
    "seed", "create", "start", "rename", "update", "exec", "die", "destroy", "unreadable"
]


class SourceTimeoutError(SourceError):
    """The source did not answer in time."""


class SourceGarbageError(SourceError):
    """The source answered, but not what its protocol says, or more than the bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something a source tells by itself.

    `containers` is the whole list for "seed" (what is missing from it has ended) and one, as far as
    the event knows it, for "create". An "update" may bring whole containers, or only the
    `container_id` that all other kinds have. `name` comes with "rename", `exec_id` with "exec".
    "unreadable" is a message over the bound, whose meaning is lost.
    """

    kind: ChangeKind
    container_id: str = ""
    containers: tuple[Container, ...] = ()
    name: str | None = None
    exec_id: str | None = None


class Source(Protocol):
    """One place that knows containers. `look_up` is called from several threads, `watch` from one.

    `name` is short and unique among the sources of one resolver (docker, podman, containerd, …),
    fixed before the first call, and stands as `source` in every container the source tells of.
    """

    name: str

    def socket_paths(self) -> tuple[str, ...]:
        """Unix sockets that the unprivileged process must stay able to open."""
        ...

    def look_up(self, container_id: str) -> Container | None:
        """Ask for one container; None: this source has no such container. Raises SourceError."""
        ...

    def watch(self, tell: Callable[[Change], None], stop: threading.Event) -> None:
        """Tell a seed, then every change, until `stop` is set or the stream is lost.

        Returns when stopped; raises SourceError when the source is gone, to be called again.
        """
        ...

    def interrupt(self) -> None:
        """Make a `watch` that waits for its source return soon; called from another thread."""
        ...


@dataclass(slots=True)
class MemorySource:
    """A source without a daemon: tests and simulations put into it what it then tells.

    `failure` is raised by every look-up while set. `gate`, where given, is waited for by every
    look-up: a daemon that hangs.
    """

    name: str = "memory"
    containers: dict[str, Container] = field(default_factory=dict)
    failure: SourceError | None = None
    gate: threading.Event | None = None
    asked: list[str] = field(default_factory=list)
    watching: threading.Event = field(default_factory=threading.Event)
    _tell: Callable[[Change], None] | None = None
    _lost: threading.Event = field(default_factory=threading.Event)

    def socket_paths(self) -> tuple[str, ...]:
        return ()

    def look_up(self, container_id: str) -> Container | None:
        self.asked.append(container_id)
        if self.gate is not None:
            self.gate.wait()
        if self.failure is not None:
            raise self.failure
        return self.containers.get(container_id)

    def watch(self, tell: Callable[[Change], None], stop: threading.Event) -> None:
        if self.failure is not None:
            raise self.failure
        self._lost.clear()
        tell(Change(kind="seed", containers=tuple(self.containers.values())))
        self._tell = tell
        self.watching.set()
        self._lost.wait()
        self._tell = None
        self.watching.clear()
        if not stop.is_set():
            raise SourceError(f"{self.name}: stream lost")

    def interrupt(self) -> None:
        self._lost.set()

    def tell(self, changes: Iterable[Change]) -> None:
        """Hand changes to the resolver on the caller's thread, as the watch thread would."""
        for change in changes:
            if self._tell is not None:
                self._tell(change)
