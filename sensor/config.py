"""The configuration: typed, with defaults, read from one YAML file; flags of the command line win.

In: a path. Out: a frozen `Config`. Raises `ConfigurationError` with the file and the key's path.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from sensor.errors import ConfigurationError

_SIZE_MAX = 1 << 20

Positive = Annotated[int, msgspec.Meta(gt=0)]


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A mapping of the file: a key it does not know is an error."""


class Kernel(_Section, frozen=True):
    """The program: what it sends, and the memory it may have."""

    capture: Literal["matching", "all"] = "matching"
    ring_bytes: Positive = 4 << 20
    processes_max: Positive = 32768
    proc_root: str = "/proc"


class Containers(_Section, frozen=True):
    """Where metadata comes from. `sockets`: null looks for them, an empty list uses none."""

    sockets: list[str] | None = None
    kubernetes: bool | None = None
    cluster_name: str | None = None
    wait_ms: Annotated[int, msgspec.Meta(ge=0, le=60_000)] = 250


class Alerts(_Section, frozen=True):
    """What becomes of matches.

    `limit`: each rule's own interval and maximum hold. `collapse_window_s`: the repetitions of one
    action within this time are counted into its first alert; 0 sends each. `exceptions`: files, or
    folders of them.
    """

    limit: bool = True
    collapse_window_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 0
    exceptions: list[str] = []


class Metrics(_Section, frozen=True):
    """Where `/metrics` and `/healthz/*` are served, as HOST:PORT; null serves nothing."""

    listen: str | None = None


class Spool(_Section, frozen=True):
    """Where alerts wait for sinks that are down; null keeps them in memory only.

    The directory belongs to the sensor's user. Beyond `max_bytes` or `max_age_s` the oldest of the
    least severe go, and that is said.
    """

    directory: str | None = None
    max_bytes: Annotated[int, msgspec.Meta(ge=1 << 20)] = 256 << 20
    max_age_s: Annotated[float, msgspec.Meta(ge=60)] = 7 * 86_400.0


class Config(_Section, frozen=True):
    """Everything that can be set."""

    rules: list[str] = []
    builtin_rules: bool = True
    strict: bool = False
    user: str = "nobody"
    keep_privileges: bool = False
    output: Literal["json", "text"] | None = None
    canary_interval_s: Annotated[float, msgspec.Meta(ge=0, le=86_400)] = 60
    kernel: Kernel = Kernel()
    containers: Containers = Containers()
    alerts: Alerts = Alerts()
    metrics: Metrics = Metrics()
    stdout: bool = True
    sinks: list[dict[str, Any]] = []
    spool: Spool = Spool()


def load_config(path: Path | None) -> Config:
    """The file's configuration, or the defaults without a file."""
    if path is None:
        return Config()
    try:
        with path.open("rb") as file:
            raw = file.read(_SIZE_MAX + 1)
    except OSError as exc:
        raise ConfigurationError(f"{path}: {exc.strerror}") from exc
    if len(raw) > _SIZE_MAX:
        raise ConfigurationError(f"{path}: larger than {_SIZE_MAX} bytes")
    import yaml  # noqa: PLC0415 - only where a file is given

    try:
        data = yaml.safe_load(raw)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as exc:
        raise ConfigurationError(f"{path}: {exc}") from exc
    try:
        return msgspec.convert({} if data is None else data, Config)
    except msgspec.ValidationError as exc:
        raise ConfigurationError(f"{path}: {_explain(str(exc))}") from exc


def _explain(message: str) -> str:
    """Msgspec's sentence with the key's path in front: `containers.wait: unknown key`."""
    where = re.search(r" - at `\$\.?([^`]*)`$", message)
    prefix = where.group(1) if where else ""
    text = message[: where.start()] if where else message
    unknown = re.fullmatch(r"Object contains unknown field `(.*)`", text)
    if unknown:
        key = f"{prefix}.{unknown.group(1)}" if prefix else unknown.group(1)
        return f"{key}: unknown key"
    return f"{prefix or 'the file'}: {text[:1].lower()}{text[1:]}"
