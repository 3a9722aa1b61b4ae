"""From a match to the sinks: exceptions, the alert's document, collapse, limits, the dispatcher.

In: a rule and the documents it matched. Out: documents submitted to the dispatcher, which never
blocks.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable

from sensor.alerts.alert import alert_document, message
from sensor.alerts.collapse import Collapser
from sensor.alerts.dispatch import Dispatcher
from sensor.alerts.exceptions import Exceptions, hidden_document
from sensor.alerts.limits import Limiter
from sensor.ecs import Document, matching_view
from sensor.rules.rule import Rule
from sensor.state import Latency


class AlertOutlet:
    """For the pipeline's thread. `exceptions` may be replaced at any time.

    `limiter` None sends every alert. Each match is counted by its rule's id in `matches`, and once more
    by what became of it: in `hidden`, by rule and exception; in `collapsed`, where an earlier alert
    counts it; in `held_back`; or in `alerts`, by rule and severity, where it was sent.
    """

    def __init__(
        self,
        dispatcher: Dispatcher,
        exceptions: Exceptions,
        collapser: Collapser,
        limiter: Limiter | None,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._dispatcher = dispatcher
        self.exceptions = exceptions
        self._collapser = collapser
        self._limiter = limiter
        self._clock = clock
        self.latency: Latency | None = None
        self.matches: Counter[str] = Counter()
        self.hidden: Counter[tuple[str, str]] = Counter()
        self.collapsed: Counter[str] = Counter()
        self.held_back: Counter[str] = Counter()
        self.alerts: Counter[tuple[str, str]] = Counter()

    def alert(self, documents: tuple[Document, ...], rule: Rule, time_ns: int) -> Document | None:
        """Takes a match; `time_ns` is when its last exec was, since the epoch.

        Returns the alert when it went out by itself; None when it was hidden, counted or held back.
        """
        now = self._clock()
        self.matches[rule.id] += 1
        exemption = self.exceptions.find(matching_view(documents[-1]), rule, now)
        if exemption is not None:
            self.hidden[rule.id, exemption.id] += 1
            if exemption.read.text.record:
                self._dispatcher.submit(hidden_document(documents[-1], rule, exemption), 0)
            return None
        document = alert_document(documents, rule)
        first = sent = False
        for each in self._collapser.offer(document, rule, now):
            if each is document:
                first, sent = True, self._first(document, rule, now)
            else:
                self._update(each, now)
        if not first:
            self.collapsed[rule.id] += 1
        if sent and self.latency is not None:
            self.latency.add(self._clock() - time_ns / 1e9)
        return document if sent else None

    def _first(self, document: Document, rule: Rule, now: float) -> bool:
        """Sends the first alert of an action, if the rule's limit lets it through."""
        passed = [document] if self._limiter is None else self._limiter.offer(document, rule, now)
        self._send(passed)
        sent = any(each is document for each in passed)
        if sent:
            self.alerts[rule.id, rule.severity] += 1
        else:
            self.held_back[rule.id] += 1
        return sent

    def _update(self, document: Document, now: float) -> None:
        """Sends what is counted into an alert that was sent."""
        self._send([document] if self._limiter is None else self._limiter.update(document, now))

    def replace(self, collapser: Collapser, limiter: Limiter | None) -> None:
        """Counts and holds back by these from now on; what the old ones hold is said first."""
        self._say_held()
        self._collapser, self._limiter = collapser, limiter

    def update(self, alert: Document, rule: Rule, place: Document) -> None:
        """Sends an alert again, with what is known of its container by now.

        Under an id of its own: a receiver that drops doubles by `event.id` would drop it.
        """
        updated = {**alert, **place}
        updated["event"] = {**alert["event"], "id": f"{alert['event']['id']}-0"}
        updated["sensor"] = {**alert["sensor"], "update_of": alert["event"]["id"]}
        updated["message"] = message((updated,), rule.name)
        self._collapser.learn({**updated, "event": alert["event"], "sensor": alert["sensor"]})
        self._send([updated])

    def tick(self) -> None:
        """To be called about once a second: ends windows and intervals."""
        now = self._clock()
        for update in self._collapser.tick(now):
            self._update(update, now)
        if self._limiter is not None:
            self._send(self._limiter.tick(now))
        self._send(self.exceptions.tick(now))
        self._dispatcher.tick()

    def flush(self) -> None:
        """Says what is still counted or held back."""
        self._say_held()
        self.exceptions.save()

    def _say_held(self) -> None:
        now = self._clock()
        for update in self._collapser.flush():
            self._update(update, now)
        if self._limiter is not None:
            self._send(self._limiter.flush(now))

    def _send(self, documents: Iterable[Document]) -> None:
        for document in documents:
            self._dispatcher.submit(document, document["event"]["severity"])
