"""A rule as the engine and the alerts work with it.

It is what the rule's file says, typed, with the query compiled. Out of it come the parts of an alert
document that the rule alone decides.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import msgspec

if TYPE_CHECKING:
    from sensor.errors import Location
    from sensor.rules.compile import Query

Severity = Literal["low", "medium", "high", "critical"]

# Elastic's own scale: the number that stands in `event.severity`, and the risk score of a rule that
# gives none.
SEVERITY_NUMBER: dict[Severity, int] = {"low": 21, "medium": 47, "high": 73, "critical": 99}


class Subtechnique(msgspec.Struct, frozen=True, kw_only=True):
    """A sub-technique of MITRE ATT&CK, such as T1552.001."""

    id: str
    name: str
    reference: str | None = None


class Technique(msgspec.Struct, frozen=True, kw_only=True):
    """A technique of MITRE ATT&CK, such as T1552."""

    id: str
    name: str
    reference: str | None = None
    subtechnique: tuple[Subtechnique, ...] = ()


class Tactic(msgspec.Struct, frozen=True, kw_only=True):
    """A tactic of MITRE ATT&CK, such as TA0006."""

    id: str
    name: str
    reference: str | None = None


class Threat(msgspec.Struct, frozen=True, kw_only=True):
    """What a rule detects, in the words of a threat framework."""

    framework: str = "MITRE ATT&CK"
    tactic: Tactic
    technique: tuple[Technique, ...] = ()


class RuleTest(msgspec.Struct, frozen=True, kw_only=True):
    """One example beside a rule, and whether the rule must match it.

    Each example starts from an ordinary exec in a container. `args` is its argv (a string is split
    as a shell would), `document` is laid over it, null taking a field away. `documents` is for
    sequences: several such overlays, in order, 1 ms apart unless they carry an `@timestamp`.
    """

    matches: bool
    name: str | None = None
    args: str | list[str] | None = None
    document: dict[str, Any] | None = None
    documents: list[dict[str, Any]] | None = None

    def __post_init__(self) -> None:
        if self.documents is not None and (self.args is not None or self.document is not None):
            raise ValueError("`documents` stands without `args` and `document`")
        if isinstance(self.args, str):
            shlex.split(self.args)  # raises ValueError for an open quote


@dataclass(frozen=True, slots=True, kw_only=True)
class RawException:
    """An entry of a rule's `exceptions`, as it was written, and where."""

    value: dict[str, Any]
    location: Location


@dataclass(frozen=True, slots=True, kw_only=True)
class LocatedTest:
    """An entry of a rule's `tests`, and where it stands."""

    test: RuleTest
    location: Location


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One detection rule.

    `interval` is in seconds, `max_alerts` the number of alerts let through in one interval.
    `inactive_reason` says why the rule cannot fire here, and is None for one that can; `query` is
    None only where there is such a reason.
    """

    id: str
    name: str
    query_text: str
    path: str
    format: Literal["yaml", "toml"]
    builtin: bool = False
    query: Query | None = field(default=None, compare=False, repr=False)
    inactive_reason: str | None = None
    description: str = ""
    severity: Severity = "medium"
    risk_score: int = 47
    tags: tuple[str, ...] = ()
    threat: tuple[Threat, ...] = ()
    interval: int = 300
    max_alerts: int = 100
    version: int = 1
    author: tuple[str, ...] = ()
    license: str | None = None
    references: tuple[str, ...] = ()
    note: str = ""
    false_positives: tuple[str, ...] = ()
    enabled: bool = True
    exceptions: tuple[RawException, ...] = ()
    tests: tuple[LocatedTest, ...] = ()

    def __hash__(self) -> int:
        return hash(self.id)

    @property
    def active(self) -> bool:
        """Whether the rule takes part in matching."""
        return self.inactive_reason is None

    @property
    def replayable(self) -> bool:
        """Whether the rule takes part where events have an end: some can run only there."""
        if self.query is None or not self.enabled:
            return False
        return self.active or self.query.replay_only

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is doubtful about the query: it runs, but may not do what its author meant."""
        return tuple(self.query.warnings) if self.query is not None else ()

    @property
    def severity_number(self) -> int:
        """The severity as the number for `event.severity`."""
        return SEVERITY_NUMBER[self.severity]

    def ecs(self) -> dict[str, Any]:
        """Return what this rule alone decides in an alert: `rule` and, where it names one, `threat`.

        A fresh dict, free to be changed.
        """
        rule: dict[str, Any] = {"id": self.id, "name": self.name, "version": str(self.version)}
        if self.description:
            rule["description"] = self.description
        rule["ruleset"] = "built-in" if self.builtin else "user"
        if self.author:
            rule["author"] = list(self.author)
        if self.license:
            rule["license"] = self.license
        if self.references:
            # A keyword in ECS, which holds one value or several alike.
            rule["reference"] = (
                self.references[0] if len(self.references) == 1 else list(self.references)
            )
        document: dict[str, Any] = {"rule": rule}
        if self.threat:
            document["threat"] = _threat_ecs(self.threat)
        return document


def _threat_ecs(threats: tuple[Threat, ...]) -> dict[str, Any]:
    """ECS has one `threat` object whose tactic and technique fields are arrays."""
    techniques = [technique for threat in threats for technique in threat.technique]
    subtechniques = [each for technique in techniques for each in technique.subtechnique]
    result: dict[str, Any] = {
        "framework": threats[0].framework,
        "tactic": _columns([threat.tactic for threat in threats]),
    }
    if techniques:
        result["technique"] = _columns(techniques)
        if subtechniques:
            result["technique"]["subtechnique"] = _columns(subtechniques)
    return result


def _columns(rows: list[Any]) -> dict[str, Any]:
    """Rows with id, name and reference as three arrays in step, each id once."""
    distinct = {row.id: row for row in rows}.values()
    columns: dict[str, Any] = {
        "id": [row.id for row in distinct],
        "name": [row.name for row in distinct],
    }
    if references := [row.reference for row in distinct if row.reference]:
        columns["reference"] = references
    return columns
