"""One source's threads: one listens to its changes, two ask it about single containers.

They are apart so that a stream that hangs delays no look-up, two so that one container which its
engine holds locked (dockerd does, while it starts or removes it) delays no other, and each source
has its own so that one that hangs delays no other. No exception leaves a thread: each is counted,
and the source is tried again with growing pauses.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable
from typing import Final, Literal

from sensor.containers.container import Container
from sensor.containers.source import Change, Source, SourceGarbageError, SourceTimeoutError
from sensor.errors import SourceError

log = logging.getLogger(__name__)

FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 5.0
MAX_QUEUED: Final = 10_000
ASKING: Final = 2

Outcome = Literal["found", "absent", "failed"]
Answer = Callable[["Feed", str, Outcome, Container | None, str], None]


class Feed:
    """Drives one source. The callbacks are called on its threads and must not block.

    `on_found` gets a container before the feed says that it asks no more, `on_answer` every outcome
    after that: whoever sees that nothing is asked for must find what was answered.
    """

    def __init__(
        self,
        source: Source,
        *,
        clock: Callable[[], float],
        slow_after_s: float,
        on_change: Callable[[Feed, Change], None],
        on_found: Callable[[Container], None],
        on_answer: Answer,
    ) -> None:
        self.source = source
        self.name = source.name
        self._counts: Counter[str] = Counter()
        self._counting = threading.Lock()
        self._clock = clock
        self._slow_after_s = slow_after_s
        self._on_change = on_change
        self._on_found = on_found
        self._on_answer = on_answer
        self._stop = threading.Event()
        self._wake = threading.Condition()
        self._urgent: deque[str] = deque()
        self._ahead: deque[str] = deque()
        self._queued: dict[str, bool] = {}  # id -> is urgent
        self._busy: list[tuple[str, float] | None] = [None] * ASKING  # with what, since when
        self._down: str | None = None
        self._changes = 0
        self._is_up = True
        self._threads = [
            threading.Thread(target=self._listen, name=f"{self.name}-watch", daemon=True),
            *(
                threading.Thread(
                    target=self._ask, args=(which,), name=f"{self.name}-lookup-{which}", daemon=True
                )
                for which in range(ASKING)
            ),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float) -> None:
        """Ask both threads to end and wait for them; one that hangs in its source is left alone."""
        self._stop.set()
        with self._wake:
            self._wake.notify_all()
        self.source.interrupt()
        for thread in self._threads:
            thread.join(timeout_s)

    def ask(self, container_id: str, *, urgent: bool) -> bool:
        """Queue a question, before all that only fill ahead if urgent; False if there is no room."""
        with self._wake:
            queued_urgent = self._queued.get(container_id)
            if queued_urgent is None and len(self._queued) >= MAX_QUEUED:
                self._count("lookup.queue_full")
                return False
            if queued_urgent is None or (urgent and not queued_urgent):
                # A stale entry in the other queue is skipped when its turn comes.
                (self._urgent if urgent else self._ahead).append(container_id)
                self._queued[container_id] = urgent
                self._wake.notify()
            return True

    def is_asking(self, container_id: str) -> bool:
        """Tell whether an answer for this id may come soon.

        One that takes long is no reason to say no: an engine answers nothing about a container while
        it starts it, and that is when its first process does its exec.
        """
        with self._wake:
            is_open = container_id in self._queued or any(
                busy is not None and busy[0] == container_id for busy in self._busy
            )
        return is_open and self.trouble() is None

    def counts(self) -> dict[str, int]:
        """Return counts by what happened: `lookup.found`, `watch.create`, `failed.timeout`, …."""
        with self._counting:
            return dict(self._counts)

    def trouble(self) -> str | None:
        """Say why an answer cannot be expected soon, or None: what keeps alerts from waiting."""
        since = [busy[1] for busy in self._busy if busy is not None]
        if len(since) == ASKING and (waited := self._clock() - max(since)) >= self._slow_after_s:
            return f"{self.name} has not answered for {waited:.1f} s"
        return self._down

    def _ask(self, which: int) -> None:
        while True:
            with self._wake:
                while not (self._queued or self._stop.is_set()):
                    self._wake.wait()
                if self._stop.is_set():
                    return
                is_urgent = bool(self._urgent)
                container_id = (self._urgent if is_urgent else self._ahead).popleft()
                if self._queued.get(container_id) is not is_urgent:
                    continue
                del self._queued[container_id]
                self._busy[which] = container_id, self._clock()
            outcome, container, reason = self._look_up(container_id)
            self._count(f"lookup.{outcome}")
            if container is not None:
                self._on_found(container)
            self._busy[which] = None
            self._on_answer(self, container_id, outcome, container, reason)

    def _look_up(self, container_id: str) -> tuple[Outcome, Container | None, str]:
        try:
            container = self.source.look_up(container_id)
        except SourceError as error:
            self._count_failure(error)
            if not isinstance(error, SourceGarbageError):
                # Nonsense about one container says nothing about the next; silence does.
                self._down = str(error)
            return "failed", None, str(error)
        except Exception as error:  # stage boundary: a source's bug must not end the thread
            self._count("lookup.crashed")
            log.exception("source=%s look-up crashed", self.name)
            return "failed", None, f"{self.name}: {type(error).__name__}"
        self._down = None
        if container is None:
            return "absent", None, ""
        if container.id != container_id:
            # Engines also answer for names and for the beginning of an id; a name that LXC gave
            # must not be taken for Docker's container of that name.
            self._count("lookup.other_id")
            return "absent", None, ""
        return "found", container, ""

    def _listen(self) -> None:
        pause = FIRST_PAUSE_S
        while not self._stop.is_set():
            before = self._changes
            try:
                self.source.watch(self._change, self._stop)
            except SourceError as error:
                if self._stop.is_set():  # it was interrupted
                    return
                self._count_failure(error)
                self._count("watch.lost")
                if not isinstance(error, SourceGarbageError):
                    self._down = str(error)
                if self._is_up:  # said once, not at each attempt
                    log.warning("source=%s lost: %s", self.name, error)
                self._is_up = False
            except Exception:  # stage boundary: see _look_up
                self._count("watch.crashed")
                log.exception("source=%s stream crashed", self.name)
            if self._changes != before:
                pause = FIRST_PAUSE_S
            self._stop.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE_S)

    def _change(self, change: Change) -> None:
        if not self._is_up:
            log.info("source=%s answers again", self.name)
        self._is_up = True
        self._changes += 1
        self._count(f"watch.{change.kind}")
        if change.kind == "seed":
            self._down = None
        self._on_change(self, change)

    def _count_failure(self, error: SourceError) -> None:
        kind = {SourceTimeoutError: "timeout", SourceGarbageError: "garbage"}.get(
            type(error), "unreachable"
        )
        self._count(f"failed.{kind}")

    def _count(self, what: str) -> None:
        with self._counting:
            self._counts[what] += 1
