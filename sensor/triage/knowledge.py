"""What a report needs beside the store: the rules with their guides, and the exceptions.

knowledge = Knowledge.load(config)
report = knowledge.report(document, store)
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from sensor.alerts.escape import visible
from sensor.alerts.exceptions import load_exceptions
from sensor.alerts.fields import text
from sensor.errors import SensorError
from sensor.rules.load import load_rules
from sensor.triage.facts import Facts, from_store, near_exceptions
from sensor.triage.report import triage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sensor.alerts.exceptions import Exemption
    from sensor.alerts.redaction.document import Redactor
    from sensor.config import Config
    from sensor.rules.rule import Rule
    from sensor.store.records import Summary
    from sensor.store.store import Store
    from sensor.triage.model import Report

_GUIDE_LINES: Final = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Knowledge:
    """Rules by their id, and all exceptions; `gaps` says what could not be loaded.

    `redactor` takes secrets out of what a report shows; what recurs is looked up with them.
    """

    rules: Mapping[str, Rule]
    exemptions: tuple[Exemption, ...]
    gaps: tuple[str, ...] = ()
    redactor: Redactor | None = None

    @classmethod
    def load(cls, config: Config, *, redactor: Redactor | None = None) -> Knowledge:
        """Load what the configuration names. What is broken is a gap in the reports, no error."""
        gaps = []
        loaded = None
        exemptions: tuple[Exemption, ...] = ()
        try:
            loaded = load_rules(config.rules, builtin=config.builtin_rules)
        except (SensorError, OSError) as error:
            gaps.append(f"The rules could not be loaded: {error}")
        rules = [*loaded.rules, *loaded.inactive] if loaded is not None else []
        try:
            found = load_exceptions(config.alerts.exceptions, rules)
        except (SensorError, OSError) as error:
            gaps.append(f"The exceptions could not be loaded: {error}")
        else:
            exemptions = tuple(found)
            if found.errors:
                gaps.append(
                    f"{len(found.errors)} exceptions are in error and were not looked at: "
                    "`sensor exceptions check` says why."
                )
        return cls(
            rules={rule.id: rule for rule in rules},
            exemptions=exemptions,
            gaps=tuple(gaps),
            redactor=redactor,
        )

    def report(
        self, document: dict[str, Any], store: Store | None, *, gaps: tuple[str, ...] = ()
    ) -> Report:
        """The report on an alert. Raises SensorError for a document that is none of a process."""
        facts = from_store(document, store) if store is not None else Facts()
        rule = self.rules.get(text(document, "rule.id"))
        facts = replace(
            facts,
            exceptions=near_exceptions(document, self.exemptions),
            false_positives=rule.false_positives if rule is not None else (),
            guide=_lines(rule.note) if rule is not None else "",
            gaps=(*self.gaps, *facts.gaps, *gaps),
        )
        if self.redactor is None:
            return triage(document, facts)
        facts = replace(
            facts,
            around=tuple(map(self._summary, facts.around)),
            others=tuple(
                replace(each, alerts=tuple(map(self._summary, each.alerts)))
                for each in facts.others
            ),
        )
        return triage(self.redactor.document(document), facts)

    def without_secrets(self, command: str) -> str:
        """A command line as it is shown."""
        return command if self.redactor is None else self.redactor.text(command)

    def _summary(self, summary: Summary) -> Summary:
        return replace(summary, command=self.without_secrets(summary.command))


def _lines(note: str) -> str:
    return "\n".join(visible(line, 1024) for line in note.strip().splitlines()[:_GUIDE_LINES])
