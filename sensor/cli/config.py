"""`sensor config`: what is set and by what, and what is wrong with it. Needs no root and no BPF."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click
import msgspec

from sensor.alerts.escape import visible
from sensor.cli.settings import Settings, settings_options
from sensor.errors import ConfigurationError

if TYPE_CHECKING:
    from sensor.config import Effective, Origin

_HIDDEN = "***"
# Keys of sinks whose values may hold a secret, whatever was meant to stand there.
_ADDRESSES = frozenset({"url", "urls"})
_SECRETS = frozenset({"headers", "authorization", "api_key", "password"})
_REFERENCES = ("file", "env")


@click.group("config", short_help="Show and check the configuration.")
def config() -> None:
    """Show and check the configuration: files, variables and flags together."""


@config.command("show")
@settings_options
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object instead of YAML.")
def show(settings: Settings, as_json: bool) -> None:
    """Print every setting as it holds, and where it came from.

    The YAML can be used as a configuration again, but for what is hidden in it: of a sink's address
    only the host is shown, of its headers the names, of secrets where they are, never what they are.
    """
    effective = settings.read()
    values = msgspec.to_builtins(effective.config)
    values["sinks"] = [_without_secrets(sink) for sink in values["sinks"]]
    if as_json:
        origins = {key: dataclasses.asdict(each) for key, each in effective.origins.items()}
        click.echo(json.dumps({"configuration": values, "origins": origins}, indent=2))
    else:
        for line in _yaml(values, effective.origins):
            click.echo(line)
    _warn(effective)


@config.command("check")
@settings_options
def check(settings: Settings) -> None:
    """Say everything that is wrong with the configuration, by file and key.

    Secrets are looked for where the sinks' settings say they are: check with the variables that the
    sensor will have. Exit code: 0 if the sensor would accept it, else 2.
    """
    effective = settings.read()
    errors = list(_sink_errors(effective))
    for error in errors:
        click.echo(f"error: {error}", err=True)
    _warn(effective)
    if errors:
        raise click.exceptions.Exit(2)
    files = dict.fromkeys(
        each.name for each in effective.origins.values() if each.kind in ("file", "config.d")
    )
    click.echo(f"ok: {', '.join(files) or 'nothing is set by a file'}")


def _warn(effective: Effective) -> None:
    for warning in effective.warnings:
        click.echo(f"warning: {warning}", err=True)


def _sink_errors(effective: Effective) -> Iterator[str]:
    from sensor.alerts.sinks.options import build_sink, read_options  # noqa: PLC0415 - clients
    from sensor.delivery import make_sinks  # noqa: PLC0415

    wrong = False
    for index, value in enumerate(effective.config.sinks):
        key = f"sinks[{index}]"
        try:
            build_sink(read_options(value, key), key)
        except ConfigurationError as exc:
            wrong = True
            yield f"{effective.origins[key].place}: {exc}"
    if not wrong:
        try:
            make_sinks(effective.config)  # what is wrong with them together
        except ConfigurationError as exc:
            yield str(exc)


def _without_secrets(sink: dict[str, Any]) -> dict[str, Any]:
    return {key: _shown(key, value) for key, value in sink.items()}


def _shown(key: str, value: Any) -> Any:
    is_reference = isinstance(value, dict) and all(
        name in _REFERENCES and isinstance(each, str) for name, each in value.items()
    )
    if key in _ADDRESSES:
        if isinstance(value, list):
            return [_shown(key, each) for each in value]
        return value if is_reference else _host_of(value)
    if key in _SECRETS and (key == "headers" or not is_reference):
        return dict.fromkeys(value, _HIDDEN) if isinstance(value, dict) else _HIDDEN
    return value


def _host_of(address: Any) -> str:
    """An address without user, password, path and query, each of which may be a secret."""
    try:
        parts = urlsplit(str(address))
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return _HIDDEN
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    if not parts.scheme or not host:
        return _HIDDEN
    plain = f"{parts.scheme}://{host}{port}"
    return plain if str(address).rstrip("/") == plain else f"{plain}/{_HIDDEN}"


def _yaml(
    values: dict[str, Any], origins: dict[str, Origin], above: str = "", indent: str = ""
) -> Iterator[str]:
    """Lines of YAML, each with the origin of its value behind it."""
    for key, value in values.items():
        path = f"{above}{key}"
        if path in origins:
            yield f"{indent}{key}: {_flow(value)}  # {visible(str(origins[path]))}"
        elif isinstance(value, dict):
            yield f"{indent}{key}:"
            yield from _yaml(value, origins, f"{path}.", f"{indent}  ")
        else:
            yield f"{indent}{key}:"
            for index, each in enumerate(value):
                origin = visible(str(origins[f"{path}[{index}]"]))
                yield f"{indent}  - {_flow(each)}  # {origin}"


def _flow(value: Any) -> str:
    """One line of YAML, in ASCII: nothing in it steers a terminal."""
    import yaml  # noqa: PLC0415 - not for the other commands

    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1 << 30)
    text = text.removesuffix("\n").removesuffix("\n...")
    return json.dumps(value) if "\n" in text else text
