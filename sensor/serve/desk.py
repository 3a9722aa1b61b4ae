"""What the pages show: the store and what is known beside it in, rows and reports out. For several threads."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from sensor.alerts.escape import visible
from sensor.rules.rule import SEVERITY_NUMBER
from sensor.store.filter import Filter
from sensor.store.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sensor.store.records import Summary
    from sensor.triage.knowledge import Knowledge
    from sensor.triage.model import Report

_TEXT: Final = 256
_RULES: Final = 100


class Desk:
    """Answers from the store at a path; one that the sensor began anew is opened again."""

    def __init__(self, path: Path, knowledge: Knowledge) -> None:
        self.path = path
        self._knowledge = knowledge
        self._store: Store | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the store, if it is open."""
        with self._lock:
            if self._store is not None:
                self._store.close()
                self._store = None

    def page(self, where: Filter, *, before: str | None, limit: int) -> dict[str, Any]:
        """A page of rows, newest first, and from which change on to follow. Raises StoreError."""
        store = self._open()
        change = store.position().change
        last = store.find(before) if before else None
        found = store.alerts(where, limit=limit, before=last)
        return {
            "alerts": [self.row(each) for each in found],
            "more": len(found) == limit,
            "change": change,
        }

    def rules(self) -> list[dict[str, Any]]:
        """The rules that alerted, the loudest first. Raises StoreError."""
        return [
            {
                "id": each.example.rule_id,
                "name": visible(each.example.rule_name or "", _TEXT),
                "alerts": each.alerts,
            }
            for each in self._open().rules(limit=_RULES)
        ]

    def report(self, identifier: str) -> Report:
        """The report on an alert. Raises StoreError, and SensorError for what has none."""
        store = self._open()
        return self._knowledge.report(store.alert(identifier), store)

    def row(self, summary: Summary) -> dict[str, Any]:
        """An alert in short, all texts fit to be shown."""
        words = [word for word, least in SEVERITY_NUMBER.items() if summary.severity >= least]
        texts = {
            "rule": summary.rule_name,
            "container": summary.container_name or (summary.container_id or "")[:12],
            "image": summary.image,
            "user": summary.user_name or summary.user_id,
            "pod": summary.pod,
            "command": self._knowledge.without_secrets(summary.command),
        }
        return {name: visible(text or "", _TEXT) for name, text in texts.items()} | {
            "id": summary.id,
            "time": summary.time_us / 1000,
            "sequence": summary.sequence,
            "change": summary.change,
            "kind": summary.kind,
            "severity": words[-1] if words else "low",
            "execs": summary.execs,
        }

    def _open(self) -> Store:
        with self._lock:
            if self._store is not None and not self._store.is_current():
                # Another request may be reading it: it is closed when the last one lets go of it.
                self._store = None
            if self._store is None:
                self._store = Store.open(self.path)
            return self._store


def filter_of(parameters: Mapping[str, str]) -> Filter:
    """The filter of a query string; what makes no sense is left out."""
    severity = SEVERITY_NUMBER.get(parameters.get("severity", ""), 0)  # type: ignore[call-overload]

    def text(name: str) -> str | None:
        return parameters.get(name, "").strip()[:1024] or None

    return Filter(
        rule=text("rule"),
        container=text("container"),
        image=text("image"),
        user=text("user"),
        minimum_severity=severity,
        notices=parameters.get("notices") == "1",
        hidden=parameters.get("hidden") == "1",
    )
