"""What the guests said, as results, and the results as tables.

In: a guest's console, line by line. Out: one `Run` for each machine, and Markdown.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

PREFIX = "RESULT "
BEGIN = "<!-- results: written by `make test-kernels` -->"
END = "<!-- end of results -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    name: str
    about: str
    passed: bool
    seconds: float = 0.0
    error: str | None = None
    found: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Run:
    """One kernel's run. `problem` says why it did not come to its end; `seconds` is all of it."""

    name: str
    facts: dict[str, Any] = field(default_factory=dict)
    cases: list[Case] = field(default_factory=list)
    ended: bool = False
    problem: str | None = None
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return (
            self.ended
            and self.problem is None
            and bool(self.cases)
            and all(case.passed for case in self.cases)
        )

    def take(self, line: str) -> Case | None:
        """Takes a line of the console; returns the case that it tells, if it tells one.

        A line that is damaged is a `problem`: a result may be missing.
        """
        before, found, text = line.partition(PREFIX)
        if not found or before.strip():
            return None
        try:
            said = json.loads(text)
        except ValueError:
            self.problem = f"a result is damaged: {line[:200]}"
            return None
        self.facts |= said.get("facts", {})
        if "case" in said:
            case = Case(
                name=said["case"],
                about=said["about"],
                passed=said["passed"],
                seconds=said.get("seconds", 0.0),
                error=said.get("error"),
                found=said.get("found") or {},
            )
            self.cases.append(case)
            return case
        if "end" in said:
            self.ended = True
            if said["end"] != len(self.cases):
                self.problem = f"{len(self.cases)} results came of {said['end']}"
        return None

    def found(self, key: str) -> Any:
        """What some case found out about the kernel; None where none did."""
        return next((case.found[key] for case in self.cases if key in case.found), None)


def tables(runs: Sequence[Run]) -> str:
    """The results as Markdown: kernels, programs by kernel, cases by kernel."""
    return "\n\n".join((_kernels(runs), _programs(runs), _cases(runs)))


def _kernels(runs: Sequence[Run]) -> str:
    rows = []
    for run in runs:
        passed = sum(case.passed for case in run.cases)
        facts = run.facts
        refused = run.found("bpf_refused_to_nobody")
        rows.append(
            (
                f"`{facts.get('kernel', run.name)}`",
                facts.get("machine", "?"),
                f"{facts.get('bcc', '?')} / {facts.get('llvm', '?')}",
                "all" if run.passed else f"**{passed} of {len(run.cases)}**",
                _seconds(facts.get("load_seconds")),
                _seconds(run.seconds),
                _capabilities(run.found("capabilities"), run.found("to_miss_none")),
                {True: "refused", False: "answered", None: "?"}[refused],
                "yes" if facts.get("counts_missed_runs") else "no",
                _FAILED_AT[run.found("at_every_call")],
            )
        )
    return _table(
        (
            "kernel",
            "machine",
            "BCC / LLVM",
            "cases passed",
            "load, s",
            "boot to end, s",
            "capabilities that suffice",
            "`bpf()` without one",
            "tells missed runs",
            "failed execs are seen",
        ),
        rows,
    )


# Where execs that failed are seen, by what the case found.
_FAILED_AT = {False: "as the call returns", True: "as any call ends", None: "?"}


def _capabilities(sufficient: Sequence[str] | None, to_miss_none: Sequence[str] | None) -> str:
    if not sufficient or not to_miss_none:
        return "?"
    told = ", ".join(sufficient)
    more = [name for name in to_miss_none if name not in sufficient]
    return f"{told}; with {', '.join(more)} none is missed" if more else told


def _programs(runs: Sequence[Run]) -> str:
    told = [run for run in runs if any((run.facts.get("verified") or {}).values())]
    names = dict.fromkeys(name for run in told for name in run.facts["verified"])
    rows = [
        (f"`{name}`", *(f"{run.facts['verified'].get(name) or 0:,}" for run in told))
        for name in names
    ]
    return _table(("instructions verified", *(run.name for run in told)), rows)


def _cases(runs: Sequence[Run]) -> str:
    about = {case.name: case.about for run in runs for case in run.cases}
    by_run = [{case.name: case for case in run.cases} for run in runs]
    rows = [
        (
            text,
            *(
                "-" if name not in cases else "ok" if cases[name].passed else "**failed**"
                for cases in by_run
            ),
        )
        for name, text in about.items()
    ]
    return _table(("case", *(run.name for run in runs)), rows)


def _seconds(value: float | None) -> str:
    return "?" if value is None else f"{value:.0f}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def replaced(document: str, results: str) -> str:
    """The document with the results between its two marks. Raises `ValueError` without the marks."""
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{BEGIN} and {END} are missing")
    return f"{before}{BEGIN}\n\n{results}\n\n{END}{after}"
