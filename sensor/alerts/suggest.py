"""The narrowest exception for an alert: its document in, an entry for `exceptions.d` out."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from sensor.alerts.exception_match import images, scripts
from sensor.alerts.fields import get, text, texts
from sensor.errors import SensorError

if TYPE_CHECKING:
    from collections.abc import Sequence

_WILDCARD = re.compile(r"[*?]")
# Labels that say what a container is for, and stay the same when it is made anew.
_LASTING_LABELS = (
    "com.docker.compose.project",
    "com.docker.compose.service",
    "com.docker.swarm.service.name",
    "io.kubernetes.container.name",
    "io.kubernetes.pod.namespace",
)
_MAX_COMMAND_LINE = 256
_MAX_ARGUMENT = 128
_MAX_ARGS = 16


def suggest(
    alert: dict[str, Any], *, now: float, days: int, reason: str, owner: str
) -> dict[str, Any]:
    """Make the entry, as it is written in YAML. Raises SensorError for what is no rule's alert.

    It holds everything of the alert that will be the same the next time: the program, its command
    line, the script that ran it, the user, the image and its tag, and whatever names the workload.
    """
    rule_id = text(alert, "rule.id")
    if not rule_id or not text(alert, "process.entity_id"):
        raise SensorError("not an alert of a rule: there is no rule.id with a process")
    entry: dict[str, Any] = {
        "id": _identifier(alert),
        "rules": rule_id,
        "reason": reason,
        "owner": owner,
        "expires": (datetime.fromtimestamp(now, UTC) + timedelta(days=days)).date().isoformat(),
    }
    literal: list[tuple[str, str]] = []

    def add(key: str, field: str, value: str) -> None:
        """Add a pattern; a value that would itself be one, as an exact comparison."""
        if not value.isprintable():
            # No file should hold such characters: each is left open, in its place.
            entry[key] = plain(value)
        elif _WILDCARD.search(value):
            literal.append((field, value))
        elif value:
            entry[key] = value

    add("executable", "process.executable", text(alert, "process.executable"))
    command_line = text(alert, "process.command_line")
    # Bytes that are not UTF-8 are written as escapes in an alert, and are no escapes in an event.
    clean = not get(alert, "sensor.args_base64")
    if clean and command_line and len(command_line) <= _MAX_COMMAND_LINE:
        add("command_line", "process.command_line", command_line)
    elif args := _telling(texts(alert, "process.args")):
        entry["args"] = args
    if script := next((each for each in scripts(alert) if each.startswith("/")), ""):
        entry["script"] = script.replace("*", "?")
    add("user", "user.name", text(alert, "user.name") or text(alert, "user.id"))
    names = list(images(alert))
    if names:
        # With its tag where there is one: the second name, after the bare one.
        entry["image"] = plain(names[min(1, len(names) - 1)])
    namespace = text(alert, "orchestrator.namespace")
    if namespace:
        entry["namespace"] = namespace
    labels = get(alert, "container.labels")
    lasting = {
        key: labels[key]
        for key in _LASTING_LABELS
        if isinstance(labels, dict)
        and isinstance(labels.get(key), str)
        and labels[key]
        and not _WILDCARD.search(labels[key])
    }
    if lasting:
        entry["labels"] = lasting
    elif not namespace:
        # A name that was given by hand; those of pods and of compose change.
        add("container", "container.name", text(alert, "container.name"))
    if literal:
        entry["condition"] = " and ".join(f"{field} == {_quote(each)}" for field, each in literal)
    return entry


def written(entries: Sequence[dict[str, Any]]) -> str:
    """The entries as a file of exceptions; no character of theirs steers a terminal."""
    import yaml  # noqa: PLC0415 - for commands only

    def dump(*, is_unicode: bool) -> str:
        return yaml.safe_dump(
            {"exceptions": list(entries)}, sort_keys=False, allow_unicode=is_unicode, width=100
        )

    text = dump(is_unicode=True)
    return text if text.replace("\n", "").isprintable() else dump(is_unicode=False)


def plain(value: str) -> str:
    """The value as a pattern: what would be a wildcard, or no file should hold, is any character."""
    return "".join("?" if each in "*?" or not each.isprintable() else each for each in value)


def _telling(args: list[str]) -> list[str]:
    """Of an argv too long to be written down: the arguments that can be, each once."""
    short = [
        argument
        for argument in args
        if 0 < len(argument) <= _MAX_ARGUMENT
        and argument.isprintable()
        and not _WILDCARD.search(argument)
        and "\\x" not in argument  # may be a byte that was not UTF-8
    ]
    return list(dict.fromkeys(short))[:_MAX_ARGS]


def _identifier(alert: dict[str, Any]) -> str:
    """A name for the entry: what ran where, and the beginning of the alert's id."""
    where = text(alert, "container.name") or text(alert, "orchestrator.namespace") or "host"
    words = f"{text(alert, 'process.name')}-in-{where}-{text(alert, 'event.id')[:8]}"
    return re.sub(r"[^A-Za-z0-9]+", "-", words).strip("-").lower()[:100] or "exception"


def _quote(value: str) -> str:
    """The value as a string of EQL."""
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return (
        '"'
        + "".join(
            character if character.isprintable() else f"\\u{{{ord(character):04x}}}"
            for character in escaped
        )
        + '"'
    )
