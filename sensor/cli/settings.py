"""The flags that set something, as `sensor run` and `sensor config` have them, and what they make.

In: the command line. Out: a `Settings` that reads the configuration with those flags over it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from sensor.config import Effective

_OPTIONS = (
    click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="SENSOR_CONFIG",
        help="Configuration file (YAML); config.d/*.yml beside it add to it.",
    ),
    click.option(
        "--rules",
        "rules",
        multiple=True,
        metavar="PATH",
        type=click.Path(exists=True),
        help="A rule file, or a folder of them; may be given more than once.",
    ),
    click.option("--no-builtin", is_flag=True, help="Leave the built-in rules out."),
    click.option("--strict", is_flag=True, help="Do not start when a rule file is broken."),
    click.option(
        "--output",
        type=click.Choice(["json", "text"]),
        help="Default: text on a terminal, JSON otherwise.",
    ),
    click.option(
        "--socket",
        "sockets",
        multiple=True,
        metavar="PATH",
        help="A container engine's socket; default: those that are found.",
    ),
    click.option(
        "--no-limit", is_flag=True, help="Send every alert, whatever the rules' limits say."
    ),
    click.option(
        "--no-collapse",
        is_flag=True,
        help="Send every match by itself, those of one action too.",
    ),
    click.option("--user", metavar="NAME", help="The user to become.  [default: nobody]"),
    click.option(
        "--keep-privileges",
        is_flag=True,
        help="Stay root. Only for debugging: argv is the attacker's.",
    ),
    click.option(
        "--listen",
        metavar="HOST:PORT",
        help="Serve /metrics and /healthz/{startup,live,ready} there.",
    ),
)
# The parameter of a flag, the flag, the key it sets, and the value, where it is a switch.
_FLAGS: tuple[tuple[str, str, str, Any], ...] = (
    ("rules", "--rules", "rules", None),
    ("no_builtin", "--no-builtin", "builtin_rules", False),
    ("strict", "--strict", "strict", True),
    ("output", "--output", "output", None),
    ("sockets", "--socket", "containers.sockets", None),
    ("no_limit", "--no-limit", "alerts.limit", False),
    ("no_collapse", "--no-collapse", "alerts.collapse_window_s", 0),
    ("user", "--user", "user", None),
    ("keep_privileges", "--keep-privileges", "keep_privileges", True),
    ("listen", "--listen", "metrics.listen", None),
)
_ADDS = "rules"  # this flag alone adds to what the files say


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A file of configuration, or none, and flags; to be read once, or again."""

    path: Path | None
    flags: tuple[tuple[str, str, Any], ...]

    def read(self) -> Effective:
        """What holds now. Raises `ConfigurationError`."""
        from sensor.config import Layer, Origin, effective_config  # noqa: PLC0415 - help is quick

        layers = []
        for flag, key, value in self.flags:
            section, _, name = key.rpartition(".")
            data = {section: {name: value}} if section else {name: value}
            origin = Origin(kind="flag", name=flag)
            layers.append(Layer(origin, data, replaces=key != _ADDS))
        return effective_config(self.path, flags=layers)


def settings_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the flags; it gets them as one argument, `settings`."""

    @functools.wraps(command)
    def with_settings(config_path: Path | None, **parameters: Any) -> Any:
        flags = []
        for parameter, flag, key, switched in _FLAGS:
            given = parameters.pop(parameter)
            if given:
                value = list(given) if isinstance(given, tuple) else given
                flags.append((flag, key, value if switched is None else switched))
        return command(settings=Settings(path=config_path, flags=tuple(flags)), **parameters)

    decorated: Callable[..., Any] = with_settings
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated
