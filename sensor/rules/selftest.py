"""The `tests:` beside a rule: a rule in, the verdict on each of its examples out.

Each example runs through an engine of its own, on the same path as an event of the kernel's.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sensor.ecs import matching_view
from sensor.rules.engine import END, RuleEngine, document_time_ns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sensor.errors import Location
    from sensor.rules.rule import LocatedTest, Rule, RuleTest

_CONTAINER_ID = "5f2b0c3c9f0d4c7e8a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f6071"
_START_NS = 1_767_225_600_000_000_000  # 2026-01-01T00:00:00Z
_STEP_NS = 1_000_000
_MAX_DOTS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one example came to. `error` is set where the rule raised instead of giving a verdict."""

    rule: Rule
    name: str
    location: Location
    expected: bool
    actual: bool
    error: str | None = None

    @property
    def passed(self) -> bool:
        """Whether the rule did what the example says."""
        return self.error is None and self.expected == self.actual


def run_tests(rule: Rule) -> list[Outcome]:
    """Return the outcome of each of the rule's tests, in their order. An inactive rule has none."""
    if not rule.active:
        return []
    return [
        _run(rule, located, located.test.name or f"test {number}")
        for number, located in enumerate(rule.tests, start=1)
    ]


def _run(rule: Rule, located: LocatedTest, name: str) -> Outcome:
    engine = RuleEngine([rule])
    matched = False
    for number, document in enumerate(documents_of(located.test)):
        time_ns = document_time_ns(document) or _START_NS + number * _STEP_NS
        matched = bool(engine.match(matching_view(document), time_ns)) or matched
    matched = bool(engine.expire(END)) or matched
    failure = engine.last_error(rule.id)
    return Outcome(
        rule=rule,
        name=name,
        location=located.location,
        expected=located.test.matches,
        actual=matched,
        error=failure,
    )


def documents_of(test: RuleTest) -> list[dict[str, Any]]:
    """Return the documents a test feeds to its rule, before `process.name` is widened for matching."""
    if test.documents is not None:
        return [merge(exec_document(["true"]), overlay) for overlay in test.documents]
    args = shlex.split(test.args) if isinstance(test.args, str) else test.args
    return [merge(exec_document(["true"] if args is None else args), test.document or {})]


def exec_document(args: Sequence[str]) -> dict[str, Any]:
    """Make an ordinary exec in a container, as the sensor would describe it, with this argv."""
    invoked = args[0] if args else "true"
    name = invoked.rsplit("/", 1)[-1].removeprefix("-")
    executable = invoked if invoked.startswith("/") else f"/usr/bin/{name}"
    shell = {
        "pid": 4242,
        "entity_id": "shell",
        "name": "sh",
        "executable": "/bin/sh",
        "args": ["sh"],
        "args_count": 1,
        "interactive": False,
        "working_directory": "/",
    }
    return {
        "event": {
            "kind": "event",
            "category": ["process"],
            "type": ["start"],
            "action": "exec",
            "outcome": "success",
            "module": "cloud_defend",
            "dataset": "cloud_defend.process",
        },
        "host": {"hostname": "node", "os": {"type": "linux"}},
        "container": {
            "id": _CONTAINER_ID,
            "name": "web",
            "runtime": "docker",
            "image": {"name": "example/web", "tag": ["1.0"]},
            "security_context": {"privileged": False},
        },
        "user": {"id": "0", "name": "root"},
        "process": {
            "pid": 4243,
            "entity_id": "process",
            "name": name,
            "executable": executable,
            "args": list(args),
            "args_count": len(args),
            "command_line": " ".join(args),
            "interactive": False,
            "working_directory": "/",
            "parent": shell,
            "entry_leader": {
                **shell,
                "same_as_process": False,
                "entry_meta": {"type": "container"},
            },
            "session_leader": {**shell, "same_as_process": False},
            "group_leader": {**shell, "same_as_process": False},
        },
        "sensor": {
            "args_bytes": sum(len(arg.encode("utf-8", "surrogateescape")) + 1 for arg in args),
            "args_truncated": False,
            "args_read_error": False,
        },
    }


def merge(document: dict[str, Any], overlay: dict[str, Any]) -> dict[str, Any]:
    """Return the document with the overlay's fields laid over it; null takes a field away.

    Keys of the overlay may be dotted: `process.name` is `name` inside `process`.
    """
    result = dict(document)
    for key, value in overlay.items():
        head, _, rest = key.partition(".")
        if head and rest and key.count(".") <= _MAX_DOTS:
            _lay(result, head, {rest: value})
        else:
            _lay(result, key, value)
    return result


def _lay(result: dict[str, Any], key: str, value: Any) -> None:
    if value is None:
        result.pop(key, None)
    elif isinstance(value, dict):
        under = result.get(key)
        result[key] = merge(under if isinstance(under, dict) else {}, value)
    else:
        result[key] = value
