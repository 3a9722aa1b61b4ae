"""The sensor watches itself: losses that grow and a canary that does not come back are alerts.

In: counters, the canary and the program's attachments, about once a second. Out: notices for the alert
stream, of high severity. What cannot get right again is `lost`: then only a fresh start helps.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sensor.alerts.notice import notice
from sensor.canary import Canary
from sensor.ecs import Document
from sensor.rules.rule import Severity

_LOSSES_EVERY_S = 5.0
# Canaries in a row that did not come, though no full ring explains it, before sight is given up.
_MISSED_MAX = 3
# Losses, by the counter's name: an exec, or a part of one, was not judged.
LOSSES = {
    "ring_full": "execs lost, the ring was full",
    "args_lost": "parts of argv lost, the ring was full",
    "call_failed": "execs lost, a tail call failed",
    "no_scratch": "execs lost, no scratch memory",
    "failed_lost": "execs that failed lost, their ring was full",
    "missed": "runs of the program skipped by the kernel",
    "procs_full": "processes not kept in the table",
    "args_error": "argv not readable",
    "decode_errors": "records not decodable",
    "pipeline_errors": "events not handled",
    "incomplete": "argvs incomplete",
}


@dataclass(slots=True)
class Watch:
    """For the loop's thread. Times are of a clock that never goes back.

    `blind` is true from a canary that did not come through within `canary_timeout_s` until one does;
    meanwhile one follows the other. `lost` says why the sensor will not see again, None while it may.
    `detached` names the programs that are attached no more. `drained` is how often the rings were found
    empty, which the loop counts.
    """

    counters: Callable[[], Mapping[str, int]]
    canary: Canary
    common: Mapping[str, Any]
    canary_interval_s: float
    detached: Callable[[], Sequence[str]] = list
    canary_timeout_s: float = 5.0
    blind: bool = False
    lost: str | None = None
    drained: int = 0
    _losses: dict[str, int] = field(default_factory=dict)
    _next_look: float = 0.0
    _next_canary: float = 0.0
    _sent_at: float | None = None
    _awaited: int = 0
    _before: Mapping[str, int] = field(default_factory=dict)
    _drained_before: int = 0
    _missed: int = 0

    def losses(self) -> dict[str, int]:
        """What was lost since the start, without zeros."""
        counts = self.counters()
        return {name: counts[name] for name in LOSSES if counts.get(name)}

    def tick(self, now: float) -> list[Document]:
        notices = self._watch_canary(now)
        if now >= self._next_look:
            self._next_look = now + _LOSSES_EVERY_S
            notices += self._watch_losses()
            if gone := self.detached():
                self.lost = f"its program in the kernel is detached ({', '.join(sorted(gone))})"
        if self.lost is not None:
            self.blind = True
            notices.append(self.last_words(self.lost))
        return notices

    def last_words(self, reason: str) -> Document:
        """What is said to every sink when the sensor gives up."""
        return self._notice(
            "sight_lost",
            f"The sensor ends with exit code 3, to be started anew: {reason}",
            {"reason": reason, "counters": dict(self.counters())},
            severity="critical",
        )

    def _watch_losses(self) -> list[Document]:
        losses = self.losses()
        grown = {
            name: count - self._losses.get(name, 0)
            for name, count in losses.items()
            if count != self._losses.get(name, 0)
        }
        self._losses = losses
        if not grown:
            return []
        what = ", ".join(f"{LOSSES[name]}: {count}" for name, count in grown.items())
        return [
            self._notice(
                "kernel_loss",
                f"The sensor could not judge all execs ({what})",
                {"grown": grown, "total": losses},
            )
        ]

    def _watch_canary(self, now: float) -> list[Document]:
        if self._sent_at is not None:
            came = self.canary.seen >= self._awaited
            if came:
                self._sent_at = None
                self._missed = 0
                if self.blind:
                    self.blind = False
                    return [self._notice("sight_regained", "The sensor sees execs again", {})]
            elif now - self._sent_at >= self.canary_timeout_s:
                self._sent_at = None
                self._next_canary = now
                self._count_missed()
                if not self.blind:
                    self.blind = True
                    seconds = self.canary_timeout_s
                    text = f"The sensor is blind: an exec of its own did not come in {seconds:g} s"
                    return [self._notice("blind", text, {"counters": dict(self.counters())})]
            return []
        if self.canary_interval_s and now >= self._next_canary:
            self._next_canary = now + self.canary_interval_s
            self._awaited = self.canary.seen + 1
            self._sent_at = now
            self._before = dict(self.counters())
            self._drained_before = self.drained
            try:
                self.canary.send()
            except OSError as exc:
                self._sent_at = None
                return [self._notice("canary_failed", f"No canary can be started: {exc}", {})]
        return []

    def _count_missed(self) -> None:
        """Counts a canary that did not come, unless a storm explains it.

        One that filled the ring, or one that the loop is still busy with: the canary lies behind it.
        """
        counts = self.counters()
        is_behind = self.drained == self._drained_before
        if is_behind or counts.get("ring_full", 0) != self._before.get("ring_full", 0):
            self._missed = 0
            return
        self._missed += 1
        if self._missed < _MISSED_MAX:
            return
        if counts.get("execs", 0) == self._before.get("execs", 0):
            why = "its program in the kernel does not run"
        else:
            why = "what its program in the kernel tells does not come through"
        self.lost = f"{why}: of {self._missed} execs of its own none was seen"

    def _notice(
        self, code: str, message: str, details: Mapping[str, Any], severity: Severity = "high"
    ) -> Document:
        return notice(
            code,
            message,
            severity=severity,
            time=time.time(),
            details=details,
            common=self.common,
        )
