"""The command line: `sensor run`, and the commands around it.

Exit codes: 0 ok, 1 something failed at run time, 2 usage or configuration, 3 a running sensor lost its
sight and is to be started anew, 130 interrupted by Ctrl-C.
"""

from __future__ import annotations

import errno
import importlib
import logging
import os
import platform
import sys

import click

from sensor import __version__
from sensor.cli.entry import end_interrupted
from sensor.cli.settings import Settings, settings_options
from sensor.errors import ConfigurationError, SensorError, SightLostError

# Command to the module that has it: a command's imports are paid for when it is called.
_COMMANDS = {
    "alerts": "sensor.cli.alerts",
    "config": "sensor.cli.config",
    "containers": "sensor.cli.containers",
    "doctor": "sensor.cli.doctor",
    "exceptions": "sensor.cli.exceptions",
    "fields": "sensor.cli.fields",
    "record": "sensor.cli.record",
    "replay": "sensor.cli.replay",
    "respond": "sensor.cli.respond",
    "rules": "sensor.cli.rules",
    "serve": "sensor.cli.serve",
    "triage": "sensor.cli.triage",
    "tune": "sensor.cli.tune",
}


# What is the machine's fault and no fault of ours, wherever a command writes.
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class _Commands(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_COMMANDS])

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        module = _COMMANDS.get(name)
        if module is None:
            return super().get_command(ctx, name)
        command: click.Command = getattr(importlib.import_module(module), name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="sensor %(version)s")
def cli() -> None:
    """See every exec on this host, name its container, and alert on rules in real time.

    \b
    sudo sensor run                        alerts on this terminal
    sudo sensor run --output json          one JSON document a line
    sudo sensor run --rules ./my-rules     your rules beside the built-in ones
    sensor doctor                          what this machine lacks
    """


@cli.command(short_help="Start the sensor.")
@settings_options
@click.option(
    "--duration",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="End by itself after this time.",
)
@click.option("-v", "--verbose", is_flag=True, help="Say more about the sensor itself.")
def run(settings: Settings, duration: float | None, verbose: bool) -> None:
    """Start the sensor; alerts go to standard output, its own words to standard error.

    SIGHUP reads rules, exceptions and configuration again. SIGINT and SIGTERM end the sensor.

    \b
    Exit codes:
      0  ended as asked, or after --duration
      1  could not start, or failed: the last line says why
      2  a wrong option, configuration, or rule file with --strict
      3  its program in the kernel was detached or its ring lost: start it
         anew, it has no privilege left to do that itself
    """
    from sensor.daemon import run as run_sensor  # noqa: PLC0415 - other commands do not need it

    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    for noisy in ("urllib3", "docker"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    effective = settings.read()
    for warning in effective.warnings:
        click.echo(f"warning: {warning}", err=True)
    run_sensor(effective.config, duration_s=duration, reread=lambda: settings.read().config)


@cli.command()
def version() -> None:
    """Print the version of the sensor, of Python, and of the kernel."""
    click.echo(
        f"sensor {__version__} (Python {platform.python_version()}, kernel {platform.release()})"
    )


def main() -> None:
    """Entry point: turns the sensor's errors into messages and exit codes."""
    try:
        code = cli.main(standalone_mode=False)
    except click.ClickException as exc:
        exc.show()
        sys.exit(2)
    except click.Abort as exc:
        if isinstance(exc.__cause__, KeyboardInterrupt):
            end_interrupted()
        click.echo("nothing was done", err=True)  # a question was not answered with yes
        sys.exit(1)
    except BrokenPipeError:
        _drop_output()  # whoever read has seen enough
        sys.exit(1)
    except OSError as exc:
        if exc.errno not in _DISK_ERRORS:
            raise
        click.echo(f"error: {exc.filename or 'output'}: {exc.strerror}", err=True)
        _drop_output()
        sys.exit(1)
    except ConfigurationError as exc:
        click.echo(f"error: {exc}", err=True)
        sys.exit(2)
    except SightLostError as exc:
        click.echo(f"error: {exc}", err=True)
        sys.exit(3)
    except SensorError as exc:
        click.echo(f"error: {exc}", err=True)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


def _drop_output() -> None:
    """What is still in buffers must not be complained about at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
