"""A document as a row: what is looked for as columns, the document itself compressed.

An action is what "the same again" means: the rule, the program, its script, the pattern of its
arguments, the image without its tag, and the user. Numbers and long hexadecimal names are left open in
the pattern, for dates, process ids and temporary names change from one run to the next.
"""

from __future__ import annotations

import re
import zlib
from typing import Any, Final

import msgspec

from sensor.alerts.alert import command_of, image_of
from sensor.alerts.exception_match import scripts
from sensor.alerts.fields import get, number, text, texts
from sensor.rules.engine import document_time_ns
from sensor.store.errors import StoreError
from sensor.store.schema import ALERT, HIDDEN, NOTICE, key

_TEXT: Final = 256
_COMMAND: Final = 256
_PATTERN_ARGS: Final = 64
_PATTERN_CHARACTERS: Final = 1024
_VARIABLE = re.compile(r"[0-9A-Fa-f-]{16,}|tmp\.[A-Za-z0-9]+|\d+", re.ASCII)
_DOCUMENT_MAX: Final = 64 << 20

COLUMNS: Final = (
    "id", "time", "kind", "severity", "risk_score", "rule_key", "rule_id", "rule_name",
    "container_id", "container_key", "container_name", "image_key", "image", "user_id_key",
    "user_id", "user_name_key", "user_name", "namespace", "pod", "command", "action", "execs",
)  # fmt: skip


def kind_of(document: dict[str, Any]) -> int | None:
    """What the document is to the store; None for an event that no exception has hidden."""
    if text(document, "event.kind") == "alert":
        return NOTICE if text(document, "event.module") == "sensor" else ALERT
    return HIDDEN if get(document, "rule.exception") is not None else None


def columns(document: dict[str, Any], kind: int, now_us: int) -> dict[str, Any]:
    """The columns of a document but its payload; texts are bounded."""
    identifier = text(document, "event.id")
    if kind == HIDDEN:
        # The event's own id; it may be hidden for several rules.
        identifier = f"{identifier}.{text(document, 'rule.id')}"
    image_name = text(document, "container.image.name")
    name, uid = text(document, "user.name"), text(document, "user.id")
    time_ns = document_time_ns(document)
    return {
        "id": identifier[:_TEXT],
        "time": now_us if time_ns is None else time_ns // 1000,
        "kind": kind,
        "severity": number(document, "event.severity"),
        "risk_score": number(document, "event.risk_score"),
        "rule_key": _key(text(document, "rule.id")),
        "rule_id": _bounded(text(document, "rule.id")),
        "rule_name": _bounded(text(document, "rule.name")),
        "container_id": _bounded(text(document, "container.id")),
        "container_key": _key(text(document, "container.name")),
        "container_name": _bounded(text(document, "container.name")),
        "image_key": _key(image_name),
        "image": _bounded(image_of(document)),
        "user_id_key": _key(uid),
        "user_id": _bounded(uid),
        "user_name_key": _key(name),
        "user_name": _bounded(name),
        "namespace": _bounded(text(document, "orchestrator.namespace")),
        "pod": _bounded(text(document, "orchestrator.resource.name")),
        "command": text(document, "message")[:_COMMAND]
        if kind == NOTICE
        else command_of(document, _COMMAND),
        "action": None if kind == NOTICE else action(document),
        "execs": max(number(document, "sensor.collapsed.count"), 1),
    }


def action(document: dict[str, Any]) -> int:
    """The key of the exact action that the document tells of."""
    parts = [
        text(document, "rule.id"),
        text(document, "process.executable") or text(document, "process.name"),
        text(document, "container.image.name") or text(document, "container.name"),
        text(document, "user.id") or text(document, "user.name"),
        _pattern(next(iter(scripts(document)), "")),
        *map(_pattern, texts(document, "process.args")[:_PATTERN_ARGS]),
    ]
    # Length first: no two lists of texts give the same text.
    return key("".join(f"{len(part)}:{part}" for part in parts))


def pack(payload: bytes) -> bytes:
    """JSON as it is stored. Documents repeat themselves: about a fifth is left."""
    return zlib.compress(payload, 1)


def unpack(packed: bytes) -> dict[str, Any]:
    """The document back. Raises StoreError for what is none, or beyond all bounds."""
    unpacker = zlib.decompressobj()
    try:
        payload = unpacker.decompress(packed, _DOCUMENT_MAX)
        if not unpacker.eof:
            raise StoreError("a stored document is cut off, or larger than any")
        return msgspec.json.decode(payload, type=dict[str, Any])
    except (zlib.error, msgspec.DecodeError, TypeError) as error:
        raise StoreError(f"a stored document cannot be read: {error}") from error


def _key(value: str) -> int | None:
    return key(value) if value else None


def _bounded(value: str) -> str | None:
    return value[:_TEXT] or None


def _pattern(argument: str) -> str:
    return _VARIABLE.sub("#", argument[:_PATTERN_CHARACTERS])
