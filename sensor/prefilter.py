"""The kernel's filter for a set of rules, or the reason why there is none.

In: rules. Out: a filter that lets through whatever one of them could match, in a container or on the host.
It may let through more than it must, never less.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sensor.kernel.automaton import Automaton, FilterTooLargeError, build
from sensor.kernel.filter import Filter
from sensor.kernel.layout import Plan
from sensor.rules import live
from sensor.rules.literals import needs_of
from sensor.rules.rule import Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefilter:
    """`reason` says why the filter is off, for all execs or for the host's.

    `failed_literals` are those for execs that failed; None where they are not told.
    """

    filter: Filter
    literals: int = 0
    host_literals: int = 0
    failed_literals: int | None = None
    reason: str = ""

    def __str__(self) -> str:
        if self.filter.plan == Plan.PASS:
            host = ", but of the host's execs none is wanted"
            said = f"off: {self.reason}{host if self.filter.host_plan == Plan.DROP else ''}"
        else:
            states = self.filter.automaton.states if self.filter.automaton is not None else 0
            said = f"on: {self.literals} literals, {states} states, host: {self._host()}"
        return said if self.failed_literals is None else f"{said}, failed execs: {self._failed()}"

    def _failed(self) -> str:
        match self.filter.failed_plan:
            case Plan.DROP:
                return "no rule wants one"
            case Plan.PASS:
                return "all pass"
            case _:
                return f"{self.failed_literals} literals"

    def _host(self) -> str:
        match self.filter.host_plan:
            case Plan.DROP:
                return "no exec is wanted"
            case Plan.PASS:
                return f"off: {self.reason}"
            case _:
                return f"{self.host_literals} literals"


@dataclass(slots=True)
class _Wanted:
    """What rules want of some kind of execs, anywhere and on the host."""

    plan: Plan
    host_plan: Plan = Plan.DROP
    literals: set[bytes] = field(default_factory=set)
    host_literals: set[bytes] = field(default_factory=set)
    paths: bool = False
    reason: str = ""

    def add(self, rule: Rule, facts: live.Facts) -> None:
        for needs in needs_of(rule.query, facts=facts) if rule.query is not None else ():
            self.paths = self.paths or needs.paths
            if needs.literals is None:
                self.reason = self.reason or f"rule {rule.name!r} could match any exec"
                self.plan = Plan.PASS
                self.host_plan = self.host_plan if needs.container else Plan.PASS
                continue
            self.literals |= needs.literals
            if needs.literals and self.plan == Plan.DROP:
                self.plan = Plan.SEARCH
            if not needs.container and needs.literals:
                self.host_literals |= needs.literals
                self.host_plan = Plan.SEARCH if self.host_plan == Plan.DROP else self.host_plan

    def give_up(self) -> None:
        """What cannot be searched passes."""
        if self.plan == Plan.SEARCH:
            self.plan = Plan.PASS
        if self.host_plan == Plan.SEARCH:
            self.host_plan = Plan.PASS

    def searched(self) -> set[bytes] | None:
        return self.literals if self.plan == Plan.SEARCH else None

    def searched_on_host(self) -> set[bytes] | None:
        return self.host_literals if self.host_plan == Plan.SEARCH else None


def build_prefilter(
    rules: Iterable[Rule], always: Iterable[bytes] = (), *, failed: bool = False
) -> Prefilter:
    """`always` are literals that pass whatever the rules say, wherever it is not known to be the host.

    With `failed` there is also something to filter execs that failed by, of which no rule may want any.
    """
    wanted = _Wanted(plan=Plan.SEARCH, literals=set(always))
    of_failed = _Wanted(plan=Plan.DROP)
    for rule in rules:
        wanted.add(rule, live.FACTS)
        if failed:
            of_failed.add(rule, live.FAILED)
    if wanted.plan == Plan.SEARCH and not wanted.literals:
        wanted.plan = wanted.host_plan = Plan.PASS
        wanted.reason = "there are no rules"
    automaton = None
    try:
        automaton = _build(wanted, of_failed)
    except FilterTooLargeError:
        of_failed.give_up()
        try:
            automaton = _build(wanted, of_failed)
        except FilterTooLargeError as exc:
            wanted.give_up()
            wanted.reason = f"the rules' literals do not fit: {exc}"
    return Prefilter(
        filter=Filter(
            automaton=automaton,
            plan=wanted.plan,
            host_plan=wanted.host_plan,
            failed_plan=of_failed.plan if failed else Plan.PASS,
            failed_host_plan=of_failed.host_plan if failed else Plan.PASS,
            paths=wanted.paths and automaton is not None,
        ),
        literals=len(wanted.literals),
        host_literals=len(wanted.host_literals),
        failed_literals=len(of_failed.literals) if failed else None,
        reason=wanted.reason,
    )


def _build(wanted: _Wanted, of_failed: _Wanted) -> Automaton | None:
    literals, host_literals = wanted.searched(), wanted.searched_on_host()
    failed, failed_host = of_failed.searched(), of_failed.searched_on_host()
    if literals is host_literals is failed is failed_host is None:
        return None
    try:
        return build(literals, host_literals, failed=failed, failed_host=failed_host)
    except FilterTooLargeError:
        if literals is None or host_literals is None:
            raise
        # then the host's execs are searched for all of them
        return build(literals, failed=failed, failed_host=failed_host)
