"""`sensor tune`: which rules are loud, which exact actions recur, and an exception for each to judge.

Exit codes: 0 ok, 1 something failed, 2 usage or configuration.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sensor import __version__
from sensor.alerts.encode import encode
from sensor.alerts.escape import visible
from sensor.cli.alert_store import StorePlace, store_options
from sensor.cli.alerts import rule_id
from sensor.cli.moments import Moment
from sensor.errors import ConfigurationError, SensorError
from sensor.tune import Proposal, Wish, hours_of, propose

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sensor.alerts.redaction.document import Redactor
    from sensor.store.records import Recurrence

_WEEK_S = 7 * 86_400.0


@click.command("tune")
@click.option("--since", type=Moment(), help="Look at alerts from then on.  [default: 7d]")
@click.option("--rule", metavar="RULE", help="Only this rule: its id, or a part of its name.")
@click.option(
    "--least",
    type=click.IntRange(min=2),
    default=5,
    show_default=True,
    help="Actions with at least so many alerts.",
)
@click.option(
    "--limit", type=click.IntRange(min=1), default=10, show_default=True, help="How many actions."
)
@click.option("--owner", default="TODO", help="Who answers for the exceptions.  [default: TODO]")
@click.option("--days", type=click.IntRange(min=1), default=90, show_default=True, help="How long.")
@click.option(
    "--write",
    "target",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the exceptions into this new file. A file that is there is never changed.",
)
@click.option(
    "--output",
    type=click.Choice(["auto", "text", "yaml", "json"]),
    default="auto",
    help="auto: a report on a terminal, a file of exceptions in a pipe.",
)
@store_options
def tune(
    store_place: StorePlace,
    since: float | None,
    rule: str | None,
    least: int,
    limit: int,
    owner: str,
    days: int,
    target: Path | None,
    output: str,
) -> None:
    """Propose exceptions for what is loud and always the same.

    Reads the store, and changes nothing. Each proposal is the narrowest exception that covers what was
    seen, with the evidence as its reason. Read it, say why it is harmless, put in an owner, and move it
    into a folder of `alerts.exceptions`: an owner that is TODO will not load. What was typed at a
    terminal is never proposed.
    """
    now = time.time()
    since = now - _WEEK_S if since is None else since
    with store_place.open() as store:
        wanted = None if rule is None else rule_id(store, rule)
        wish = Wish(since=since, least=least, limit=limit, rule=wanted, owner=owner, days=days)
        loud = store.rules(since=since)
        proposals = list(propose(store, wish, now=now, covered=_covered(store_place)))
    entries = [(each, each.entry) for each in proposals if each.entry is not None]
    if target is not None:
        if not entries:
            raise SensorError("there is nothing to propose, so nothing was written")
        _write(target, _document(entries))
    if output == "json":
        for each in proposals:
            sys.stdout.buffer.write(encode(_as_json(each)) + b"\n")
    elif output == "yaml" or (output == "auto" and not sys.stdout.isatty()):
        if target is None and entries:
            click.echo(_document(entries), nl=False)
        click.echo(f"{len(entries)} exceptions for {len(proposals)} actions", err=True)
    else:
        for line in _report(loud, proposals, since, store_place.redactor()):
            click.echo(line)
    if target is not None:
        click.echo(f"{target}: {len(entries)} exceptions, for you to read and complete", err=True)


def _covered(place: StorePlace) -> Callable[[dict[str, Any], float], bool]:
    """Whether one of the configured exceptions hides a document by now."""
    from sensor.alerts.exceptions import load_exceptions  # noqa: PLC0415 - for this command only
    from sensor.config import Config, load_config  # noqa: PLC0415
    from sensor.ecs import matching_view  # noqa: PLC0415
    from sensor.rules.load import load_rules  # noqa: PLC0415

    config = load_config(place.configuration) if place.configuration else Config()
    loaded = load_rules(config.rules, builtin=config.builtin_rules)
    rules = {rule.id: rule for rule in (*loaded.rules, *loaded.inactive)}
    exceptions = load_exceptions(config.alerts.exceptions, rules.values())
    for error in (*loaded.errors, *exceptions.errors):
        click.echo(f"warning: {visible(str(error.location))}: {visible(error.message)}", err=True)

    def covered(document: dict[str, Any], moment: float) -> bool:
        rule = rules.get(str((document.get("rule") or {}).get("id")))
        return rule is not None and (
            exceptions.find(matching_view(document), rule, moment) is not None
        )

    return covered


def _document(entries: Sequence[tuple[Proposal, dict[str, Any]]]) -> str:
    """A file of exceptions, with what is not in them as comments."""
    from sensor.alerts.suggest import written  # noqa: PLC0415 - for this command only

    parts = [f"# Proposed by sensor tune {__version__} on {datetime.now(UTC):%Y-%m-%d}.\n"]
    parts.append("# Read each, say in `reason` why it is harmless, and put in an owner.\n")
    parts.append("exceptions:\n")
    for proposal, entry in entries:
        parts.extend(f"  # {remark}\n" for remark in _remarks(proposal))
        _, _, text = written([entry]).partition("\n")
        parts.append("".join(f"  {line}\n" for line in text.split("\n")[:-1]))
    return "".join(parts)


def _remarks(proposal: Proposal) -> Iterator[str]:
    example = proposal.recurrence.example
    yield f"{visible(example.rule_name or '', 128)}; the last one: sensor alerts show {example.id}"
    if proposal.others:
        yield (
            f"CAREFUL: it would also hide {proposal.others} of {proposal.looked_at} other alerts "
            "of this rule"
        )
    entry = proposal.entry or {}
    if not {"image", "container", "namespace", "labels"} & entry.keys():
        yield "CAREFUL: nothing in it is beyond the reach of the process itself but the user"


def _write(target: Path, text: str) -> None:
    try:
        descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    except FileExistsError as error:
        raise ConfigurationError(f"--write: {target} is there already") from error
    except OSError as error:
        raise ConfigurationError(f"--write: {target}: {error.strerror}") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)


def _as_json(proposal: Proposal) -> dict[str, Any]:
    recurrence = proposal.recurrence
    return {
        "rule": {"id": recurrence.example.rule_id, "name": recurrence.example.rule_name},
        "example": recurrence.example.id,
        "alerts": recurrence.alerts,
        "execs": recurrence.execs,
        "first": recurrence.first,
        "last": recurrence.last,
        "hours_utc": list(proposal.similar.hours_utc),
        "exception": proposal.entry,
        "refused": proposal.refused or None,
        "would_also_hide": {"count": proposal.others, "of": proposal.looked_at},
    }


def _report(
    loud: list[Recurrence], proposals: list[Proposal], since: float, redactor: Redactor | None
) -> Iterator[str]:
    """For a person: the rules by loudness, then each action with its proposal."""
    start = datetime.fromtimestamp(since).astimezone()
    total = sum(each.alerts for each in loud)
    yield f"{total} alerts since {start:%Y-%m-%d %H:%M}"
    for rule in loud:
        name = visible(rule.example.rule_name or rule.example.rule_id or "", 80)
        yield f"  {rule.alerts:8}  {name}"
    for number, each in enumerate(proposals, 1):
        example = each.recurrence.example
        command = example.command if redactor is None else redactor.text(example.command)
        where = visible(example.container_name or example.container_id or "the host", 64)
        user = visible(example.user_name or example.user_id or "?", 32)
        yield ""
        yield f"{number}. {each.recurrence.alerts} times: {visible(command, 300)}"
        yield f"   in {where} as {user}, at {hours_of(each.similar)} UTC"
        yield f"   {visible(example.rule_name or '', 80)}; sensor alerts show {example.id[:10]}"
        if each.entry is None:
            yield f"   no exception: {visible(each.refused, 300)}"
            continue
        yield ""
        yield from (f"   {line}" for line in _document([(each, each.entry)]).splitlines()[2:])
    if not proposals:
        yield "no action recurs often enough; see --least and --since"
