"""A triage report as plain values: what a person has to know to decide about one alert.

Texts are as they were captured, hostile ones included; each renderer escapes and bounds them.
Times are in seconds since the epoch. `None` and empty tuples mean "not known" or "none", and
`Report.gaps` says in words what could not be looked up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Place = Literal["outside", "inside", "unknown"]
MomentKind = Literal["exec", "match", "alert", "hidden", "update", "container"]
Weight = Literal["alarming", "reassuring", "open"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A process of the tree. `parent` is an index into `Report.tree`, always a smaller one.

    `is_chain` is true of the match and its ancestors, false of what else the container ran beside.
    """

    parent: int | None
    depth: int
    pid: int
    name: str
    args: tuple[str, ...]
    args_truncated: bool
    user: str
    place: Place
    is_chain: bool
    is_match: bool
    marks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One line of what is known; several values stand for several lines. `warn`: look twice.

    `prose` is true of sentences of ours, false of names and commands.
    """

    label: str
    values: tuple[str, ...]
    warn: bool = False
    prose: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Something at one time. `args` is a command, `text` is a sentence; one of them is empty."""

    time: float
    kind: MomentKind
    args: tuple[str, ...] = ()
    text: str = ""
    args_truncated: bool = False
    pid: int = 0
    user: str = ""
    alert_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OtherAlert:
    """Another alert in short; `execs` counts what was collapsed into it."""

    id: str
    time: float
    severity: str
    rule: str
    command: str
    container: str
    user: str
    execs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Related:
    """Other alerts that have something in common with this one; `more` where there are yet others."""

    title: str
    alerts: tuple[OtherAlert, ...]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """How often this exact action occurred, itself included; `hours` are counts by hour in UTC."""

    alerts: int
    hidden: int
    execs: int
    first: float
    last: float
    hours: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class NearException:
    """An exception for the rule that almost hides this alert: what of it holds, and what does not."""

    id: str
    reason: str
    owner: str
    expires: str
    holds: tuple[str, ...]
    fails: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """One thing that speaks for an attack, for routine, or that has to be found out."""

    weight: Weight
    title: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What to do next, with the commands for it. The commands' variable parts are quoted."""

    title: str
    detail: str = ""
    commands: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleText:
    """What the rule says of itself."""

    id: str
    name: str
    description: str
    tactics: tuple[str, ...]
    techniques: tuple[str, ...]
    references: tuple[str, ...]
    false_positives: tuple[str, ...]
    guide: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything, in the order in which it is read."""

    id: str
    time: float
    host: str
    severity: str
    risk_score: int
    rule: RuleText
    summary: str
    args: tuple[str, ...]
    executable: str
    working_directory: str
    notes: tuple[str, ...]
    who: tuple[Fact, ...]
    signals: tuple[Signal, ...]
    tree: tuple[Node, ...]
    tree_left_out: int
    timeline: tuple[Moment, ...]
    container: tuple[Fact, ...]
    related: tuple[Related, ...]
    history: History | None
    exceptions: tuple[NearException, ...]
    impact: tuple[str, ...]
    steps: tuple[Step, ...]
    gaps: tuple[str, ...]
