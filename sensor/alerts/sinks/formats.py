"""Bodies for webhooks: a document in, what a chat or falcosidekick understands out.

An attacker's text is data in each of them: it mentions nobody, links nowhere and formats nothing.
"""

from __future__ import annotations

import re
from typing import Any

from sensor.alerts.alert import command_of, image_of
from sensor.alerts.escape import elide, visible
from sensor.alerts.fields import get, severity_word, text, texts

_COLOURS = {"low": "#4b9cd3", "medium": "#e8a317", "high": "#d9480f", "critical": "#b00020"}
_PRIORITIES = {"low": "Notice", "medium": "Warning", "high": "Error", "critical": "Critical"}

_MESSAGE = 1500
_FIELD = 500

# What chats make links, mentions, emoji and formats of. Each is followed by a mark without width.
_MARKUP = re.compile(r"[@#*_~`|\[\]()!:/.\\]")
_APART = "\u2060"
# Looks like one, and is none.
_BACKTICK = "\u02cb"


def slack(document: dict[str, Any]) -> dict[str, Any]:
    """Make a message as Slack's incoming webhooks take it, and those that follow them."""
    word = severity_word(document)
    message = _plain(text(document, "message"), _MESSAGE)
    fields: list[dict[str, Any]] = []
    if document.get("process"):
        # As code it stays as it is, to be copied; only a backtick could end it.
        command = _entities(command_of(document, _FIELD)).replace("`", _BACKTICK)
        fields.append({"title": "Command", "value": f"```{command}```", "short": False})
    fields += [
        {"title": title, "value": _plain(value, _FIELD), "short": len(value) < 40}
        for title, value in _rows(document)
        if value
    ]
    return {
        "text": _plain(f"{word.upper()} {text(document, 'rule.name') or 'sensor'}", _FIELD),
        "attachments": [
            {
                "color": _COLOURS[word],
                "fallback": message,
                "text": "" if document.get("process") else message,
                "fields": fields,
                "footer": _plain(f"sensor {text(document, 'event.id')}", _FIELD),
                "mrkdwn_in": ["fields"],
            }
        ],
    }


def falcosidekick(document: dict[str, Any]) -> dict[str, Any]:
    """Make an event as Falco's JSON output has it, which falcosidekick passes on.

    Its fields' names are Falco's; all values are texts, as some of its outputs take nothing else.
    """
    fields = {
        "container.id": text(document, "container.id")[:12],
        "container.name": text(document, "container.name"),
        "container.image.repository": text(document, "container.image.name"),
        "container.image.tag": next(iter(texts(document, "container.image.tag")), ""),
        "k8s.ns.name": text(document, "orchestrator.namespace"),
        "k8s.pod.name": text(document, "orchestrator.resource.name"),
        "proc.name": text(document, "process.name"),
        "proc.exepath": text(document, "process.executable"),
        "proc.cmdline": command_of(document, _FIELD) if document.get("process") else "",
        "proc.cwd": text(document, "process.working_directory"),
        "proc.pid": str(get(document, "process.pid") or ""),
        "proc.pname": text(document, "process.parent.name"),
        "user.name": text(document, "user.name"),
        "user.uid": text(document, "user.id"),
        "evt.id": text(document, "event.id"),
    }
    return {
        "uuid": text(document, "event.id"),
        "output": visible(text(document, "message"), _MESSAGE) or "-",
        "priority": _PRIORITIES[severity_word(document)],
        "rule": visible(text(document, "rule.name"), _FIELD),
        "time": text(document, "@timestamp"),
        "source": "sensor",
        "hostname": text(document, "host.hostname"),
        "tags": [visible(tag, _FIELD) for tag in texts(document, "tags")],
        "output_fields": {key: visible(value, _FIELD) for key, value in fields.items() if value},
    }


def _rows(document: dict[str, Any]) -> list[tuple[str, str]]:
    container = text(document, "container.name") or text(document, "container.id")[:12]
    pod = text(document, "orchestrator.resource.name")
    count = get(document, "sensor.collapsed.count")
    return [
        ("Container", container),
        ("Image", image_of(document)),
        ("Pod", f"{text(document, 'orchestrator.namespace')}/{pod}" if pod else ""),
        ("User", text(document, "user.name") or text(document, "user.id")),
        ("Host", text(document, "host.hostname")),
        ("Count", str(count) if count else ""),
    ]


def _plain(value: str, limit: int) -> str:
    """Text that a chat shows as it is: on one line, with nothing left that it could act upon."""
    shown = _entities(visible(elide(value, limit), 2 * limit))
    return _MARKUP.sub(lambda match: match[0] + _APART, shown)


def _entities(value: str) -> str:
    return value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
