"""Alerts as ECS documents: the documents a rule matched on and the rule in, one new document out.

The alert carries all of the last event, what the rule says about itself, and an id that depends on
nothing but what happened: the same events seen again give the same id, so that a receiver can drop
doubles.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from sensor.alerts.escape import command_line, visible
from sensor.alerts.fields import get, text, texts

if TYPE_CHECKING:
    from sensor.rules.rule import Rule

DATASET = "sensor.alerts"

_MESSAGE_ARGV = 256
_NAME = 128


def alert_document(documents: tuple[dict[str, Any], ...], rule: Rule) -> dict[str, Any]:
    """The alert for the events that a rule matched on, oldest first: one, or a sequence's.

    The inputs are not changed; parts that the alert does not change are shared with the last one.
    """
    last = documents[-1]
    own = rule.ecs()
    alert = {**last, **own}
    event = dict(last.get("event") or {})
    event |= {
        "id": alert_id(documents, rule.id),
        "kind": "alert",
        "severity": rule.severity_number,
        "risk_score": rule.risk_score,
        "dataset": DATASET,
    }
    alert["event"] = event
    alert["data_stream"] = {
        "type": "logs",
        "dataset": DATASET,
        "namespace": text(last, "data_stream.namespace") or "default",
    }
    alert["tags"] = list(rule.tags)
    ours = dict(last.get("sensor") or {})
    ours["event_ids"] = [text(document, "event.id") for document in documents]
    if len(documents) > 1:
        ours["sequence"] = [_reference(document) for document in documents]
    alert["sensor"] = ours
    alert["message"] = message(documents, rule.name)
    return alert


def alert_id(documents: tuple[dict[str, Any], ...], rule_id: str) -> str:
    """32 hexadecimal digits made of the boot, the rule, and each exec: its process, time and argv.

    A process may exec several times under one identity (`egrep` becomes `grep -E`), hence the time
    and the argv.
    """
    digest = hashlib.blake2b(digest_size=16)

    def add(part: str) -> None:
        data = part.encode("utf-8", "surrogatepass")
        # Length first: no two lists of texts give the same stream of bytes.
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)

    add(text(documents[-1], "host.boot.id"))
    add(rule_id)
    for document in documents:
        add(text(document, "process.entity_id"))
        add(text(document, "@timestamp"))
        for argument in texts(document, "process.args"):
            add(argument)
        add("")
        if text(document, "event.outcome") == "failure":
            # A search through PATH fails several times in a microsecond.
            add(text(document, "sensor.filename"))
            add(text(document, "error.code"))
    return digest.hexdigest()


def message(documents: tuple[dict[str, Any], ...], rule_name: str) -> str:
    """One sentence for people: the rule, the command, where it ran and as whom."""
    last = documents[-1]
    commands = [command_of(document, _MESSAGE_ARGV) for document in documents[-3:]]
    if len(documents) > len(commands):
        commands.insert(0, "…")
    failed = f" failed ({code})" if (code := error_of(last)) else ""
    return (
        f"{visible(rule_name, _NAME)}: {' → '.join(commands)}{failed} "
        f"{place_of(last)}{_as_user(last)}"
    )


def error_of(document: dict[str, Any]) -> str:
    """Why the exec failed, as `ENOENT`; an empty text where it did not."""
    if text(document, "event.outcome") != "failure":
        return ""
    return visible(text(document, "error.code") or "for an unknown reason", _NAME)


def command_of(document: dict[str, Any], limit: int) -> str:
    """The command of a document, shell-quoted and bounded; without argv the executable or name."""
    if args := texts(document, "process.args"):
        return command_line(args, limit)
    return visible(
        text(document, "process.executable") or text(document, "process.name") or "?", limit
    )


def place_of(document: dict[str, Any]) -> str:
    """Where a document's process ran, such as `in container web (5f2b0c3c9f0d, nginx:1.27)`."""
    container_id = text(document, "container.id")
    if not container_id:
        if text(document, "container.identity.state") != "unknown":
            return "on the host"
        return (
            f"at an unknown place ({visible(text(document, 'container.identity.reason'), _NAME)})"
        )
    about = [visible(container_id[:12])]
    if image := image_of(document):
        about.append(visible(image, _NAME))
    place = f"({', '.join(about)})"
    name = text(document, "container.name")
    place = f"container {visible(name, _NAME)} {place}" if name else f"container {place}"
    pod = text(document, "orchestrator.resource.name")
    if pod:
        namespace = text(document, "orchestrator.namespace")
        place += f" of pod {visible(f'{namespace}/{pod}' if namespace else pod, _NAME)}"
    return f"in {place}"


def image_of(document: dict[str, Any]) -> str:
    """The image with its first tag, or an empty text where it is not known."""
    name = text(document, "container.image.name")
    tags = get(document, "container.image.tag")
    tag = tags[0] if isinstance(tags, list | tuple) and tags else tags
    return f"{name}:{tag}" if name and isinstance(tag, str) and tag else name


def _as_user(document: dict[str, Any]) -> str:
    name, user_id = text(document, "user.name"), text(document, "user.id")
    if name and user_id:
        return f" as {visible(name, _NAME)} ({visible(user_id, _NAME)})"
    if name or user_id:
        return f" as {visible(name or f'user {user_id}', _NAME)}"
    return ""


def _reference(document: dict[str, Any]) -> dict[str, Any]:
    """What a sequence's alert says about one of its events: enough to find and to read it."""
    process = document.get("process") or {}
    return {
        "@timestamp": document.get("@timestamp"),
        "event": {"id": text(document, "event.id"), "action": text(document, "event.action")},
        "process": {
            "pid": process.get("pid"),
            "entity_id": process.get("entity_id"),
            "name": process.get("name"),
            "executable": process.get("executable"),
            "command_line": command_of(document, 1024),
        },
        **({"error": {"code": code}} if (code := error_of(document)) else {}),
    }
