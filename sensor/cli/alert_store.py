"""Which store a command reads: an option or the sensor's configuration in, the open store out.

@store_options
def command(store_place: StorePlace, ...):
    with store_place.open() as store: ...
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sensor.errors import ConfigurationError

if TYPE_CHECKING:
    from sensor.alerts.redaction.document import Redactor
    from sensor.store.store import Store

CONFIGURATION = Path("/etc/sensor/sensor.yaml")
DEFAULT = Path("/var/lib/sensor/alerts.db")

_OPTIONS = (
    click.option(
        "--store",
        "store_path",
        type=click.Path(path_type=Path),
        envvar="SENSOR_STORE",
        help="The store's file; default: `store.path` of the configuration.",
    ),
    click.option(
        "--config",
        "config_path",
        type=click.Path(path_type=Path, dir_okay=False),
        envvar="SENSOR_CONFIG",
        help=f"The sensor's configuration.  [default: {CONFIGURATION}, if it is there]",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StorePlace:
    """Where the store is said to be."""

    store_path: Path | None = None
    config_path: Path | None = None

    @property
    def path(self) -> Path:
        """The store's file. Raises ConfigurationError where the configuration names none."""
        if self.store_path is not None:
            return self.store_path
        configuration = self.configuration
        if configuration is None:
            return DEFAULT
        from sensor.config import load_config  # noqa: PLC0415 - help is quick

        path = load_config(configuration).store.path
        if path is None:
            raise ConfigurationError(
                f"{configuration}: `store.path` is not set, so the sensor keeps no alerts; "
                "set it, or name a store with --store"
            )
        return Path(path)

    @property
    def configuration(self) -> Path | None:
        """The configuration's file, if there is one."""
        if self.config_path is not None:
            return self.config_path
        return CONFIGURATION if CONFIGURATION.exists() else None

    def redactor(self) -> Redactor | None:
        """What takes secrets out of what is shown, as configured; None where that is turned off."""
        from sensor.config import Redaction, load_config  # noqa: PLC0415 - as above
        from sensor.delivery import redactor_of  # noqa: PLC0415

        configuration = self.configuration
        settings = load_config(configuration).redaction if configuration else Redaction()
        return redactor_of(settings) if settings.enabled else None

    def open(self) -> Store:
        """Open it for reading. Raises StoreError, and ConfigurationError."""
        from sensor.store.store import Store  # noqa: PLC0415 - brings sqlite3

        return Store.open(self.path)


def store_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options; it gets them as one argument, `store_place`."""

    @functools.wraps(command)
    def with_place(
        *arguments: Any, store_path: Path | None, config_path: Path | None, **parameters: Any
    ) -> Any:
        place = StorePlace(store_path=store_path, config_path=config_path)
        return command(*arguments, store_place=place, **parameters)

    decorated: Callable[..., Any] = with_place
    for option in reversed(_OPTIONS):
        decorated = option(decorated)
    return decorated
