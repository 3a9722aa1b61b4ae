"""The report as Markdown for a ticket: hostile text stands in code only, where nothing is a link or a tag."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from sensor.triage.words import WEIGHT_WORDS, command, moment, offset, plural, value

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sensor.triage.model import Node, Report

_SPECIAL = re.compile(r"([\\`*_{}\[\]<>()#+!|~&$]|:(?=//)|(?<=www)\.)")
# In a table a pipe ends a cell, even inside of code.
_PIPE = re.compile(r"(?<!\\)\|")
_MOMENTS_SHOWN = 60


def render(report: Report) -> str:
    """The report as a Markdown document."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield f"# {_text(report.rule.name)}"
    yield ""
    yield f"**{report.severity.upper()} {report.risk_score}** · {_text(report.summary)}"
    yield ""
    yield from _block([command(report.args, 4096) or value(report.executable)])
    yield from _table(
        ("", ""),
        [
            ("When", _text(moment(report.time))),
            ("Program", _code(report.executable)),
            ("Directory", _code(report.working_directory)),
            *(
                (fact.label, "<br>".join(map(_text if fact.prose else _code, fact.values)))
                for fact in report.who
            ),
            ("Host", _code(report.host)),
            ("Alert", _code(report.id)),
        ],
    )
    yield from (f"> {_text(note)}\n" for note in report.notes)
    yield "## For and against"
    yield ""
    for signal in report.signals:
        detail = f": {_text(signal.detail)}" if signal.detail else ""
        yield f"- **{WEIGHT_WORDS[signal.weight]}.** {_text(signal.title)}{detail}"
    yield ""
    yield "## Process tree"
    yield ""
    yield from _block([_node(node) for node in report.tree])
    yield "## Timeline"
    yield ""
    yield from _block(
        [
            f"{offset(each.time - report.time):>9}  {each.kind:9}  "
            + (
                command(each.args, 200, truncated=each.args_truncated)
                if each.args
                else value(each.text, 200)
            )
            for each in report.timeline[-_MOMENTS_SHOWN:]
        ]
    )
    if report.container:
        yield "## Container"
        yield ""
        yield from _table(
            ("", ""),
            [
                (
                    f"**{fact.label}**" if fact.warn else fact.label,
                    "<br>".join(map(_code, fact.values)),
                )
                for fact in report.container
            ],
        )
    yield from _store(report)
    yield from _ending(report)


def _store(report: Report) -> Iterator[str]:
    if history := report.history:
        yield "## Seen before"
        yield ""
        yield (
            f"This exact action: {plural(history.alerts, 'alert')}, {history.hidden:,} hidden by "
            f"exceptions, {plural(history.execs, 'exec')}, from {moment(history.first)} to "
            f"{moment(history.last)}."
        )
        yield ""
        hours = ", ".join(
            f"{hour:02}h: {count}" for hour, count in enumerate(history.hours) if count
        )
        yield f"By hour of the day (UTC): {hours}"
        yield ""
    for near in report.exceptions:
        fails = "; ".join(near.fails) or "nothing: it holds by now"
        yield f"- Exception {_code(near.id)}, what does not hold: {_code(fails)}"
    if report.exceptions:
        yield ""
    for group in report.related:
        yield f"## Other alerts: {group.title}"
        yield ""
        yield from _table(
            ("When", "Severity", "Alert", "Container", "Command"),
            [
                (
                    moment(each.time),
                    each.severity,
                    _code(each.id[:10]),
                    _code(each.container),
                    _code(each.command),
                )
                for each in group.alerts
            ],
        )


def _ending(report: Report) -> Iterator[str]:
    if report.impact:
        yield "## If it is an attack"
        yield ""
        yield from (f"- {_text(sentence)}" for sentence in report.impact)
        yield ""
    yield "## Next steps"
    yield ""
    for number, step in enumerate(report.steps, 1):
        yield f"{number}. **{_text(step.title)}** {_text(step.detail)}"
        for each in step.commands:
            yield ""
            yield f"   {_code(each)}"
        yield ""
    if report.rule.false_positives:
        yield "## Known false positives of the rule"
        yield ""
        yield from (f"- {_text(each)}" for each in report.rule.false_positives)
        yield ""
    if report.gaps:
        yield "## Not known"
        yield ""
        yield from (f"- {_text(gap)}" for gap in report.gaps)


def _node(node: Node) -> str:
    args = command(
        node.args, 96 if node.place == "outside" else 200, truncated=node.args_truncated
    ) or value(node.name, 64)
    marks = "".join(f", {mark}" for mark in node.marks)
    branch = "" if node.parent is None else "└─ "
    match = "   <== the match" if node.is_match else ""
    return f"{'   ' * max(node.depth - 1, 0)}{branch}{args}  (pid {node.pid}{marks}){match}"


def _text(found: str) -> str:
    """Prose in which nothing is markup."""
    # No forge shall notify whom a container's name mentions.
    return _SPECIAL.sub(r"\\\1", value(found, 1024)).replace("@", "@\u2060")


def _code(found: str) -> str:
    """A code span, delimited by more backticks than the text has in a row."""
    shown = value(found, 1024)
    if not shown:
        return ""
    fence = "`" * (max((len(run) for run in re.findall("`+", shown)), default=0) + 1)
    return f"{fence} {shown} {fence}"


def _block(lines: Iterable[str]) -> Iterator[str]:
    """A code block by a fence longer than any in it."""
    text = "\n".join(lines)
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(longest + 1, 3)
    yield f"{fence}text"
    yield text
    yield fence
    yield ""


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(header)} |"
    yield f"|{'---|' * len(header)}"
    for row in rows:
        if all(row):
            yield f"| {' | '.join(map(_cell, row))} |"
    yield ""


def _cell(found: str) -> str:
    return _PIPE.sub(r"\\|", found)
