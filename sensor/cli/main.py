"""The command line: `sensor run`, and the commands around it.

Exit codes: 0 ok, 1 something failed at run time, 2 usage or configuration.
"""

from __future__ import annotations

import importlib
import logging
import platform
import sys
from pathlib import Path

import click
import msgspec

from sensor import __version__
from sensor.errors import ConfigurationError, SensorError

# Command to the module that has it: a command's imports are paid for when it is called.
_COMMANDS = {
    "containers": "sensor.cli.containers",
    "doctor": "sensor.cli.doctor",
    "exceptions": "sensor.cli.exceptions",
    "fields": "sensor.cli.fields",
    "record": "sensor.cli.record",
    "replay": "sensor.cli.replay",
    "rules": "sensor.cli.rules",
}


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
def cli() -> None:
    r"""See every exec on this host, name its container, and alert on rules in real time.

    \b
    sudo sensor run                        alerts on this terminal
    sudo sensor run --output json          one JSON document a line
    sudo sensor run --rules ./my-rules     your rules beside the built-in ones
    sensor doctor                          what this machine lacks
    """


@cli.command()
@click.option(
    "--config",
    "config_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Configuration file (YAML).",
)
@click.option(
    "--rules",
    "rules",
    multiple=True,
    metavar="PATH",
    type=click.Path(exists=True),
    help="A rule file, or a folder of them; may be given more than once.",
)
@click.option("--no-builtin", is_flag=True, help="Leave the built-in rules out.")
@click.option("--strict", is_flag=True, help="Do not start when a rule file is broken.")
@click.option(
    "--output",
    type=click.Choice(["json", "text"]),
    help="Default: text on a terminal, JSON otherwise.",
)
@click.option(
    "--duration",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="End by itself after this time.",
)
@click.option(
    "--socket",
    "sockets",
    multiple=True,
    metavar="PATH",
    help="A container engine's socket; default: those that are found.",
)
@click.option("--no-limit", is_flag=True, help="Send every alert, whatever the rules' limits say.")
@click.option("--user", metavar="NAME", help="The user to become.  [default: nobody]")
@click.option(
    "--keep-privileges", is_flag=True, help="Stay root. Only for debugging: argv is the attacker's."
)
@click.option(
    "--listen", metavar="HOST:PORT", help="Serve /metrics and /healthz/{startup,live,ready} there."
)
@click.option("-v", "--verbose", is_flag=True, help="Say more about the sensor itself.")
def run(
    config_path: Path | None,
    rules: tuple[str, ...],
    no_builtin: bool,
    strict: bool,
    output: str | None,
    duration: float | None,
    sockets: tuple[str, ...],
    no_limit: bool,
    user: str | None,
    keep_privileges: bool,
    listen: str | None,
    verbose: bool,
) -> None:
    """Start the sensor; alerts go to standard output, its own words to standard error."""
    from sensor.config import load_config  # noqa: PLC0415 - other commands do not need it
    from sensor.daemon import run as run_sensor  # noqa: PLC0415

    logging.basicConfig(
        level=logging.DEBUG if verbose else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    for noisy in ("urllib3", "docker"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    config = load_config(config_path)
    replace = msgspec.structs.replace
    config = replace(
        config,
        rules=[*config.rules, *rules],
        builtin_rules=config.builtin_rules and not no_builtin,
        strict=config.strict or strict,
        output=output or config.output,
        user=user or config.user,
        metrics=replace(config.metrics, listen=listen) if listen else config.metrics,
        keep_privileges=config.keep_privileges or keep_privileges,
        containers=replace(config.containers, sockets=list(sockets))
        if sockets
        else config.containers,
        alerts=replace(config.alerts, limit=False) if no_limit else config.alerts,
    )
    run_sensor(config, duration_s=duration)


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
    except click.Abort:
        sys.exit(1)
    except ConfigurationError as exc:
        click.echo(f"error: {exc}", err=True)
        sys.exit(2)
    except SensorError as exc:
        click.echo(f"error: {exc}", err=True)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)
