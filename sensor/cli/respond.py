"""`sensor respond`: isolate the container of an alert, after saying what that will do."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sensor.alerts.escape import visible
from sensor.alerts.fields import text
from sensor.cli.alert_argument import document_in_file, document_in_store
from sensor.cli.alert_store import StorePlace, store_options
from sensor.errors import ConfigurationError
from sensor.respond.audit import Actor, Audit
from sensor.respond.control import ISOLATING, UNDONE_BY, Action, Network
from sensor.respond.controls import Target, find_named, find_target, make_controls
from sensor.respond.errors import ResponseError
from sensor.respond.perform import Cause, perform
from sensor.respond.plan import Plan, make_plan
from sensor.respond.protection import Protection

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sensor.config import Config

_QUARANTINE = "quarantine"


@click.command("respond", short_help="Isolate the container of an alert.")
@click.argument("alert", required=False)
@click.option(
    "--container", metavar="NAME|ID", help="Isolate this container instead of an alert's."
)
@click.option(
    "--action",
    type=click.Choice([*map(str, ISOLATING), _QUARANTINE]),
    help="pause and disconnect can be undone, stop and kill cannot; quarantine is for pods.",
)
@click.option(
    "--undo", is_flag=True, help="Take back the last pause or disconnect (or quarantine)."
)
@click.option("--dry-run", is_flag=True, help="Say what would happen, and do nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option(
    "--grace",
    type=click.IntRange(0, 3600),
    default=10,
    show_default=True,
    metavar="SECONDS",
    help="For stop: how long the container may take to end.",
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="For quarantine: where the NetworkPolicy is written.  [default: here]",
)
@click.option("--apply", is_flag=True, help="For quarantine: run kubectl, too.")
@click.option(
    "--socket",
    "sockets",
    multiple=True,
    metavar="PATH",
    help="The engine's socket; default: found.",
)
@click.option("--audit", type=click.Path(path_type=Path), help="Where the record is written.")
@store_options
def respond(
    store_place: StorePlace,
    alert: str | None,
    container: str | None,
    action: str | None,
    undo: bool,
    dry_run: bool,
    yes: bool,
    grace: int,
    directory: Path,
    apply: bool,
    sockets: tuple[str, ...],
    audit: Path | None,
) -> None:
    """Isolate the container of ALERT: first say what that does, then ask, then do it and verify.

    ALERT is the id of a kept alert or the beginning of it, `last`, or a file with an alert's JSON
    (`-` is standard input). What is done is recorded: who, when, what, with what result.

    \b
    sensor respond 3f9a --action pause --dry-run
    sensor respond 3f9a --action pause
    sensor respond 3f9a --undo
    sensor respond --container web --action disconnect
    sensor respond 3f9a --action quarantine --apply

    Exit code: 0 when it was done, needed no doing, or was a dry run; 1 when it was refused or failed;
    2 for a wrong option or a configuration that cannot be used.
    """
    if (alert is None) == (container is None):
        raise click.UsageError("name either an ALERT or --container")
    if action is None and not undo:
        raise click.UsageError("--action or --undo is needed")
    document = {} if alert is None else _document(alert, store_place)
    agree = _Consent(dry_run=dry_run, yes=yes)
    if action == _QUARANTINE:
        _quarantine(document, directory, agree, apply=apply, undo=undo)
        return
    config = _configuration(store_place)
    record = Audit(audit or Path(config.respond.audit))
    if not dry_run:
        record.check()
    controls, troubles = make_controls(_sources(config, sockets))
    try:
        container_id = text(document, "container.id") or container
        if not container_id:
            raise ResponseError("the alert is not about a container: there is nothing to isolate")
        target = _find(controls, container_id, troubles)
        plan = _plan(target, action, record, config, undo=undo, grace_s=grace)
        for line in _description(plan):
            click.echo(line)
        if plan.refusal is None and plan.nothing is None:
            agree.ask(f"{plan.action} {_name(plan)}?")
        said = perform(
            plan,
            audit=None if dry_run else record,
            actor=Actor.current(),
            cause=Cause(alert_id=text(document, "event.id") or None),
            dry_run=dry_run,
        )
    finally:
        for control in controls:
            control.close()
    click.echo(said)


class _Consent:
    """Whether a person agrees."""

    def __init__(self, *, dry_run: bool, yes: bool) -> None:
        self.dry_run = dry_run
        self._yes = yes

    def ask(self, question: str) -> None:
        """Ask, unless that is settled. Raises click's Abort, or its UsageError without a terminal."""
        if self._yes or self.dry_run:
            return
        if not sys.stdin.isatty():
            raise click.UsageError("there is no terminal to ask on: add --yes, or --dry-run")
        click.confirm(question, abort=True)


def _plan(
    target: Target, action: str | None, record: Audit, config: Config, *, undo: bool, grace_s: int
) -> Plan:
    networks: tuple[Network, ...] = ()
    if undo:
        done = record.to_undo(target.seen.container.id)
        if done is None:
            raise ResponseError(
                "the record names nothing that was done to it and can be taken back"
            )
        if action is not None and done[0] != action:
            raise ResponseError(f"what was done to it last is {done[0]}, not {action}")
        wanted, networks = UNDONE_BY[done[0]], done[1]
    else:
        wanted = Action(str(action))
    return make_plan(
        wanted,
        target.seen,
        target.control,
        Protection.of(config.respond.protect),
        grace_s=grace_s,
        networks=networks,
    )


def _description(plan: Plan) -> Iterable[str]:
    container = plan.seen.container
    image = ":".join(filter(None, (container.image_name, container.image_tag)))
    facts = (container.id[:12], image, plan.control.name, str(plan.seen.state))
    yield f"container  {_name(plan)}  {'  '.join(visible(fact, 200) for fact in facts if fact)}"
    if container.pod_name:
        yield f"pod        {visible(f'{container.pod_namespace}/{container.pod_name}', 400)}"
    for network in plan.seen.networks or ():
        addresses = visible(" ".join(network.addresses), 200)
        yield f"network    {visible(network.name, 200)}  {addresses}".rstrip()
    yield f"{plan.action!s:<11}{visible(plan.effect, 2000)}"
    if plan.undo:
        yield f"undo       {plan.undo}"
    for warning in plan.warnings:
        yield f"mind       {warning}"


def _name(plan: Plan) -> str:
    container = plan.seen.container
    return visible(container.name or container.id[:12], 200)


def _find(controls: Sequence[Any], wanted: str, troubles: list[str]) -> Target:
    """By the whole id; by a name or the beginning of an id, among what the engines list."""
    if len(wanted) == 64 and not set(wanted) - set("0123456789abcdef"):
        return find_target(controls, wanted, troubles)
    target, silent = find_named(controls, wanted, troubles)
    for trouble in silent:
        click.echo(f"warning: not searched for another {visible(wanted, 80)}: {trouble}", err=True)
    return target


def _document(alert: str, place: StorePlace) -> dict[str, Any]:
    """The alert: from standard input, a file, or the store."""
    document = document_in_file(alert)
    if document is not None:
        return document
    with place.open() as store:
        return document_in_store(store, alert)


def _configuration(place: StorePlace) -> Config:
    from sensor.config import load_config  # noqa: PLC0415 - help is quick

    return load_config(place.configuration)


def _sources(config: Config, sockets: tuple[str, ...]) -> Iterable[Any]:
    from sensor.containers.discovery import SourcesConfig, find_sources  # noqa: PLC0415

    named = config.containers.sockets
    return find_sources(
        SourcesConfig(
            sockets=sockets or (None if named is None else tuple(named)), kubernetes=False
        )
    )


def _quarantine(
    document: dict[str, Any], directory: Path, agree: _Consent, *, apply: bool, undo: bool
) -> None:
    """Write the policy, say the commands, and run them where that is wanted."""
    from sensor.respond.quarantine import quarantine_of, shell  # noqa: PLC0415

    found = quarantine_of(document)
    file = directory / f"{found.policy_name}.yaml"
    commands = found.undo() if undo else found.commands(str(file))
    click.echo(f"pod        {found.namespace}/{found.pod}")
    if undo:
        click.echo("undo       takes the policy and the label away; the pod has its network again")
    else:
        click.echo(
            f"quarantine lets nothing in or out of the pod: NetworkPolicy {found.policy_name}"
        )
        click.echo("mind       it holds where the cluster's network plugin enforces NetworkPolicy")
    for command in commands:
        click.echo(f"           {shell(command)}")
    if agree.dry_run:
        click.echo("dry run: nothing was written or run")
        return
    if apply:
        if shutil.which("kubectl") is None:
            raise ResponseError("kubectl is not installed: run the commands where it is")
        agree.ask(f"{'release' if undo else 'quarantine'} {found.pod}?")
    if not undo:
        try:
            file.write_text(found.policy())
        except OSError as error:
            raise ConfigurationError(f"{file}: {error.strerror}") from error
        click.echo(f"written to {file}")
    if not apply:
        return
    for command in commands:
        result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        if result.returncode:
            raise ResponseError(f"{shell(command)}: {visible(result.stderr.strip(), 500)}")
    click.echo("done")
