"""`sensor record`: every exec as an ECS document, one JSON line each, for `sensor replay`."""

from __future__ import annotations

import sys
from typing import BinaryIO

import click

from sensor.alerts.encode import encode
from sensor.config import Config, Containers, Kernel
from sensor.ecs import Document
from sensor.errors import OutputError

_RING_BYTES = 32 << 20  # every exec comes through: room for bursts


@click.command()
@click.option(
    "--file",
    "target",
    type=click.File("wb", lazy=False),
    default="-",
    metavar="FILE",
    help="Where to write; default: standard output.",
)
@click.option(
    "--duration",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="End by itself after this time.",
)
@click.option(
    "--containers",
    "containers_only",
    is_flag=True,
    help="Leave out what runs on the host; what is not known stays in.",
)
@click.option(
    "--failed", is_flag=True, help="Write execs that failed, too, with event.outcome: failure."
)
@click.option(
    "--socket",
    "sockets",
    multiple=True,
    metavar="PATH",
    help="A container engine's socket; default: those that are found.",
)
def record(
    target: BinaryIO,
    duration: float | None,
    containers_only: bool,
    failed: bool,
    sockets: tuple[str, ...],
) -> None:
    """Write every exec on this host as an ECS document.

    The documents hold whole command lines: treat the file as a secret.
    """
    from sensor.daemon import run  # noqa: PLC0415 - needs BPF; the help does not

    written = 0

    def write(document: Document) -> None:
        nonlocal written
        if containers_only and document["container"]["identity"]["state"] == "host":
            return
        try:
            target.write(encode(document) + b"\n")
            target.flush()
        except OSError as error:
            raise OutputError(
                f"{target.name}: {error.strerror}; {written} documents were written"
            ) from error
        written += 1

    config = Config(
        builtin_rules=False,
        kernel=Kernel(
            capture="containers" if containers_only else "all",
            failed_execs=failed,
            ring_bytes=_RING_BYTES,
        ),
        containers=Containers(sockets=list(sockets) or None),
    )
    try:
        run(config, duration_s=duration, observer=write)
    except OutputError as error:
        if not isinstance(error.__cause__, BrokenPipeError):
            raise
        sys.stderr.write("the reader of the documents is gone\n")
    sys.stderr.write(f"{written} documents written\n")
