"""`sensor alerts`: what the store keeps, as a table on a terminal and as JSON lines in a pipe."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from sensor.alerts.encode import encode
from sensor.alerts.escape import visible
from sensor.alerts.terminal import cut, render, terminal_width, wants_color
from sensor.cli.alert_store import StorePlace, store_options
from sensor.cli.moments import Moment
from sensor.errors import ConfigurationError
from sensor.rules.rule import SEVERITY_NUMBER
from sensor.store.errors import AlertNotFoundError
from sensor.store.filter import Filter
from sensor.store.follow import follow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from sensor.alerts.redaction.document import Redactor
    from sensor.store.records import Similar, Summary, Update
    from sensor.store.store import Store

_SHORT_ID = 10
_RULE_WIDTH = 32
# What rule and command need beside the other columns; where they have less, they are on a line of their own.
_WHAT_WIDTH = 64
_YEAR = len("2027-")
_COLOURS = {"low": "cyan", "medium": "yellow", "high": "red", "critical": "bright_red"}
_FORMAT = click.option(
    "--output",
    type=click.Choice(["auto", "text", "json"]),
    default="auto",
    help="auto: text on a terminal, JSON lines otherwise.",
)
_SECRETS = click.option(
    "--secrets", is_flag=True, help="Also what redaction cuts out of command lines and labels."
)
_FILTERS = (
    click.option("--rule", metavar="RULE", help="Of this rule: its id, or a part of its name."),
    click.option(
        "--container", metavar="NAME|ID", help="Of this container; of an id, four digits will do."
    ),
    click.option("--image", metavar="NAME[:TAG]", help="Of containers of this image."),
    click.option("--user", metavar="NAME|NUMBER", help="Of processes of this user."),
    click.option("--since", type=Moment(), help="Not older than: 30m, 2h, 7d, or a time."),
    click.option("--until", type=Moment(), help="Older than."),
    click.option(
        "--severity", type=click.Choice(list(SEVERITY_NUMBER)), help="At least of this severity."
    ),
    click.option("--hidden", is_flag=True, help="Also what an exception has hidden and recorded."),
)


def _filter_options(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_FILTERS):
        command = option(command)
    return command


@click.group("alerts")
def alerts() -> None:
    """List, show and follow the alerts that the sensor has kept.

    They are kept where `store.path` of the configuration says, and may be read by root and by the
    sensor's own user.
    """


@alerts.command("list")
@_filter_options
@click.option(
    "-n",
    "--limit",
    type=click.IntRange(min=1),
    default=50,
    show_default=True,
    help="How many at most.",
)
@_SECRETS
@_FORMAT
@store_options
def list_alerts(
    store_place: StorePlace, output: str, limit: int, secrets: bool, **filters: Any
) -> None:
    """List alerts, newest first.

    A line has the time, the severity, the beginning of the id, the container, the user, the rule and
    the command. In a pipe each line is the whole alert in JSON.
    """
    redactor = None if secrets else store_place.redactor()
    with store_place.open() as store:
        where = _filter(store, **filters)
        if _is_json(output):
            for document in store.documents(where, limit=limit):
                _write(encode(_shown(document, redactor)))
            return
        found = store.alerts(where, limit=limit)
        for line in _table(found, redactor, color=wants_color()):
            click.echo(line)
        total = store.count(where) if len(found) == limit else len(found)
        more = f"; {total - len(found)} more, see --limit" if total > len(found) else ""
        click.echo(f"{len(found)} alerts{more}", err=True)


@alerts.command("show")
@click.argument("alert")
@_SECRETS
@_FORMAT
@store_options
def show(store_place: StorePlace, alert: str, output: str, secrets: bool) -> None:
    """Show one alert whole. ALERT is its id, or the beginning of it; `last` is the newest.

    On a terminal: what the sensor printed, what became known later, and how often the same was seen.
    In a pipe: the ECS document with its updates applied.
    """
    redactor = None if secrets else store_place.redactor()
    with store_place.open() as store:
        identifier = _newest(store) if alert == "last" else store.find(alert).id
        whole = store.alert(identifier)
        document = _shown(whole, redactor)
        if _is_json(output):
            _write(encode(document))
            return
        summary = store.find(identifier)
        click.echo(f"{_moment(summary.time)}  {visible(summary.id)}")
        click.echo(render(document, color=wants_color(), width=terminal_width()), nl=False)
        for line in _later(store.updates(identifier)):
            click.echo(line)
        if summary.kind != "notice":
            click.echo(f"  {'seen':11}{_seen(store.similar(whole))}")


@alerts.command("tail")
@_filter_options
@click.option(
    "-n",
    "--lines",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="How many of the last ones to begin with.",
)
@click.option("--updates", is_flag=True, help="Also alerts of which more became known.")
@_SECRETS
@_FORMAT
@store_options
def tail(
    store_place: StorePlace, output: str, lines: int, updates: bool, secrets: bool, **filters: Any
) -> None:
    """Show the last alerts, and each new one as it comes, until Ctrl-C.

    A store that the sensor begins anew is followed.
    """
    redactor = None if secrets else store_place.redactor()
    as_json, color = _is_json(output), wants_color()
    try:
        with store_place.open() as store:
            where = _filter(store, **filters)
            position = store.position()
            last = store.alerts(where, limit=lines)[::-1] if lines else []
            for each in last:
                _one(store, each, redactor, as_json=as_json, color=color)
        for store, new in follow(store_place.path, where, after=position, updates=updates):
            for each in new:
                _one(store, each, redactor, as_json=as_json, color=color)
    except KeyboardInterrupt:
        return


def _shown(document: dict[str, Any], redactor: Redactor | None) -> dict[str, Any]:
    return document if redactor is None else redactor.document(document)


def _one(
    store: Store, each: Summary, redactor: Redactor | None, *, as_json: bool, color: bool
) -> None:
    try:
        document = _shown(store.alert(each.id), redactor)
    except AlertNotFoundError:
        return  # it went for want of room since it was listed
    if as_json:
        _write(encode(document))
    else:
        click.echo(render(document, color=color, width=terminal_width()), nl=False)


def _filter(store: Store, *, severity: str | None, rule: str | None, **given: Any) -> Filter:
    return Filter(
        rule=None if rule is None else rule_id(store, rule),
        minimum_severity=SEVERITY_NUMBER[severity] if severity else 0,  # type: ignore[index]
        **given,
    )


def rule_id(store: Store, wanted: str) -> str:
    """The id of the rule that is meant, of those that alerted. Raises ConfigurationError."""
    known = {each.example.rule_id or "": each.example.rule_name or "" for each in store.rules()}
    if wanted in known:
        return wanted
    folded = wanted.casefold()
    found = [
        identifier
        for identifier, name in known.items()
        if folded in name.casefold() or identifier.casefold().startswith(folded)
    ]
    if len(found) == 1:
        return found[0]
    names = ", ".join(
        f"{visible(known[each], 80)} ({visible(each, 64)})" for each in (found or known)
    )
    problem = "several rules are meant by" if found else "no alert is of a rule"
    raise ConfigurationError(f"--rule: {problem} {wanted!r}; there are: {names or 'none'}")


def _newest(store: Store) -> str:
    for each in store.alerts(limit=1):
        return each.id
    raise AlertNotFoundError(f"{store.path}: there is no alert yet")


def _table(found: list[Summary], redactor: Redactor | None, *, color: bool) -> Iterator[str]:
    """A line for each, cut to the terminal's width; two where the terminal is narrow."""
    if not found:
        return
    rows = [
        (
            _moment(each.time),
            _severity(each),
            visible(each.id[:_SHORT_ID]),
            visible(each.container_name or (each.container_id or "")[:12] or "-", 24),
            visible(each.user_name or each.user_id or "-", 16),
            _short(visible(each.rule_name or each.rule_id or "-", 128), _RULE_WIDTH),
            _what(each, redactor),
        )
        for each in found
    ]
    rows.insert(0, ("TIME", "SEVERITY", "ID", "CONTAINER", "USER", "RULE", "COMMAND"))
    width = terminal_width()
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    narrow = width - sum(widths[:5]) - 2 * 5 < _WHAT_WIDTH
    if narrow:
        rows = [(row[0][_YEAR:] or row[0], *row[1:]) for row in rows]
        widths[0] -= _YEAR
    for row in rows:
        cells = [cell.ljust(size) for cell, size in zip(row, widths, strict=True)]
        first, second = (cells[:5], cells[5:]) if narrow else (cells, [])
        line = cut("  ".join(first).rstrip(), width)
        if color and (colour := _COLOURS.get(row[1])):
            line = line.replace(row[1], click.style(row[1], fg=colour), 1)
        yield line
        if second:
            yield cut("  ".join(("", *second)).rstrip(), width)


def _what(each: Summary, redactor: Redactor | None) -> str:
    command = each.command if redactor is None else redactor.text(each.command)
    times = f" (×{each.execs})" if each.execs > 1 else ""  # noqa: RUF001 - a multiplication sign
    hidden = "hidden: " if each.kind == "hidden" else ""
    # The command is quoted and escaped already, but it comes from a file.
    return f"{hidden}{visible(command, 300)}{times}"


def _short(value: str, width: int) -> str:
    return value if len(value) <= width else f"{value[: width - 1]}…"


def _severity(each: Summary) -> str:
    word = "low"
    for name, least in SEVERITY_NUMBER.items():
        if each.severity >= least:
            word = name
    return word


def _later(updates: Iterable[Update]) -> Iterator[str]:
    for each in updates:
        change = each.change
        if "sensor" in change:
            count = change["sensor"]["collapsed"].get("count")
            text = f"the same action again, {count} times in all"
        else:
            name = (change.get("container") or {}).get("name")
            text = f"container {name}" if name else str(change.get("message") or "")
        yield f"  {'later':11}{_moment(each.received)}  {visible(text, 256)}"


def _seen(similar: Similar) -> str:
    hidden = f", {similar.hidden} of them hidden" if similar.hidden else ""
    total = similar.alerts + similar.hidden
    if total <= 1:
        return "this exact action is in the store this one time"
    hours = ", ".join(
        f"{hour:02}h ({count})" for hour, count in enumerate(similar.hours_utc) if count
    )
    return (
        f"this exact action {total} times{hidden} since {_moment(similar.first)}; "
        f"hours of the day in UTC: {hours}"
    )


def _moment(seconds: float) -> str:
    """Local time, as a person at this terminal reads it."""
    return datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _is_json(output: str) -> bool:
    return output == "json" or (output == "auto" and not sys.stdout.isatty())


def _write(line: bytes) -> None:
    stream = sys.stdout.buffer
    stream.write(line + b"\n")
    stream.flush()
