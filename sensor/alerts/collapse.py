"""One alert per action: alerts in, those to send now out, with the repetitions counted.

An action is what one process and its descendants do in one container under one rule: `egrep` that
becomes `grep -E`, `xargs` and the `grep` it starts, `find -exec grep` over thousands of files. Its
first alert leaves at once. At the end of a window in which more was seen, one update says how often,
when first and last, and with which argv. The next window follows only on such a one, so a long action
gives one update per window, and a quiet window ends it.

What is remembered is bounded in bytes, whatever argv and labels hold: over that the oldest actions
end early, which costs a second first alert at most.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from sensor.alerts.alert import command_of, place_of
from sensor.alerts.encode import encode
from sensor.alerts.escape import elide, visible
from sensor.alerts.fields import text, texts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sensor.rules.rule import Rule

# Of all actions together, roughly.
_MAX_BYTES = 2 << 20
# What an action, a process of it, and an argv that is told apart take beside their texts.
_ACTION_BYTES = 1_500
_MEMBER_BYTES = 250
_ARGV_BYTES = 100
# An action remembers its first alert for a while; of one with a longer argv than this, in
# characters, only the two ends of each argument.
_MAX_REMEMBERED = 8_192
_MAX_MEMBERS = 1_024
_MAX_ARGV = 20
_MAX_ARGUMENTS = 32
_MAX_ARGUMENT = 512
# How many different argv are told apart for the number of distinct ones.
_MAX_DISTINCT = 10_000

# Rule, container, process.
_Key = tuple[str, str, str]


@dataclass(slots=True, kw_only=True)
class _Action:
    """What is known of one action. Times as in the documents, except `ends`; `size` in bytes."""

    first_alert: bytes  # encoded and compressed: a dict takes some twenty times the memory
    first_id: str
    size: int = 0
    ends: float
    last_time: str
    count: int = 1
    told: int = 1
    updates: int = 0
    argv: dict[int, dict[str, Any]] = field(default_factory=dict)
    distinct: set[int] = field(default_factory=set)
    members: list[_Key] = field(default_factory=list)


class Collapser:
    """Keeps the actions that are going on; for one thread. Times are in seconds, from any clock.

    With a `window` of 0 every alert is sent as it is.
    """

    def __init__(self, *, window: float = 60.0) -> None:
        self._window = window
        self._actions: dict[str, _Action] = {}  # by the first alert's id, oldest first
        self._by_process: dict[_Key, _Action] = {}
        self._bytes = 0
        self._collapsed = 0

    def offer(self, document: dict[str, Any], rule: Rule, now: float) -> list[dict[str, Any]]:
        """Give what to send now: the alert, if it is the first of its action, and what fell due."""
        process = text(document, "process.entity_id")
        if not self._window or not process:
            return [document]
        ready = self.tick(now)
        keys = list(_keys(document, rule.id, process))
        action = next((self._by_process[key] for key in keys if key in self._by_process), None)
        if action is not None:
            self._collapsed += 1
            self._count(action, document, keys[0])
            return ready + self._shrink()
        action = _Action(
            first_alert=_remembered(document),
            first_id=text(document, "event.id"),
            ends=now + self._window,
            last_time=text(document, "@timestamp"),
        )
        if (before := self._actions.get(action.first_id)) is not None:
            ready += self._end(before)
        self._actions[action.first_id] = action
        self._grow(action, _ACTION_BYTES + len(action.first_alert))
        self._join(action, keys[0])
        self._grow(action, _see(action, document))
        return [*ready, *self._shrink(), document]

    def learn(self, document: dict[str, Any]) -> None:
        """Takes an alert that was sent again with more in it: its updates will have that, too."""
        action = self._actions.get(text(document, "event.id"))
        if action is not None:
            before, action.first_alert = len(action.first_alert), _remembered(document)
            self._grow(action, len(action.first_alert) - before)

    def tick(self, now: float) -> list[dict[str, Any]]:
        """Give the updates of the windows that are over."""
        updates: list[dict[str, Any]] = []
        while self._actions:
            # The one whose window ends first is in front: all windows are equally long.
            action = next(iter(self._actions.values()))
            if action.ends - self._window <= now < action.ends:
                break
            if action.count == action.told:
                self._forget(action)
                continue
            updates.append(_update(action))
            action.ends = now + self._window
            self._actions[action.first_id] = self._actions.pop(action.first_id)
        return updates

    def flush(self) -> list[dict[str, Any]]:
        """Give the updates of all actions and forget them, for the sensor's end."""
        return [update for action in list(self._actions.values()) for update in self._end(action)]

    def counters(self) -> dict[str, int]:
        """Alerts that were counted into an action instead of sent, and actions going on."""
        return {"collapsed": self._collapsed, "actions": len(self._actions)}

    def _count(self, action: _Action, document: dict[str, Any], key: _Key) -> None:
        action.count += 1
        action.last_time = text(document, "@timestamp")
        self._grow(action, _see(action, document))
        self._join(action, key)

    def _join(self, action: _Action, key: _Key) -> None:
        # Leaves such as five thousand greps need not be known: it is their ancestor that is found.
        if len(action.members) < _MAX_MEMBERS and key not in self._by_process:
            self._by_process[key] = action
            action.members.append(key)
            self._grow(action, _MEMBER_BYTES)

    def _grow(self, action: _Action, size: int) -> None:
        action.size += size
        self._bytes += size

    def _shrink(self) -> list[dict[str, Any]]:
        """Ends the oldest actions until what is remembered is within its bounds."""
        updates: list[dict[str, Any]] = []
        while self._bytes > _MAX_BYTES and len(self._actions) > 1:
            updates += self._end(next(iter(self._actions.values())))
        return updates

    def _end(self, action: _Action) -> list[dict[str, Any]]:
        update = [_update(action)] if action.count > action.told else []
        self._forget(action)
        return update

    def _forget(self, action: _Action) -> None:
        del self._actions[action.first_id]
        self._bytes -= action.size
        for key in action.members:
            del self._by_process[key]


def _keys(document: dict[str, Any], rule_id: str, process: str) -> Iterator[_Key]:
    """The process and its ancestors, nearest first."""
    container = text(document, "container.id")
    yield rule_id, container, process
    if parent := text(document, "process.parent.entity_id"):
        yield rule_id, container, parent
    for ancestor in texts(document, "sensor.ancestor_entity_ids"):
        yield rule_id, container, ancestor


def _remembered(document: dict[str, Any]) -> bytes:
    """The alert as its updates repeat it: without most of a very long argv.

    Many of those would take much memory, and the whole alert has left already.
    """
    return zlib.compress(encode(_shortened(document)), 1)


def _shortened(document: dict[str, Any]) -> dict[str, Any]:
    args = texts(document, "process.args")
    if sum(map(len, args)) <= _MAX_REMEMBERED and len(args) <= _MAX_REMEMBERED // 8:
        return document
    process = document["process"] | {
        "args": [elide(argument, _MAX_ARGUMENT) for argument in args[:_MAX_ARGUMENTS]],
        "command_line": command_of(document, _MAX_REMEMBERED),
    }
    ours = {key: value for key, value in document.get("sensor", {}).items() if key != "args_base64"}
    return document | {"process": process, "sensor": ours | {"args_shortened": True}}


def _see(action: _Action, document: dict[str, Any]) -> int:
    """Count the argv, and keep it as one of the first few distinct ones; what that takes, in bytes."""
    args = texts(document, "process.args")
    fingerprint = hash(tuple(args))
    size = 0
    if len(action.distinct) < _MAX_DISTINCT and fingerprint not in action.distinct:
        action.distinct.add(fingerprint)
        size += _ARGV_BYTES
    if seen := action.argv.get(fingerprint):
        seen["count"] += 1
    elif len(action.argv) < _MAX_ARGV:
        shown = [elide(argument, _MAX_ARGUMENT) for argument in args[:_MAX_ARGUMENTS]]
        action.argv[fingerprint] = {"args": shown, "count": 1}
        if len(args) > len(shown):
            action.argv[fingerprint]["args_left_out"] = len(args) - len(shown)
        # A short text takes some 50 bytes beside its characters.
        size += sum(map(len, shown)) + 50 * len(shown) + 400
    return size


def _update(action: _Action) -> dict[str, Any]:
    """Make the update: the first alert again, under an id of its own, with what was counted."""
    first: dict[str, Any] = msgspec.json.decode(zlib.decompress(action.first_alert))
    action.updates += 1
    first_time = text(first, "@timestamp")
    document = first.copy()
    document["@timestamp"] = action.last_time
    document["event"] = first["event"] | {
        "id": f"{action.first_id}-{action.updates}",
        "start": first_time,
        "end": action.last_time,
    }
    document["sensor"] = (first.get("sensor") or {}) | {
        "update_of": action.first_id,
        "collapsed": {
            "count": action.count,
            "new": action.count - action.told,
            "first": first_time,
            "last": action.last_time,
            "distinct_args": len(action.distinct),
            "distinct_args_is_least": len(action.distinct) >= _MAX_DISTINCT,
            # Copied: the counting goes on, and this document is on its way.
            "seen": [dict(each) for each in action.argv.values()],
        },
    }
    document["message"] = (
        f"{visible(text(first, 'rule.name'), 128)}: {action.count} matching execs of one action, "
        f"the first: {command_of(first, 256)} {place_of(first)}"
    )
    action.told = action.count
    return document
