"""`sensor exceptions`: lists, checks and reports exceptions, and proposes one for an alert.

Needs no root. Exit codes: 0 ok, 1 something failed, 2 an exception or a rule is in error.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sensor.alerts.escape import visible
from sensor.alerts.exceptions import Exceptions, as_list, load_exceptions, load_state
from sensor.cli.alert_argument import document_in_file, document_in_store
from sensor.cli.alert_store import StorePlace, store_options
from sensor.errors import ConfigurationError, SensorError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sensor.alerts.exceptions import Exemption, Tally
    from sensor.rules.rule import Rule

EXIT_CONFIGURATION = 2
DEFAULT_STATE = "/var/lib/sensor/exceptions.json"
_SOON_DAYS = 14

_PATHS = click.argument("paths", nargs=-1, type=click.Path())
_RULES = click.option(
    "--rules",
    "rule_paths",
    multiple=True,
    type=click.Path(),
    metavar="PATH",
    help="Rules beside the built-in ones: a file or a directory. May be given more than once.",
)
_STATE = click.option(
    "--state",
    "state",
    default=DEFAULT_STATE,
    show_default=True,
    type=click.Path(path_type=Path),
    help="Where the running sensor keeps its counts.",
)


@click.group("exceptions", short_help="List, check, report and propose exceptions.")
def exceptions() -> None:
    """List, check and report exceptions, and propose one for an alert.

    PATHS are files of exceptions, or directories of them such as /etc/sensor/exceptions.d. Those in
    the rules' own files are always looked at.
    """


@exceptions.command("list")
@_PATHS
@_RULES
def list_exceptions(paths: tuple[str, ...], rule_paths: tuple[str, ...]) -> None:
    """List every exception: whether it applies, until when, whose it is, for which rules, and why."""
    found, _ = _load(paths, rule_paths)
    now = time.time()
    rows: list[tuple[str, ...]] = [("STATE", "EXPIRES", "OWNER", "ID", "RULES", "REASON")]
    for each in found:
        own = each.read.text
        rows.append(
            (
                _state(each, now),
                visible(own.expires),
                visible(own.owner, 40),
                each.id,
                visible(_rules_of(each), 60),
                visible(own.reason, 120),
            )
        )
    _table(rows)
    _finish(found)


@exceptions.command("check")
@_PATHS
@_RULES
def check(paths: tuple[str, ...], rule_paths: tuple[str, ...]) -> None:
    """Check exceptions: their shape, their conditions, and whether their rules exist.

    Ends with 2 if one is in error. What is allowed and doubtful is a warning.
    """
    from sensor.rules.schema import DEFAULT_SCHEMA  # noqa: PLC0415 - for this command only

    found, rules = _load(paths, rule_paths)
    now = time.time()
    warnings = 0
    for each in found:
        complaints = list(_doubts(each, rules, now))
        if each.read.tree is not None:
            from sensor.rules.compile import compile_ast  # noqa: PLC0415

            complaints += compile_ast(each.read.tree, schema=DEFAULT_SCHEMA).warnings
        click.echo(f"{visible(str(each.read.location))}: {each.id}: ok")
        for complaint in complaints:
            warnings += 1
            click.echo(f"{visible(str(each.read.location))}: {each.id}: warning: {complaint}")
    click.echo(f"{len(found)} exceptions ok, {warnings} warnings, {len(found.errors)} in error")
    _finish(found)


@exceptions.command("report")
@_PATHS
@_RULES
@_STATE
@click.option(
    "--documents",
    type=click.File("rb"),
    help="Instead: what they would hide of these alerts or events, one JSON document a line.",
)
def report(
    paths: tuple[str, ...], rule_paths: tuple[str, ...], state: Path, documents: Any
) -> None:
    """Say what each exception hid, by rule, and which never hid anything."""
    found, rules = _load(paths, rule_paths)
    if documents is not None:
        tallies = _replay(found, rules, documents)
    else:
        try:
            tallies = load_state(state)
        except OSError as error:
            raise SensorError(f"{state}: {error.strerror}; has the sensor run?") from error
    now = time.time()
    rows: list[tuple[str, ...]] = [("HIDDEN", "LAST", "STATE", "ID", "OWNER", "RULES")]
    for each in sorted(found, key=lambda each: -_hidden(tallies, each.id)):
        tally = tallies.get(each.id)
        by_rule = ", ".join(
            f"{visible(rule_id, 60)} ({count})"
            for rule_id, count in sorted((tally.rules if tally else {}).items())
        )
        rows.append(
            (
                str(_hidden(tallies, each.id)) if _hidden(tallies, each.id) else "never",
                _day(tally.last) if tally and tally.last else "-",
                _state(each, now),
                each.id,
                visible(each.read.text.owner, 40),
                by_rule or "-",
            )
        )
    _table(rows)
    gone = sorted(set(tallies) - {each.id for each in found})
    if gone:
        click.echo(f"counted before and no longer configured: {visible(', '.join(gone))}")
    _finish(found)


@exceptions.command("suggest")
@click.argument("alert")
@click.option("--reason", default="TODO", help="Why it is harmless.")
@click.option("--owner", default="TODO", help="Who answers for it.")
@click.option("--days", default=90, show_default=True, help="How long it should apply.")
@store_options
def suggest(store_place: StorePlace, alert: str, reason: str, owner: str, days: int) -> None:
    """Propose the narrowest exception for ALERT.

    ALERT is the id of a kept alert or the beginning of it, `last`, or a file with an alert's JSON
    (`-` is standard input).

    The result is for exceptions.d. Read it before it is used: what may vary from one run to the next
    has to be widened by hand. A reason or an owner that is TODO will not load.
    """
    from sensor.alerts.suggest import suggest as propose  # noqa: PLC0415 - for this command only
    from sensor.alerts.suggest import written  # noqa: PLC0415

    document = document_in_file(alert)
    if document is None:
        with store_place.open() as store:
            document = document_in_store(store, alert)
    entry = propose(document, now=time.time(), days=days, reason=reason, owner=owner)
    _verify(entry, document)
    click.echo(f"# {visible(str(document.get('message', '')), 200)}")
    click.echo(written([entry]), nl=False)


def _verify(entry: dict[str, Any], document: dict[str, Any]) -> None:
    """Raise SensorError unless the proposal, read back, hides the very alert it was made for."""
    from sensor.alerts.exception_file import read_value  # noqa: PLC0415
    from sensor.alerts.exception_match import document_test  # noqa: PLC0415
    from sensor.errors import Location, RuleError  # noqa: PLC0415

    read = read_value({**entry, "reason": "r", "owner": "o"}, Location(), None)
    if isinstance(read, RuleError):
        raise SensorError(f"no exception can be written for this alert: {read.message}")
    if not document_test(read)(document):
        raise SensorError("no exception can be written that matches this alert")


def _load(paths: tuple[str, ...], rule_paths: tuple[str, ...]) -> tuple[Exceptions, list[Rule]]:
    from sensor.rules.load import load_rules  # noqa: PLC0415 - not for suggest

    loaded = load_rules(rule_paths)
    for error in loaded.errors:
        click.echo(f"{visible(str(error.location))}: error: {visible(error.message)}", err=True)
    if loaded.errors:
        raise ConfigurationError("a rule is in error")
    rules = [*loaded.rules, *loaded.inactive]
    return load_exceptions(paths, rules), rules


def _finish(found: Exceptions) -> None:
    for error in found.errors:
        click.echo(f"{visible(str(error.location))}: error: {visible(error.message)}", err=True)
        if error.snippet:
            click.echo(error.snippet, err=True)
    if found.errors:
        sys.exit(EXIT_CONFIGURATION)


def _doubts(each: Exemption, rules: list[Rule], now: float) -> Iterator[str]:
    """What is allowed and probably not meant."""
    from sensor.alerts.exception_file import has_condition  # noqa: PLC0415

    known = {rule.id for rule in rules} | {"all"}
    for rule_id in as_list(each.read.text.rules):
        if rule_id not in known:
            yield f"no rule has the id {visible(rule_id, 80)!r}"
    for tag in as_list(each.read.text.tags):
        if not any(tag in rule.tags for rule in rules):
            yield f"no rule has the tag {visible(tag, 80)!r}"
    if each.expired(now):
        yield f"expired on {visible(each.read.text.expires)}: it no longer applies"
    elif each.read.expires is None:
        yield "never expires: give it a date on which somebody looks at it again"
    elif each.read.expires - now < _SOON_DAYS * 86_400:
        yield f"expires soon, on {visible(each.read.text.expires)}"
    if not has_condition(each.read.text):
        yield "hides everything of its rules while its window is open"


def _replay(found: Exceptions, rules: list[Rule], documents: Any) -> dict[str, Tally]:
    """What the exceptions would have hidden of recorded documents."""
    from sensor.rules.engine import document_time_ns  # noqa: PLC0415 - for this option only

    by_id = {rule.id: rule for rule in rules}
    for document in _documents(documents):
        rule_block = document.get("rule")
        rule_id = rule_block.get("id") if isinstance(rule_block, dict) else None
        time_ns = document_time_ns(document)
        now = time_ns / 1e9 if time_ns is not None else time.time()
        # An alert names its rule; of a bare event, each rule that would match is asked.
        if rule_id is not None:
            asked = [by_id[rule_id]] if rule_id in by_id else []
        else:
            asked = [rule for rule in rules if rule.query is not None and _matches(rule, document)]
        for rule in asked:
            found.find(document, rule, now)
    return found.counters()


def _matches(rule: Rule, document: dict[str, Any]) -> bool:
    query = rule.query
    return query is not None and not query.is_sequence and query.matches(document)


def _documents(stream: Any) -> Iterator[dict[str, Any]]:
    """JSON documents: one a line, or a single one over several lines."""
    data = stream.read()
    try:
        whole = json.loads(data)
    except ValueError:
        lines = [line for line in data.splitlines() if line.strip()]
    else:
        yield from (each for each in (whole if isinstance(whole, list) else [whole]))
        return
    for number, line in enumerate(lines, 1):
        try:
            document = json.loads(line)
        except ValueError as error:
            raise SensorError(f"line {number}: not a JSON document") from error
        if isinstance(document, dict):
            yield document


def _rules_of(each: Exemption) -> str:
    own = each.read.text
    if each.read.rule_id is not None:
        return each.read.rule_id
    return ", ".join([*as_list(own.rules), *(f"tag {tag}" for tag in as_list(own.tags))])


def _state(each: Exemption, now: float) -> str:
    if each.expired(now):
        return "expired"
    windows = each.read.windows
    return "active" if not windows or any(window.holds(now) for window in windows) else "waiting"


def _hidden(tallies: dict[str, Tally], name: str) -> int:
    tally = tallies.get(name)
    return tally.hidden if tally else 0


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M")


def _table(rows: list[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
