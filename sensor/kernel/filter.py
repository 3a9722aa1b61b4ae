"""The filter as a whole: what is done with the host's execs and with all others, and the tables for it.

In: literals that rules need, or that they need none. Out: the word the program reads (`struct
sensor_config`), beside an automaton. `passes` is the program's decision in Python, for tests.
"""

from __future__ import annotations

from dataclasses import dataclass

from sensor.kernel import layout
from sensor.kernel.automaton import Automaton
from sensor.kernel.layout import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """`plan` is for execs in containers and where it is not known, `host_plan` for the host's.

    `failed_plan` and `failed_host_plan` are the same for execs that failed. With `paths` the
    executable's whole path is searched, which costs the program a walk up the tree.
    """

    automaton: Automaton | None = None
    plan: Plan = Plan.PASS
    host_plan: Plan = Plan.PASS
    failed_plan: Plan = Plan.PASS
    failed_host_plan: Plan = Plan.PASS
    paths: bool = False

    @classmethod
    def searching(cls, automaton: Automaton) -> Filter:
        """One automaton for all execs, those that failed included."""
        plan = Plan.SEARCH
        return cls(
            automaton=automaton,
            plan=plan,
            host_plan=plan,
            failed_plan=plan,
            failed_host_plan=plan,
        )

    @property
    def spares_the_host(self) -> bool:
        """Whether it is of use to know which cgroups are the host's."""
        automaton = self.automaton
        return (
            self.host_plan != self.plan
            or self.failed_host_plan != self.failed_plan
            or (
                automaton is not None
                and self.host_plan == Plan.SEARCH
                and automaton.host_start != layout.STATE_START
            )
            or (
                automaton is not None
                and self.failed_host_plan == Plan.SEARCH
                and automaton.failed_host_start != automaton.failed_start
            )
        )

    def word(self, bank: int) -> int:
        """What the program reads, with the tables in this bank."""
        start = self.automaton.host_start if self.automaton is not None else layout.STATE_START
        return (
            bank * layout.FILTER_BANK
            | self.paths * layout.FILTER_PATHS
            | self.plan << layout.FILTER_PLAN_SHIFT
            | self.host_plan << layout.FILTER_HOST_SHIFT
            | start << layout.FILTER_HOST_STATE
        )

    def failed_word(self, bank: int) -> int:
        """What the program reads for execs that failed."""
        start = host_start = layout.STATE_START
        if self.automaton is not None:
            start = self.automaton.failed_start
            host_start = self.automaton.failed_host_start
        return (
            bank * layout.FILTER_BANK
            | self.failed_plan << layout.FILTER_PLAN_SHIFT
            | self.failed_host_plan << layout.FILTER_HOST_SHIFT
            | host_start << layout.FILTER_HOST_STATE
            | start << layout.FILTER_STATE
        )

    def passes(self, text: bytes, *, host: bool, failed: bool = False) -> bool:
        """What the program decides for an exec whose text could be read whole."""
        if failed:
            plan = self.failed_host_plan if host else self.failed_plan
        else:
            plan = self.host_plan if host else self.plan
        if plan != Plan.SEARCH or self.automaton is None:
            return plan == Plan.PASS
        return self.automaton.search(text, host=host, failed=failed)
