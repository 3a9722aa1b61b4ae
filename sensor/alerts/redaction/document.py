"""Documents without secrets: an alert in, the same without what may be a credential, and a note of it.

Rules have matched before. What is cut is said under `sensor.redacted`, as a number and the kinds; names,
paths and words that were searched for stay.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final

from sensor.alerts.alert import command_of
from sensor.alerts.fields import get, text
from sensor.alerts.redaction.argv import redact_args
from sensor.alerts.redaction.names import CUT, is_secret, kind_of_name
from sensor.alerts.redaction.patterns import RedactionRule
from sensor.alerts.redaction.text import TextRedactor

_log = logging.getLogger(__name__)

# What the sensor and its rules say, and nothing a process can choose.
_OURS: Final = frozenset(
    {
        "@timestamp",
        "agent",
        "data_stream",
        "ecs",
        "event",
        "group",
        "host",
        "rule",
        "tags",
        "threat",
    }
)
_ARGV: Final = frozenset({"args", "env_vars"})
_MESSAGE: Final = 256  # as much of the command as a message has
_SAFE: Final = ("id", "name", "runtime", "image")


class Redactor:
    """Takes secrets out of documents. For any thread; the patterns are compiled with the first one.

    `check` compiles them now, and raises ConfigurationError for one that is wrong.
    """

    def __init__(
        self,
        *,
        rules: Iterable[RedactionRule] = (),
        without: Iterable[str] = (),
        keep: Iterable[str] = (),
    ) -> None:
        self._arguments: dict[str, Any] = {
            "rules": tuple(rules),
            "without": tuple(without),
            "keep": tuple(keep),
        }
        self._texts: TextRedactor | None = None
        self.failed = 0

    def check(self) -> None:
        self._redactor()

    def text(self, value: str) -> str:
        """One text, such as a command line, without its secrets."""
        return self._redactor().text(value, Counter())

    def document(self, document: dict[str, Any]) -> dict[str, Any]:
        """The document without its secrets; one that has none is given back as it is.

        Never raises: of a document with which something goes wrong only what no process can choose is
        left, and that is said in it.
        """
        try:
            return self._document(document)
        except Exception:  # noqa: BLE001 - a fault here must lose neither a secret nor the alert
            self.failed += 1
            _log.exception(
                "a document could not be redacted; it goes out without its command lines"
            )
            return _bare(document)

    def _redactor(self) -> TextRedactor:
        if self._texts is None:
            self._texts = TextRedactor(**self._arguments)
        return self._texts

    def _document(self, document: dict[str, Any]) -> dict[str, Any]:
        walk = _Walk(self._redactor())
        result = {
            name: value if name in _OURS or name == "message" else walk.value(value)
            for name, value in document.items()
        }
        message = text(document, "message")
        if message:
            if get(result, "process.args") != get(document, "process.args"):
                # A message may have lost the middle of an argument, and its end would be left.
                message = message.replace(
                    command_of(document, _MESSAGE), command_of(result, _MESSAGE)
                )
            in_message: Counter[str] = Counter()
            result["message"] = walk.texts.text(message, in_message)
            # It repeats what stands elsewhere, but for the sensor's own words.
            walk.found = walk.found or in_message
        if not walk.found:
            return document
        ours = dict(result.get("sensor") or {})
        ours["redacted"] = {"count": walk.found.total(), "kinds": sorted(walk.found)}
        if "args_base64" in ours:
            # The raw bytes of the argv would give away what was cut from it.
            del ours["args_base64"]
            ours["redacted"]["left_out"] = ["sensor.args_base64"]
        result["sensor"] = ours
        return result


class _Walk:
    """One document's; values that hold no secret are shared with it."""

    def __init__(self, texts: TextRedactor) -> None:
        self.texts = texts
        self.found: Counter[str] = Counter()

    def value(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.texts.text(value, self.found)
        if isinstance(value, dict):
            return self._mapping(value)
        if isinstance(value, list | tuple):
            return [self.value(each) for each in value]
        return value

    def _mapping(self, mapping: Mapping[str, Any]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        args = mapping.get("args") if _is_texts(mapping.get("args")) else None
        for name, value in mapping.items():
            if name in _ARGV and _is_texts(value):
                result[name] = redact_args(value, self.texts, self.found)
            elif name == "labels" and isinstance(value, dict):
                result[name] = {key: self._label(key, each) for key, each in value.items()}
            elif name == "command_line" and args is not None and value == " ".join(args):
                # The same once more: not counted again.
                result[name] = " ".join(redact_args(args, self.texts, Counter()))
            else:
                result[name] = self.value(value)
        return result

    def _label(self, name: str, value: Any) -> Any:
        if not isinstance(value, str):
            return self.value(value)
        kind = kind_of_name(name)
        if kind and self.texts.wants(kind) and is_secret(value, name, self.texts.keep):
            self.found[kind] += 1
            return CUT
        return self.value(value)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(each, str) for each in value)


def _bare(document: dict[str, Any]) -> dict[str, Any]:
    """What is left of a document when nothing is known of its texts."""
    result = {name: document[name] for name in _OURS if name in document}
    container = document.get("container")
    if isinstance(container, dict):
        result["container"] = {name: container[name] for name in _SAFE if name in container}
    if isinstance(user := document.get("user"), dict):
        result["user"] = user
    result["message"] = f"{text(document, 'rule.name') or 'alert'}: its texts could not be redacted"
    result["sensor"] = {"redacted": {"failed": True}}
    if update_of := text(document, "sensor.update_of"):
        result["sensor"]["update_of"] = update_of
    return result
