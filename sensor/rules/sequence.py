"""Sequences: events in order, with common keys, within a time span.

In: documents with their times, in the order they happened. Out: the documents of each completed
sequence. As in Elasticsearch an event continues the latest sequence that waits for it, and the older ones
that waited for the same are dropped. The state is bounded by keys and by open sequences; what is pushed
out is counted in `evicted`.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from sensor.rules import values
from sensor.rules.fields import elements, getter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sensor.rules import ast

Document: TypeAlias = dict[str, Any]
Key: TypeAlias = tuple[str | None, ...]

# A key field may be an array, each element of which is a key. Their number is an attacker's choice.
MAX_KEYS_OF_DOCUMENT = 16


class Step:
    """One `[…]`: which events it takes, and their keys."""

    __slots__ = ("_getters", "matches")

    def __init__(self, matches: Callable[[Document], bool], fields: Sequence[ast.Field]) -> None:
        self.matches = matches
        self._getters = [(getter(key.name), key.optional) for key in fields]

    def keys(self, document: Document) -> list[Key]:
        """Give the keys of an event: none where a key field is missing and not optional."""
        choices: list[list[str | None]] = []
        for get, optional in self._getters:
            texts: list[str | None] = [
                text
                for value in elements(get(document))
                if (text := values.text_of(value)) is not None
            ]
            if not texts:
                if not optional:
                    return []
                texts = [None]
            choices.append(texts)
        return list(itertools.islice(itertools.product(*choices), MAX_KEYS_OF_DOCUMENT))


class Plan:
    """A sequence made ready: its stages, and what must be missing before each and after the last."""

    def __init__(
        self, tree: ast.Sequence, compile_filter: Callable[[ast.EventFilter], Any]
    ) -> None:
        def step(term: ast.Term) -> Step:
            return Step(compile_filter(term.filter), (*tree.by, *term.by))

        self.maxspan_ns = tree.maxspan_ns
        self.stages: list[Step] = []
        self.missing: list[list[Step]] = [[]]
        self.until = step(tree.until) if tree.until else None
        for term in tree.terms:
            if term.missing:
                self.missing[-1].append(step(term))
                continue
            # Runs are the same event several times; sharing the step, it is tested once.
            one = step(term)
            for _ in range(term.runs):
                self.stages.append(one)
                self.missing.append([])
        steps = [*self.stages, *itertools.chain(*self.missing)]
        self.steps = list(dict.fromkeys([*steps, self.until] if self.until else steps))
        # With nothing open, all else can do nothing.
        self.first_steps = list(dict.fromkeys([self.stages[0], *self.missing[0]]))


@dataclass(slots=True, eq=False)
class _Open:
    """An open sequence. `leading_ns` is when an event last came that must be missing before it."""

    start_ns: int
    documents: tuple[Document, ...]
    leading_ns: int | None
    dropped: bool = False


@dataclass(slots=True)
class _OfKey:
    """All of one key: the open sequence after each stage, and those that only wait for time to pass."""

    waiting: list[_Open | None]
    ripening: dict[int, _Open] = field(default_factory=dict)
    leading_ns: int | None = None
    touched_ns: int = 0

    def count(self) -> int:
        return sum(one is not None for one in self.waiting) + len(self.ripening)


class SequenceState:
    """The open sequences of one query.

    `evicted` counts sequences that were lost to the bounds, `open` those that are held.
    """

    def __init__(self, plan: Plan, *, max_keys: int, max_open: int) -> None:
        self.evicted = 0
        self.open = 0
        self._plan = plan
        self._max_keys = max_keys
        self._max_open = max_open
        # The least recently touched key stands first.
        self._keys: dict[Key, _OfKey] = {}
        self._ripening: list[tuple[int, int, Key, _Open]] = []
        self._order = itertools.count()

    def feed(self, document: Document, time_ns: int) -> list[tuple[Document, ...]]:
        """Take the next event; give the sequences that are complete now."""
        completed = self.expire(time_ns)
        hits = {
            step: keys
            for step in (self._plan.steps if self._keys else self._plan.first_steps)
            if step.matches(document) and (keys := step.keys(document))
        }
        if not hits:
            return completed
        self._forget_expired(time_ns)
        for step in self._plan.missing[-1]:
            for key in hits.get(step, ()):
                self._spoil(key)
        # From the last stage to the first, so that an event takes one place in a sequence only.
        for stage in reversed(range(len(self._plan.stages))):
            for key in hits.get(self._plan.stages[stage], ()):
                completed += self._advance(stage, key, document, time_ns)
            if stage:
                for step in self._plan.missing[stage]:
                    for key in hits.get(step, ()):
                        self._drop(key, stage - 1)
        for step in self._plan.missing[0]:
            for key in hits.get(step, ()):
                self._of(key, time_ns).leading_ns = time_ns
        for key in hits.get(self._plan.until, ()) if self._plan.until else ():
            for stage in range(len(self._plan.stages) - 1):
                self._drop(key, stage)
        self._evict()
        return _distinct(completed)

    def expire(self, now_ns: int) -> list[tuple[Document, ...]]:
        """Give the sequences that are complete because nothing came that must be missing at their end.

        `feed` does this for the time of its event. Without events it is worth calling now and then.
        """
        completed = []
        while self._ripening and self._ripening[0][0] < now_ns:
            _, order, key, one = heapq.heappop(self._ripening)
            if not one.dropped:
                completed.append(one.documents)
                del self._keys[key].ripening[order]
                self._closed(key, 1)
        return completed

    def _of(self, key: Key, time_ns: int) -> _OfKey:
        of_key = self._keys.pop(key, None) or _OfKey(waiting=[None] * len(self._plan.stages))
        of_key.touched_ns = time_ns
        self._keys[key] = of_key
        return of_key

    def _advance(
        self, stage: int, key: Key, document: Document, time_ns: int
    ) -> list[tuple[Document, ...]]:
        if stage == 0:
            of_key = self._of(key, time_ns)
            one = _Open(time_ns, (document,), of_key.leading_ns)
            self.open += 1
        else:
            known = self._keys.get(key)
            waiting = known.waiting[stage - 1] if known else None
            if waiting is None:
                return []
            of_key, one = self._of(key, time_ns), waiting
            of_key.waiting[stage - 1] = None
            span = self._plan.maxspan_ns
            if span is not None and time_ns - one.start_ns > span:
                self._closed(key, 1)
                return []
            one.documents = (*one.documents, document)
        if stage == len(self._plan.stages) - 1:
            return self._complete(key, of_key, one, time_ns)
        self._drop(key, stage, keep=True)
        of_key.waiting[stage] = one
        return []

    def _complete(
        self, key: Key, of_key: _OfKey, one: _Open, time_ns: int
    ) -> list[tuple[Document, ...]]:
        """Take a sequence whose events are all there, and judge what must be missing around it.

        There must be a span of maxspan's length that holds the sequence and nothing that must be missing.
        """
        span, leading, trailing = (
            self._plan.maxspan_ns,
            self._plan.missing[0],
            self._plan.missing[-1],
        )
        if span is not None and trailing:
            since = one.leading_ns if leading else one.start_ns
            if since is not None and since + span >= time_ns:
                order = next(self._order)
                of_key.ripening[order] = one
                heapq.heappush(self._ripening, (since + span, order, key, one))
                return []
        elif span is not None and one.leading_ns is not None and time_ns - one.leading_ns <= span:
            self._closed(key, 1)
            return []
        self._closed(key, 1)
        return [one.documents]

    def _spoil(self, key: Key) -> None:
        """Drop what would have completed had this event stayed away."""
        of_key = self._keys.get(key)
        if of_key is None or not of_key.ripening:
            return
        for one in of_key.ripening.values():
            one.dropped = True
        count = len(of_key.ripening)
        of_key.ripening.clear()
        self._closed(key, count)

    def _drop(self, key: Key, stage: int, *, keep: bool = False) -> None:
        of_key = self._keys.get(key)
        if of_key is None or of_key.waiting[stage] is None:
            return
        of_key.waiting[stage] = None
        self._closed(key, 1, keep=keep)

    def _closed(self, key: Key, count: int, *, keep: bool = False) -> None:
        self.open -= count
        of_key = self._keys[key]
        if not keep and of_key.leading_ns is None and not of_key.count():
            del self._keys[key]

    def _forget_expired(self, now_ns: int) -> None:
        span = self._plan.maxspan_ns
        while span is not None and self._keys:
            key = next(iter(self._keys))
            if self._keys[key].touched_ns + span >= now_ns:
                return
            self._remove(key)

    def _evict(self) -> None:
        while len(self._keys) > self._max_keys or self.open > self._max_open:
            self.evicted += max(1, self._remove(next(iter(self._keys))))
        if len(self._ripening) > 2 * self._max_open:
            self._ripening = [entry for entry in self._ripening if not entry[3].dropped]
            heapq.heapify(self._ripening)

    def _remove(self, key: Key) -> int:
        of_key = self._keys.pop(key)
        count = of_key.count()
        self.open -= count
        for one in of_key.ripening.values():
            one.dropped = True
        return count


def _distinct(completed: list[tuple[Document, ...]]) -> list[tuple[Document, ...]]:
    """Leave out what was found twice, under several keys of the same events."""
    if len(completed) < 2:
        return completed
    return list({tuple(map(id, documents)): documents for documents in completed}.values())
