"""`sensor doctor`: says what this machine lacks for the sensor, and the command that mends it."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sensor.config import load_config
from sensor.errors import ConfigurationError

if TYPE_CHECKING:
    from sensor.doctor.finding import Finding

COLOURS = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    envvar="SENSOR_CONFIG",
    help="The sensor's configuration: its user and sockets are checked.",
)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object instead of text.")
@click.pass_context
def doctor(context: click.Context, *, path: Path | None, as_json: bool) -> None:
    """Check what the sensor needs of this machine.

    Each line is ok, warn (the sensor runs, with less) or fail (it does not run), with the command that
    mends it. Exit code: 0 if nothing failed, else 1.
    """
    # Here, not above: `sensor run` has no use for these, and its memory is counted.
    from sensor.doctor.examine import examine  # noqa: PLC0415
    from sensor.doctor.finding import (  # noqa: PLC0415
        Host,
        Status,
        named_sockets,
        well_known_sockets,
    )

    try:
        config = load_config(path)
    except ConfigurationError as error:
        click.echo(str(error), err=True)
        context.exit(2)
    sockets = config.containers.sockets
    host = Host(
        proc_root=Path(config.kernel.proc_root),
        user=config.user,
        sockets=well_known_sockets() if sockets is None else named_sockets(sockets),
    )
    findings = examine(host)
    failed = any(finding.status is Status.FAIL for finding in findings)
    if as_json:
        checks = [dataclasses.asdict(finding) for finding in findings]
        click.echo(json.dumps({"ok": not failed, "checks": checks}, indent=2))
    else:
        _print(findings)
    context.exit(1 if failed else 0)


def _print(findings: list[Finding]) -> None:
    width = max(len(finding.name) for finding in findings)
    for finding in findings:
        status = click.style(f"{finding.status:4}", fg=COLOURS[finding.status])
        click.echo(f"{status}  {finding.name:{width}}  {finding.detail}")
        if finding.fix is not None:
            click.echo(f"      {'':{width}}  fix: {finding.fix}")
    counts = Counter(finding.status.value for finding in findings)
    click.echo(", ".join(f"{counts[status]} {status}" for status in COLOURS))
