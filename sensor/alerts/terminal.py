"""Alerts for people at a terminal: a document in, a compact block of lines out.

No byte of an attacker's reaches the terminal as it is: argv is shell-quoted, everything is escaped
and bounded. The only control characters are our own colours and line ends.
"""

from __future__ import annotations

import os
import shutil
import sys
import unicodedata
from typing import TYPE_CHECKING, Any

from sensor.alerts.alert import command_of, error_of, image_of
from sensor.alerts.escape import command_line, visible
from sensor.alerts.fields import get, number, severity_word, text, texts

if TYPE_CHECKING:
    from collections.abc import Iterator

_COLOURS = {"low": "36", "medium": "33", "high": "31", "critical": "1;37;41"}
_BOLD = "1"
_DIM = "2"

_LABEL_WIDTH = 11
_LEAST_WIDTH = 40
_VALUE = 512
_LABELS_SHOWN = 8
_SEQUENCE_SHOWN = 8
_RECENT_SHOWN = 3


def terminal_width(default: int = 100) -> int:
    """The columns of the terminal, or the default where there is none."""
    return shutil.get_terminal_size((default, 24)).columns


def wants_color() -> bool:
    """Whether what goes to standard output is coloured: on a terminal, unless the environment says so.

    NO_COLOR and FORCE_COLOR are as no-color.org and force-color.org have them.
    """
    if os.environ.get("NO_COLOR"):
        return False
    return bool(os.environ.get("FORCE_COLOR")) or sys.stdout.isatty()


def render(document: dict[str, Any], *, color: bool, width: int) -> str:
    """The document as a block of lines of at most `width` columns, with a line break at its end."""
    width = max(width, _LEAST_WIDTH)
    severity = severity_word(document)
    time = text(document, "@timestamp").partition("T")[2].rstrip("Z")[:12]
    name = text(document, "rule.name") or text(document, "message") or "document without a rule"
    mark = f"{severity.upper()} {number(document, 'event.risk_score')}"
    room = max(width - len(time) - len(mark) - 2, 16)
    paint = _paint if color else _plain
    head = " ".join(
        part
        for part in (
            paint(visible(time, 16), _DIM),
            paint(mark, _COLOURS[severity]),
            paint(cut(visible(name, _VALUE), room), _BOLD),
        )
        if part
    )
    lines = [head]
    for label, value in _rows(document):
        indent = " " * (_LABEL_WIDTH + 2)
        wrapped = _wrap(value, width - len(indent))
        lines.append(f"  {paint(label.ljust(_LABEL_WIDTH), _DIM)}{wrapped[0]}")
        lines.extend(indent + line for line in wrapped[1:])
    return "\n".join(lines) + "\n"


def _rows(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Label and value of each line below the head; values are escaped and bounded."""
    if not document.get("process"):
        # A word of the sensor's own: losses, held back alerts.
        yield "message", visible(text(document, "message"), 4 * _VALUE)
        return
    yield "command", command_of(document, _VALUE)
    if code := error_of(document):
        yield "failed", f"{code}  {visible(text(document, 'error.message'), _VALUE)}".rstrip()
    yield "process", _process(document)
    if parent := _parent(document):
        yield "parent", parent
    yield from _container(document)
    if user := _named(text(document, "user.name"), text(document, "user.id")):
        yield "user", user
    if collapsed := get(document, "sensor.collapsed"):
        yield "seen", _collapsed(collapsed)
    else:
        yield from _recent(document)
    for step in (get(document, "sensor.sequence") or [])[:_SEQUENCE_SHOWN]:
        failed = f"  failed ({code})" if (code := text(step, "error.code")) else ""
        yield "step", visible(text(step, "process.command_line") + failed, _VALUE)
    if truncated := _truncated(document):
        yield "note", truncated
    yield "alert", visible(text(document, "event.id"), _VALUE)


def _recent(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The last execs of the container before this one; an update does not repeat them."""
    recent = get(document, "sensor.recent_activity")
    entries = recent[-_RECENT_SHOWN:] if isinstance(recent, list) else []
    for number_of_line, each in enumerate(entries):
        time = text(each, "@timestamp").partition("T")[2][:8]
        command = command_line(texts(each, "process.args"), _VALUE // 4)
        yield "" if number_of_line else "before", f"{visible(time, 16)}  {command}"


def _process(document: dict[str, Any]) -> str:
    parts = [
        visible(text(document, "process.executable") or text(document, "process.name"), _VALUE)
    ]
    parts.append(f"pid {number(document, 'process.pid')}")
    if directory := text(document, "process.working_directory"):
        parts.append(f"in {visible(directory, _VALUE)}")
    if get(document, "process.interactive") is True:
        parts.append("interactive")
    return "  ".join(part for part in parts if part)


def _parent(document: dict[str, Any]) -> str:
    args = texts(document, "process.parent.args")
    command = command_line(args, _VALUE // 4) if args else ""
    name = visible(text(document, "process.parent.name"), _VALUE)
    pid = number(document, "process.parent.pid")
    return "  ".join(part for part in (command or name, f"pid {pid}" if pid else "") if part)


def _container(document: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if container_id := text(document, "container.id"):
        parts = [
            visible(text(document, "container.name"), _VALUE),
            visible(container_id[:12]),
            visible(image_of(document), _VALUE),
            visible(text(document, "container.runtime"), 32),
        ]
        if get(document, "container.security_context.privileged") is True:
            parts.append("PRIVILEGED")
        yield "container", "  ".join(part for part in parts if part)
        reason = text(document, "container.resolution.reason")
        if reason and text(document, "container.resolution.state") != "resolved":
            yield "metadata", f"missing: {visible(reason, _VALUE)}"
    elif text(document, "container.identity.state") == "unknown":
        yield (
            "container",
            f"unknown: {visible(text(document, 'container.identity.reason'), _VALUE)}",
        )
    if pod := text(document, "orchestrator.resource.name"):
        yield "pod", visible(f"{text(document, 'orchestrator.namespace') or '?'}/{pod}", _VALUE)
    labels = get(document, "container.labels")
    if isinstance(labels, dict) and labels:
        shown = [
            f"{visible(str(key), 64)}={visible(str(value), 64)}"
            for key, value in list(labels.items())[:_LABELS_SHOWN]
        ]
        if len(labels) > len(shown):
            shown.append(f"… {len(labels) - len(shown)} more")
        yield "labels", "  ".join(shown)


def _collapsed(collapsed: dict[str, Any]) -> str:
    first, last = text(collapsed, "first"), text(collapsed, "last")
    return visible(f"{number(collapsed, 'count')} times from {first} to {last}", _VALUE)


def _truncated(document: dict[str, Any]) -> str:
    if get(document, "sensor.args_truncated") is True:
        return "argv was longer than what is recorded"
    if get(document, "sensor.args_read_error") is True:
        return "argv could not be read whole"
    return ""


def _named(name: str, number_: str) -> str:
    if name and number_:
        return f"{visible(name, 64)} ({visible(number_, 64)})"
    return visible(name or number_, 64)


def _plain(value: str, _code: str) -> str:
    return value


def _paint(value: str, code: str) -> str:
    return f"\x1b[{code}m{value}\x1b[0m" if value else ""


def _columns(character: str) -> int:
    """How many columns a terminal gives a printable character."""
    if character.isascii():
        return 1
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _wrap(value: str, width: int) -> list[str]:
    """The value in lines of at most `width` columns; at a blank where one is near the end."""
    lines: list[str] = []
    rest = value
    while True:
        line = cut(rest, width)
        if line == rest:
            return [*lines, line]
        blank = line.rfind(" ", len(line) * 2 // 3)
        if blank > 0:
            line = line[: blank + 1]
        lines.append(line.rstrip(" "))
        rest = rest[len(line) :]


def cut(value: str, width: int) -> str:
    """The beginning of the value that fits into `width` columns, at least one character."""
    if value.isascii():
        return value[:width]
    used = 0
    for index, character in enumerate(value):
        used += _columns(character)
        if used > width:
            return value[: max(index, 1)]
    return value
