"""The automatic response: alerts in, an action where the configuration names one for the rule.

It is delivered to by a worker like the sinks, so it never delays detection or other sinks. It is not
spooled: what an alert of an hour ago is about may be another matter now.
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict, deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sensor.alerts.escape import visible
from sensor.alerts.fields import text
from sensor.alerts.sinks.protocol import DELIVERED, Outcome, Outgoing
from sensor.errors import SensorError
from sensor.respond.audit import Actor, Audit
from sensor.respond.control import Action
from sensor.respond.controls import find_target, make_controls
from sensor.respond.perform import Cause, perform
from sensor.respond.plan import make_plan
from sensor.respond.protection import Protection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sensor.config import Respond
    from sensor.containers.source import Source

_log = logging.getLogger(__name__)

_HOUR_S: Final = 3600.0
_REMEMBERED: Final = 4096


class RespondSink:
    """Acts on the container of an alert whose rule has an action; says each step in the log.

    With `dry_run` it looks, plans and records, and leaves the container alone. Beyond `max_per_hour`
    it does nothing but say so.
    """

    durable = False
    rendered = False
    batch_size = 1

    def __init__(
        self,
        config: Respond,
        sources: Iterable[Source],
        *,
        name: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._automatic = config.automatic
        self._protection = Protection.of(config.protect)
        self._audit = Audit(Path(config.audit))
        self._controls, self._troubles = make_controls(sources)
        self._clock = clock
        self._acted: deque[float] = deque()
        self._done: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._counts = dict.fromkeys(("done", "failed", "held_back"), 0)
        for trouble in self._troubles:
            _log.error("automatic response: %s", trouble)

    def check(self) -> None:
        """Whether records can be written, as the user that goes on. Raises ConfigurationError."""
        self._audit.check()

    def accepts(self, severity: int, *, is_alert: bool) -> bool:  # noqa: ARG002
        """Alerts alone."""
        return is_alert

    def deliver(self, batch: Sequence[Outgoing]) -> Outcome:
        """Act. What fails is said and not tried again: a person decides then."""
        for item in batch:
            self._respond(item.document)
        return DELIVERED

    def counters(self) -> dict[str, Any]:
        """How many actions were done (or would have been), failed, and were held back."""
        return dict(self._counts)

    def close(self) -> None:
        """Let go of the engines."""
        for control in self._controls:
            control.close()

    def _respond(self, document: dict[str, Any]) -> None:
        rule_id = text(document, "rule.id")
        container_id = text(document, "container.id")
        action = self._automatic.rules.get(rule_id)
        if action is None or not container_id or text(document, "sensor.update_of"):
            return
        if (container_id, action) in self._done:
            return
        now = self._clock()
        while self._acted and now - self._acted[0] >= _HOUR_S:
            self._acted.popleft()
        about = f"{action} of container {container_id[:12]} for rule {visible(rule_id, 80)}"
        if len(self._acted) >= self._automatic.max_per_hour:
            self._counts["held_back"] += 1
            _log.error(
                "automatic response: %s held back, %d in the last hour", about, len(self._acted)
            )
            return
        self._acted.append(now)
        self._done[container_id, action] = None
        if len(self._done) > _REMEMBERED:
            self._done.popitem(last=False)
        cause = Cause(alert_id=text(document, "event.id") or None, rule_id=rule_id, automatic=True)
        try:
            target = find_target(self._controls, container_id, self._troubles)
            plan = make_plan(Action(action), target.seen, target.control, self._protection)
            said = perform(
                plan,
                audit=self._audit,
                actor=Actor.current(),
                cause=cause,
                dry_run=self._automatic.dry_run,
            )
        except SensorError as error:
            self._counts["failed"] += 1
            _log.error("automatic response: %s: %s", about, visible(str(error)))
            return
        self._counts["done"] += 1
        _log.warning("automatic response: %s: %s", about, said)
