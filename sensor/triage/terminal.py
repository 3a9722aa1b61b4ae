"""The report for a terminal. Everything is escaped and bounded; the only control codes are our colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sensor.triage.words import (
    WEIGHT_WORDS,
    command,
    moment,
    offset,
    plural,
    value,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sensor.triage.model import Fact, Node, Report, Signal

_SEVERITY = {"low": "cyan", "medium": "yellow", "high": "red", "critical": "bright_red"}
_WEIGHT = {"alarming": ("!", "red"), "reassuring": ("✓", "green"), "open": ("?", "yellow")}
_MOMENTS_SHOWN = 40


def render(report: Report, *, color: bool) -> str:
    """The report as lines, with a line break at the end."""
    text = "\n".join(_lines(report)) + "\n"
    return text if color else click.unstyle(text)


def _lines(report: Report) -> Iterator[str]:
    mark = click.style(
        f"{report.severity.upper()} {report.risk_score}", fg=_SEVERITY[report.severity], bold=True
    )
    yield f"{mark} {click.style(value(report.rule.name), bold=True)}"
    yield report.summary
    yield ""
    yield f"  {command(report.args, 1024) or value(report.executable)}"
    yield ""
    yield from _rows(
        (
            ("When", (moment(report.time),), False),
            ("Program", (value(report.executable),), False),
            ("Directory", (value(report.working_directory),), False),
            *((fact.label, _values(fact), fact.warn) for fact in report.who),
            ("Host", (value(report.host),), False),
            ("Alert", (value(report.id),), False),
        )
    )
    yield from (f"  {note}" for note in report.notes)
    if report.signals:
        yield from _head("For and against")
        for signal in report.signals:
            yield from _signal(signal)
    yield from _head("Process tree")
    yield from (_node(report.tree, index) for index in range(len(report.tree)))
    if report.tree_left_out:
        yield f"  … {report.tree_left_out} more beside it"
    yield from _timeline(report)
    if report.container:
        yield from _head("Container")
        yield from _rows((fact.label, _values(fact), fact.warn) for fact in report.container)
    yield from _history(report)
    yield from _related(report)
    yield from _ending(report)


def _timeline(report: Report) -> Iterator[str]:
    yield from _head("Timeline")
    left_out = len(report.timeline) - _MOMENTS_SHOWN
    if left_out > 0:
        yield f"  … {left_out} earlier"
    for each in report.timeline[-_MOMENTS_SHOWN:]:
        what = (
            command(each.args, 160, truncated=each.args_truncated)
            if each.args
            else value(each.text, 160)
        )
        line = f"  {offset(each.time - report.time):>9}  {each.kind:9}  {what}"
        yield click.style(line, bold=True) if each.kind == "match" else line


def _history(report: Report) -> Iterator[str]:
    history = report.history
    if history is None:
        return
    yield from _head("Seen before")
    yield (
        f"  this exact action: {plural(history.alerts, 'alert')}, {history.hidden:,} hidden, "
        f"{plural(history.execs, 'exec')}; from {moment(history.first)} to {moment(history.last)}"
    )
    hours = ", ".join(f"{hour:02}h {count}" for hour, count in enumerate(history.hours) if count)
    yield f"  by hour (UTC): {hours}"
    for near in report.exceptions:
        fails = "; ".join(near.fails) or "nothing: it holds by now"
        yield f"  near exception {value(near.id)}: does not hold: {value(fails)}"


def _related(report: Report) -> Iterator[str]:
    for group in report.related:
        yield from _head(f"Other alerts: {group.title}")
        for each in group.alerts:
            yield (
                f"  {moment(each.time)}  {each.severity:8}  {value(each.id[:10])}  "
                f"{value(each.container, 32)}  {value(each.command, 100)}"
            )
        if group.more:
            yield "  … more in the store"


def _ending(report: Report) -> Iterator[str]:
    if report.impact:
        yield from _head("If it is an attack")
        yield from (f"  • {sentence}" for sentence in report.impact)
    yield from _head("Next steps")
    for number, step in enumerate(report.steps, 1):
        yield f"  {number}. {click.style(step.title, bold=True)}"
        if step.detail:
            yield f"     {step.detail}"
        yield from (f"       $ {each}" for each in step.commands)
    if report.rule.false_positives:
        yield from _head("Known false positives of the rule")
        yield from (f"  • {value(each)}" for each in report.rule.false_positives)
    if report.gaps:
        yield from _head("Not known")
        yield from (f"  • {value(gap)}" for gap in report.gaps)


def _head(title: str) -> Iterator[str]:
    yield ""
    yield click.style(title, bold=True, underline=True)


def _rows(rows: object) -> Iterator[str]:
    for label, values, warn in rows:  # type: ignore[attr-defined]
        shown = [each for each in values if each]
        if not shown:
            continue
        mark = click.style("!", fg="red", bold=True) if warn else " "
        yield f"{mark} {click.style(f'{label:19}', dim=True)}{shown[0]}"
        yield from (f"{'':21}{each}" for each in shown[1:])


def _values(fact: Fact) -> tuple[str, ...]:
    return tuple(value(each) for each in fact.values)


def _signal(signal: Signal) -> Iterator[str]:
    mark, color = _WEIGHT[signal.weight]
    yield (
        f"  {click.style(mark, fg=color, bold=True)} {value(signal.title)}"
        f"  {click.style(f'({WEIGHT_WORDS[signal.weight].lower()})', dim=True)}"
    )
    if signal.detail:
        yield f"    {value(signal.detail)}"


def _node(tree: tuple[Node, ...], index: int) -> str:
    node = tree[index]
    args = command(
        node.args, 96 if node.place == "outside" else 160, truncated=node.args_truncated
    ) or value(node.name, 64)
    about = f"pid {node.pid}" + (f", {', '.join(node.marks)}" if node.marks else "")
    where = ", outside" if node.place == "outside" else ""
    branch = "" if node.parent is None else "└─ "
    line = f"  {'   ' * max(node.depth - 1, 0)}{branch}{args}"
    styled = click.style(line, bold=True, fg="red") if node.is_match else line
    return f"{styled}  {click.style(f'({about}{where})', dim=True)}"
