"""The kernel's filter for a set of rules, or the reason why there is none.

In: rules. Out: an automaton that lets through whatever one of them could match, or None: then every
exec comes through. It may let through more than it must, never less.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sensor.kernel.automaton import Automaton, FilterTooLargeError, build
from sensor.rules.literals import necessary_literals
from sensor.rules.rule import Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefilter:
    """`automaton` is None where the filter is off; `reason` then says why."""

    automaton: Automaton | None
    literals: int = 0
    reason: str = ""

    def __str__(self) -> str:
        if self.automaton is None:
            return f"off: {self.reason}"
        return f"on: {self.literals} literals, {self.automaton.states} states"


def build_prefilter(rules: Iterable[Rule], always: Iterable[bytes] = ()) -> Prefilter:
    """`always` are literals that pass whatever the rules say."""
    literals = set(always)
    for rule in rules:
        if rule.query is None:
            continue
        needed = necessary_literals(rule.query)
        if needed is None:
            return Prefilter(automaton=None, reason=f"rule {rule.name!r} could match any exec")
        literals |= needed
    if not literals:
        return Prefilter(automaton=None, reason="there are no rules")
    try:
        automaton = build(literals)
    except FilterTooLargeError as exc:
        return Prefilter(automaton=None, reason=f"the rules' literals do not fit: {exc}")
    return Prefilter(automaton=automaton, literals=len(literals))
