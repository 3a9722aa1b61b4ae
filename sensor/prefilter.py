"""The kernel's filter for a set of rules, or the reason why there is none.

In: rules. Out: a filter that lets through whatever one of them could match, in a container or on the host.
It may let through more than it must, never less.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sensor.kernel.automaton import FilterTooLargeError, build
from sensor.kernel.filter import Filter
from sensor.kernel.layout import Plan
from sensor.rules.literals import needs_of
from sensor.rules.rule import Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefilter:
    """`reason` says why the filter is off, for all execs or for the host's."""

    filter: Filter
    literals: int = 0
    host_literals: int = 0
    reason: str = ""

    def __str__(self) -> str:
        if self.filter.plan == Plan.PASS:
            host = ", but of the host's execs none is wanted"
            return f"off: {self.reason}{host if self.filter.host_plan == Plan.DROP else ''}"
        states = self.filter.automaton.states if self.filter.automaton is not None else 0
        return f"on: {self.literals} literals, {states} states, host: {self._host()}"

    def _host(self) -> str:
        match self.filter.host_plan:
            case Plan.DROP:
                return "no exec is wanted"
            case Plan.PASS:
                return f"off: {self.reason}"
            case _:
                return f"{self.host_literals} literals"


def build_prefilter(rules: Iterable[Rule], always: Iterable[bytes] = ()) -> Prefilter:
    """`always` are literals that pass whatever the rules say, wherever it is not known to be the host."""
    literals, host_literals = set(always), set[bytes]()
    plan, host_plan = Plan.SEARCH, Plan.DROP
    reason, paths = "", False
    for rule in rules:
        if rule.query is None:
            continue
        for needs in needs_of(rule.query):
            paths = paths or needs.paths
            if needs.literals is None:
                reason = reason or f"rule {rule.name!r} could match any exec"
                plan = Plan.PASS
                host_plan = host_plan if needs.container else Plan.PASS
                continue
            literals |= needs.literals
            if not needs.container and needs.literals:
                host_literals |= needs.literals
                host_plan = Plan.SEARCH if host_plan == Plan.DROP else host_plan
    if plan == Plan.SEARCH and not literals:
        return Prefilter(filter=Filter(), reason="there are no rules")
    try:
        return _filter(plan, host_plan, literals, host_literals, reason, paths=paths)
    except FilterTooLargeError as exc:
        reason = f"the rules' literals do not fit: {exc}"
        host_plan = Plan.DROP if host_plan == Plan.DROP else Plan.PASS
        return Prefilter(filter=Filter(host_plan=host_plan), reason=reason)


def _filter(
    plan: Plan,
    host_plan: Plan,
    literals: set[bytes],
    host_literals: set[bytes],
    reason: str,
    *,
    paths: bool,
) -> Prefilter:
    automaton = None
    if plan == Plan.SEARCH:
        try:
            automaton = build(literals, host_literals if host_plan == Plan.SEARCH else None)
        except FilterTooLargeError:
            automaton = build(literals)  # then the host's execs are searched for all of them
    elif host_plan == Plan.SEARCH:
        automaton = build(host_literals)
    return Prefilter(
        filter=Filter(
            automaton=automaton,
            plan=plan,
            host_plan=host_plan,
            paths=paths and automaton is not None,
        ),
        literals=len(literals),
        host_literals=len(host_literals),
        reason=reason,
    )
