"""`sensor rules`: lists, checks, tests and shows rules. Needs no root and no BPF.

Results go to stdout, one line a rule; what is wrong with a file goes to stderr as well, with the
place and a caret.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from sensor.alerts.limits import default_reserve
from sensor.rules.load import LoadResult, load_rules
from sensor.rules.source import printable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sensor.errors import RuleError
    from sensor.rules.rule import Rule

EXIT_FAILED = 1
EXIT_CONFIGURATION = 2

_PATHS = click.argument("paths", nargs=-1, type=click.Path())
_RULES = click.option(
    "--rules", "paths", multiple=True, type=click.Path(), metavar="PATH",
    help="A rule file or a directory of them. May be given more than once.",
)  # fmt: skip
_NO_BUILTIN = click.option("--no-builtin", is_flag=True, help="Leave out the built-in rules.")


@click.group("rules")
def rules() -> None:
    """List, check, test and show detection rules."""


@rules.command("list")
@_PATHS
@_NO_BUILTIN
def list_rules(paths: tuple[str, ...], no_builtin: bool) -> None:
    """List the built-in rules and those at PATHS: state, severity, score, id and name."""
    result = load_rules(paths, builtin=not no_builtin)
    rows: list[tuple[str, ...]] = [("STATE", "SEVERITY", "SCORE", "ID", "NAME")]
    for rule in sorted((*result.rules, *result.inactive), key=lambda rule: rule.name.lower()):
        state = "active" if rule.active else "inactive"
        name = printable(rule.name)
        rows.append((state, rule.severity, str(rule.risk_score), printable(rule.id), name))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())
    finish(result)


@rules.command("check")
@_PATHS
def check(paths: tuple[str, ...]) -> None:
    """Check the rules at PATHS, or the built-in ones where none is given.

    Prints one line a rule and a total. Ends with 2 if any rule is in error.
    """
    result = load_rules(paths, builtin=not paths)
    _warn_of_nothing(result, paths)
    for rule in sorted((*result.rules, *result.inactive), key=lambda rule: rule.path):
        verdict = "ok" if rule.inactive_reason is None else f"inactive: {rule.inactive_reason}"
        click.echo(f"{printable(rule.path)}: {verdict}")
        for warning in rule.warnings if rule.active else ():
            click.echo(f"{printable(rule.path)}: warning: {printable(warning)}", err=True)
    for error in result.errors:
        click.echo(f"{printable(str(error.location))}: error: {error.message}")
        if error.snippet:
            click.echo(error.snippet, err=True)
    for notice in result.notices:
        click.echo(printable(notice), err=True)
    broken = len({error.location.path for error in result.errors})
    total = len(result.rules) + len(result.inactive) + broken
    click.echo(
        f"{total} rules: {len(result.rules)} ok, {len(result.inactive)} inactive, {broken} in error"
    )
    if result.errors:
        sys.exit(EXIT_CONFIGURATION)


@rules.command("test")
@_PATHS
def test(paths: tuple[str, ...]) -> None:
    """Run the examples that stand beside the rules at PATHS, or beside the built-in ones.

    Ends with 1 if a rule does not do what an example says, with 2 if a rule is in error.
    """
    from sensor.rules.selftest import run_tests  # noqa: PLC0415 - the engine is needed here only

    result = load_rules(paths, builtin=not paths)
    passed = failed = untested = 0
    for rule in result.rules:
        if not rule.tests:
            untested += 1
            click.echo(f"{printable(rule.path)}: no tests")
        for outcome in run_tests(rule):
            name = printable(outcome.name)
            if outcome.passed:
                passed += 1
                click.echo(f"{printable(rule.path)}: ok: {name}")
                continue
            failed += 1
            why = outcome.error or (
                f"expected {_verdict(outcome.expected)}, got {_verdict(outcome.actual)}"
            )
            click.echo(f"{printable(str(outcome.location))}: FAILED: {name}: {printable(why)}")
    for rule in result.inactive:
        click.echo(f"{printable(rule.path)}: not tested, inactive: {rule.inactive_reason}")
    click.echo(f"{passed} passed, {failed} failed, {untested} rules without tests")
    finish(result)
    if failed:
        sys.exit(EXIT_FAILED)


@rules.command("show")
@click.argument("name")
@_RULES
@_NO_BUILTIN
def show(name: str, paths: tuple[str, ...], no_builtin: bool) -> None:
    """Show a rule in full. NAME is its name, its id, its file's name, or a part that only it has."""
    result = load_rules(paths, builtin=not no_builtin)
    found = _named(name, (*result.rules, *result.inactive))
    if len(found) != 1:
        problem = "no rule has" if not found else f"{len(found)} rules have"
        names = "".join(f"\n  {printable(rule.id)}  {printable(rule.name)}" for rule in found[:20])
        raise click.UsageError(
            f"{problem} the name, id or file name {name!r}"
            f"{names or '; `sensor rules list` shows all, and those at paths you name'}"
        )
    for line in _description(found[0]):
        click.echo(line)
    finish(result)


def _verdict(matches: bool) -> str:
    return "a match" if matches else "no match"


def _named(name: str, candidates: Iterable[Rule]) -> list[Rule]:
    """Those that are called so, or else those of whose name, id or file name it is a part."""
    wanted = name.casefold()
    stems = ("", ".yml", ".yaml", ".toml")
    names = [
        (rule, [each.casefold() for each in (rule.id, rule.name, rule.path.rsplit("/", 1)[-1])])
        for rule in candidates
    ]
    exact = [rule for rule, own in names if {wanted + stem for stem in stems} & set(own)]
    return exact or [rule for rule, own in names if any(wanted in each for each in own)]


def _description(rule: Rule) -> Iterable[str]:
    most = rule.max_alerts + default_reserve(rule.max_alerts)
    state = "active" if rule.active else f"inactive: {rule.inactive_reason}"
    head = {
        "name": rule.name,
        "id": rule.id,
        "state": state,
        "severity": f"{rule.severity} (risk score {rule.risk_score})",
        "version": str(rule.version),
        "alerts": f"at most {rule.max_alerts} of a container in {rule.interval} s, {most} in all",
        "author": ", ".join(rule.author),
        "license": rule.license or "",
        "tags": ", ".join(rule.tags),
        "file": rule.path,
    }
    for key, value in head.items():
        if value:
            yield f"{key + ':':<10} {printable(value)}"
    for threat in rule.threat:
        yield f"{'threat:':<10} {printable(f'{threat.tactic.id} {threat.tactic.name}')}"
        for technique in threat.technique:
            yield f"{'':<12} {printable(f'{technique.id} {technique.name}')}"
            for each in technique.subtechnique:
                yield f"{'':<14} {printable(f'{each.id} {each.name}')}"
    for warning in rule.warnings:
        yield f"{'warning:':<10} {printable(warning)}"
    for title, text in (
        ("Description", rule.description),
        ("Query", rule.query_text),
        ("False positives", "\n".join(f"- {each}" for each in rule.false_positives)),
        ("References", "\n".join(rule.references)),
        ("Note", rule.note),
    ):
        if text.strip():
            yield from (
                "",
                f"{title}:",
                *(printable(f"  {line}".rstrip()) for line in text.split("\n")),
            )


def report_errors(errors: Iterable[RuleError]) -> None:
    """Write each error with its place and caret to stderr."""
    for error in errors:
        click.echo(f"{printable(str(error.location))}: error: {error.message}", err=True)
        if error.snippet:
            click.echo(error.snippet, err=True)


def _warn_of_nothing(result: LoadResult, paths: tuple[str, ...]) -> None:
    """Say so where paths were named and nothing came of them, not even an error."""
    if paths and not (result.rules or result.inactive or result.errors):
        where = printable(", ".join(paths))
        click.echo(f"warning: no rule file (*.yml, *.yaml, *.toml) in {where}", err=True)


def finish(result: LoadResult) -> None:
    """Report what could not be loaded, and end the program with 2 if there was any of it."""
    for notice in result.notices:
        click.echo(printable(notice), err=True)
    report_errors(result.errors)
    if result.errors:
        sys.exit(EXIT_CONFIGURATION)
