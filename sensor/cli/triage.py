"""`sensor triage`: one alert, everything around it, and what to do; for a person or a ticket."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from sensor.alerts.terminal import wants_color
from sensor.cli.alert_argument import document_in_file, document_in_store
from sensor.cli.alert_store import StorePlace, store_options
from sensor.errors import ConfigurationError, SensorError

if TYPE_CHECKING:
    from sensor.triage.model import Report

_SUFFIXES = {".html": "html", ".htm": "html", ".md": "markdown", ".json": "json", ".txt": "text"}


@click.command("triage")
@click.argument("alert")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(["text", "markdown", "json", "html"]),
    help="Default: by the suffix of --output, otherwise text.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write to this file, readable by you only, instead of standard output.",
)
@click.option("--secrets", is_flag=True, help="Also what redaction cuts out.")
@store_options
def triage(
    store_place: StorePlace,
    alert: str,
    output_format: str | None,
    output: Path | None,
    secrets: bool,
) -> None:
    """Say everything that is known around one alert, and what to do.

    ALERT is the id of an alert in the store, or its beginning; or `last`; or a file with the alert as
    JSON; or - for standard input. A file needs no store; where there is one, it is asked, too.

    \b
    sensor triage da08f47f                     on this terminal
    sensor triage da08f47f -o report.html      one page, to be opened or attached
    sensor triage - --format markdown          for a ticket, of an alert from a pipe
    """
    kind = output_format or _SUFFIXES.get(output.suffix.lower() if output else "", "text")
    report = _report(store_place, alert, secrets=secrets)
    if output is None:
        _write(_rendered(report, kind, color=wants_color()))
        return
    try:
        descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(_rendered(report, kind, color=False))
    except OSError as error:
        raise SensorError(f"{output}: cannot be written: {error.strerror}") from error
    click.echo(f"written to {output}", err=True)


def _report(place: StorePlace, reference: str, *, secrets: bool) -> Report:
    from sensor.config import Config, load_config  # noqa: PLC0415 - help is quick
    from sensor.store.errors import StoreMissingError  # noqa: PLC0415
    from sensor.triage.knowledge import Knowledge  # noqa: PLC0415

    config = load_config(place.configuration) if place.configuration else Config()
    knowledge = Knowledge.load(config, redactor=None if secrets else place.redactor())
    document = document_in_file(reference)
    if document is None:
        with place.open() as store:
            return knowledge.report(document_in_store(store, reference), store)
    try:
        store = place.open()
    except (StoreMissingError, ConfigurationError) as error:
        if place.store_path is not None:
            raise
        why = f"There is no store to look up what happened before: {error}"
        return knowledge.report(document, None, gaps=(why,))
    with store:
        return knowledge.report(document, store)


def _rendered(report: Report, kind: str, *, color: bool) -> bytes:
    if kind == "json":
        from sensor.alerts.encode import encode  # noqa: PLC0415

        return encode(msgspec.to_builtins(report)) + b"\n"
    if kind == "html":
        from sensor.triage.html import render as html  # noqa: PLC0415

        text = html(report)
    elif kind == "markdown":
        from sensor.triage.markdown import render as markdown  # noqa: PLC0415

        text = markdown(report)
    else:
        from sensor.triage.terminal import render as terminal  # noqa: PLC0415

        text = terminal(report, color=color)
    return text.encode("utf-8", "backslashreplace")


def _write(data: bytes) -> None:
    try:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # nobody reads on; Python flushes once more
