"""From a match to the sinks: the alert's document, the rule's limits, the dispatcher.

In: a rule and the documents it matched. Out: documents submitted to the dispatcher, which never
blocks.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

from sensor.alerts.alert import alert_document
from sensor.alerts.dispatch import Dispatcher
from sensor.alerts.limits import Limiter
from sensor.ecs import Document
from sensor.rules.rule import Rule


class AlertOutlet:
    """For the pipeline's thread. `limiter` None sends every alert."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        limiter: Limiter | None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._dispatcher = dispatcher
        self._limiter = limiter
        self._clock = clock
        self.alerts: Counter[str] = Counter()

    def alert(self, documents: tuple[Document, ...], rule: Rule) -> None:
        document = alert_document(documents, rule)
        self.alerts[rule.id] += 1
        if self._limiter is None:
            self._send(document)
            return
        for passed in self._limiter.offer(document, rule, self._clock()):
            self._send(passed)

    def tick(self) -> None:
        """To be called about once a second: ends the rules' intervals."""
        if self._limiter is not None:
            for document in self._limiter.tick(self._clock()):
                self._send(document)
        self._dispatcher.tick()

    def flush(self) -> None:
        """Says what is still held back."""
        if self._limiter is not None:
            for document in self._limiter.flush(self._clock()):
                self._send(document)

    def _send(self, document: Document) -> None:
        self._dispatcher.submit(document, document["event"]["severity"])
