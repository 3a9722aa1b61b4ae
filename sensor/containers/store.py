"""What is known now: a bounded, thread-safe map from container id to what each source said.

Containers stay for a grace time after their end, because the alert for a process may be made after
its container is gone. At the bound, ended ones go first, then those not asked for longest.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import replace
from typing import TYPE_CHECKING

from sensor.containers.container import MAX_EXEC_IDS, Container, merge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sensor.containers.source import Change


class Store:
    """All methods may be called from any thread; none waits for anything but a short lock."""

    def __init__(self, *, max_containers: int, grace_s: float, clock: Callable[[], float]) -> None:
        self._max = max_containers
        self._grace_s = grace_s
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[str, dict[str, Container]] = OrderedDict()
        self._ended: OrderedDict[str, float] = OrderedDict()  # id -> when, oldest first
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._known)

    def get(self, container_id: str) -> tuple[Container, ...]:
        """Return what each source knows, in the order in which they told."""
        with self._lock:
            by_source = self._known.get(container_id)
            if by_source is None:
                return ()
            self._known.move_to_end(container_id)
            return tuple(by_source.values())

    def all(self) -> list[Container]:
        """Return one merged container for each id, those not asked for longest first."""
        with self._lock:
            known = [tuple(by_source.values()) for by_source in self._known.values()]
        return [merged for containers in known if (merged := merge(containers)) is not None]

    def put(self, container: Container) -> None:
        """Take a source's answer to a question: newer than what it told before."""
        with self._lock:
            if container.id in self._ended:
                # An answer never revives what an event ended: it may have been on its way before.
                container = replace(container, pid=0)
            elif container.id not in self._known and container.pid == 0 and container.started:
                self._ended[container.id] = self._clock()
            self._put(container)
            self._evict()

    def apply(self, source: str, change: Change) -> None:
        """Take what a source told by itself."""
        with self._lock:
            if change.kind == "seed":
                self._seed(source, change.containers)
            elif change.kind == "create":
                for container in change.containers:
                    self._create(source, container)
            elif change.containers:
                for container in change.containers:
                    self._put(container)
            elif change.kind in ("die", "destroy"):
                self._end(change.container_id)
            else:
                self._change(source, change)
            self._evict()

    def sweep(self) -> None:
        """Forget the containers whose grace is over."""
        with self._lock:
            limit = self._clock() - self._grace_s
            while self._ended:
                container_id, when = next(iter(self._ended.items()))
                if when > limit:
                    break
                del self._ended[container_id]
                self._known.pop(container_id, None)

    def _create(self, source: str, container: Container) -> None:
        before = self._known.get(container.id, {}).get(source)
        if container.id in self._ended or (before is not None and before.complete):
            # An id that is given again is another container: nothing old may remain.
            del self._known[container.id]
            self._ended.pop(container.id, None)
        self._put(container)

    def _put(self, container: Container) -> None:
        by_source = self._known.setdefault(container.id, {})
        before = by_source.get(container.source)
        if before is not None and before.exec_ids and not container.exec_ids:
            container = replace(container, exec_ids=before.exec_ids)
        by_source[container.source] = container
        self._known.move_to_end(container.id)

    def _seed(self, source: str, containers: Iterable[Container]) -> None:
        listed = set()
        for container in containers:
            listed.add(container.id)
            before = self._known.get(container.id, {}).get(source)
            if before is not None and _is_another(before, container):
                del self._known[container.id]
                before = None
            if before is None or not before.complete:
                self._put(container)
            elif before.name != container.name:
                self._put(replace(before, name=container.name))
            self._ended.pop(container.id, None)
        for container_id, by_source in self._known.items():
            if source in by_source and container_id not in listed:
                self._ended.setdefault(container_id, self._clock())

    def _end(self, container_id: str) -> None:
        by_source = self._known.get(container_id)
        if by_source is None:
            return
        self._ended.setdefault(container_id, self._clock())
        for source, container in by_source.items():
            # The pid is free for anybody now.
            by_source[source] = replace(container, pid=0)

    def _change(self, source: str, change: Change) -> None:
        container = self._known.get(change.container_id, {}).get(source)
        if change.kind == "start":
            self._ended.pop(change.container_id, None)
        if container is None:
            return
        if change.kind == "start":
            # Started again: pid, address and start time are to be asked for.
            container = replace(container, pid=None, complete=False)
        elif change.kind == "rename" and change.name:
            container = replace(container, name=change.name)
        elif change.kind == "exec" and change.exec_id:
            execs = (*container.exec_ids, change.exec_id)[-MAX_EXEC_IDS:]
            container = replace(container, exec_ids=execs)
        self._known[change.container_id][source] = container

    def _evict(self) -> None:
        while len(self._known) > self._max:
            if self._ended:
                container_id, _ = self._ended.popitem(last=False)
                self._known.pop(container_id, None)
            else:
                self._known.popitem(last=False)
            self.evicted += 1


def _is_another(before: Container, now: Container) -> bool:
    """Tell a new container from an old one with the same id. Lists give whole seconds only."""
    if before.created is None or now.created is None:
        return False
    return before.created[:19] != now.created[:19]
