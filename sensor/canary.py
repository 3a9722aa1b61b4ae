"""The canary: an exec of our own that must come all the way through.

It proves that the program is attached, the filter lets through what it should, and the rings are
read. Its argv carries a token that nobody can guess and that the filter knows.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from sensor.event import ExecEvent

_PROGRAM = "/bin/true"


class Canary:
    """One token for the life of the sensor; `seen` counts the execs that came through."""

    def __init__(self) -> None:
        self._token = f"sensor-canary-{os.urandom(8).hex()}"
        self.sent = 0
        self.seen = 0
        self.seen_at = 0.0

    @property
    def literal(self) -> bytes:
        """What the filter must let through: the token as a whole argument."""
        return f"\0{self._token}\0".encode()

    def send(self) -> None:
        """Starts the program and waits for its end, about a millisecond."""
        pid = os.posix_spawn(_PROGRAM, [_PROGRAM, self._token], {})
        os.waitpid(pid, 0)
        self.sent += 1

    def take(self, event: ExecEvent) -> bool:
        """Whether the event is the canary's: it goes no further."""
        if event.failure or event.args is None or self._token not in event.args:
            return False
        self.seen += 1
        self.seen_at = time.time()
        return True

    def await_(self, pump: Callable[[float], None], timeout_s: float) -> bool:
        """Sends one and pumps events until it is seen; False after the timeout."""
        before = self.seen
        self.send()
        deadline = time.monotonic() + timeout_s
        while self.seen == before and time.monotonic() < deadline:
            pump(0.05)
        return self.seen > before
