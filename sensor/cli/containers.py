"""`sensor containers`: what the sources of container metadata know now.

It asks the sockets itself, so it needs their permission and no running sensor. A table on a
terminal, one JSON document a line in a pipe.
"""

from __future__ import annotations

import logging
import queue
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sensor.alerts.encode import encode
from sensor.alerts.escape import visible
from sensor.config import load_config
from sensor.containers.fields import metadata_fields
from sensor.containers.resolver import Resolver, SourcesConfig, find_sources
from sensor.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sensor.containers.container import Container
    from sensor.containers.resolver import Resolution

SETTLE_S = 0.05
CELL_MAX = 48
HEADER = ("ID", "NAME", "IMAGE", "POD", "SOURCE", "AGE")


@click.command("containers")
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    envvar="SENSOR_CONFIG",
    help="The sensor's configuration: its sockets are asked.",
)
@click.option(
    "--socket",
    "sockets",
    multiple=True,
    metavar="PATH",
    help="Ask this socket (Docker, Podman, containerd, CRI-O) instead of those that are found."
    " May be given more than once.",
)
@click.option(
    "--output",
    type=click.Choice(["auto", "table", "json"]),
    default="auto",
    help="auto: a table on a terminal, JSON lines otherwise.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0.1, max=60),
    default=5.0,
    show_default=True,
    help="Seconds to wait for the sources.",
)
@click.pass_context
def containers(
    context: click.Context,
    *,
    path: Path | None,
    sockets: tuple[str, ...],
    output: str,
    timeout_s: float,
) -> None:
    """List the containers that the sensor can name.

    Exit code: 1 if a source did not answer, or there is none; 2 for a wrong option.
    """
    try:
        config = load_config(path)
        named = config.containers.sockets
        found = find_sources(
            SourcesConfig(
                sockets=sockets or (None if named is None else tuple(named)),
                kubernetes=config.containers.kubernetes,
                timeout_s=timeout_s,
            )
        )
    except ConfigurationError as error:
        click.echo(str(error), err=True)
        context.exit(2)
    if not found:
        click.echo("no container engine's socket was found; name one with --socket PATH", err=True)
        context.exit(1)
    resolver = Resolver(found)
    logger = logging.getLogger("sensor.containers")
    level = logger.level
    logger.setLevel(logging.ERROR)  # what is wrong is said once, at the end
    resolver.start()
    try:
        silent = _await_seeds(resolver, [source.name for source in found], timeout_s)
        _await_whole(resolver, timeout_s)
        known = sorted(resolver.containers(), key=lambda container: container.created or "")
        troubles = resolver.troubles()
    finally:
        resolver.stop()
        logger.setLevel(level)
    as_json = output == "json" or (output == "auto" and not sys.stdout.isatty())
    for line in _documents(known) if as_json else _table(known):
        click.echo(line)
    for name in silent:
        click.echo(visible(troubles.get(name, f"{name}: did not answer")), err=True)
    context.exit(1 if silent else 0)


def _await_seeds(resolver: Resolver, names: list[str], timeout_s: float) -> list[str]:
    """Wait until each source has told its list; return those that have not."""
    deadline = time.monotonic() + timeout_s
    while True:
        counts = resolver.counters()
        silent = [name for name in names if not counts.get(f"{name}.watch.seed")]
        if not silent or time.monotonic() > deadline:
            return silent
        time.sleep(SETTLE_S)


def _await_whole(resolver: Resolver, timeout_s: float) -> None:
    """Wait for all that a list does not say, such as whether a container is privileged."""
    deadline = time.monotonic() + timeout_s
    asked = [container.id for container in resolver.containers() if not container.complete]
    answers: queue.SimpleQueue[Resolution] = queue.SimpleQueue()
    for container_id in asked:
        resolver.request(container_id, answers.put)
    for _ in asked:
        try:
            answers.get(timeout=max(0.0, deadline - time.monotonic()))
        except queue.Empty:
            return


def _documents(known: Iterable[Container]) -> Iterable[str]:
    for container in known:
        yield encode(metadata_fields(container)).decode().rstrip("\n")


def _table(known: Iterable[Container]) -> Iterable[str]:
    now = datetime.now(UTC)
    rows = [HEADER, *(_row(container, now) for container in known)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _row(container: Container, now: datetime) -> tuple[str, ...]:
    image = ":".join(filter(None, (container.image_name, container.image_tag)))
    pod = "/".join(filter(None, (container.pod_namespace, container.pod_name)))
    name = container.name or ("(pause)" if container.is_sandbox else None)
    cells = (container.id[:12], name, image or None, pod or None, container.source)
    return (*(visible(cell or "-", CELL_MAX) for cell in cells), _age(container.created, now))


def _age(created: str | None, now: datetime) -> str:
    if created is None:
        return "-"
    seconds = max(0, int((now - datetime.fromisoformat(created)).total_seconds()))
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{seconds}s"
