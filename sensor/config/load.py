"""Where the configuration comes from: the file, the files beside it, variables, flags."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sensor.config.merge import Effective, Layer, Merger, Origin
from sensor.config.schema import Config
from sensor.config.variables import read_variables, unknown
from sensor.errors import ConfigurationError


def load_config(path: Path | None, environ: Mapping[str, str] = os.environ) -> Config:
    """The configuration without flags; `path` None is no file. Raises `ConfigurationError`."""
    return effective_config(path, environ=environ).config


def effective_config(
    path: Path | None,
    *,
    environ: Mapping[str, str] = os.environ,
    flags: Sequence[Layer] = (),
) -> Effective:
    """What holds, with its origins.

    Raises `ConfigurationError` with a line for everything that is wrong.
    """
    merger = Merger()
    for layer in _file_layers(path):
        if isinstance(layer, str):
            merger.errors.append(layer)
        else:
            merger.add(layer)
    variables, errors, strange = read_variables(environ)
    merger.errors += errors
    for layer in (*variables, *flags):
        merger.add(layer)
    effective = merger.result()
    if effective is None:
        raise ConfigurationError("\n".join(merger.errors))
    # A variable that holds the secret of a sink has a reason to be there.
    named = set(_variables_of_secrets(effective.config.sinks))
    warnings = tuple(unknown(name) for name in strange if name not in named)
    return Effective(config=effective.config, origins=effective.origins, warnings=warnings)


def _file_layers(path: Path | None) -> Iterator[Layer | str]:
    if path is None:
        return
    from sensor.config.files import drop_ins, read_file  # noqa: PLC0415 - brings PyYAML

    try:
        yield Layer(Origin(kind="file", name=str(path)), read_file(path))
        beside = drop_ins(path)
    except ConfigurationError as exc:
        if isinstance(exc.__cause__, PermissionError):
            raise
        yield str(exc)
        return
    for each in beside:
        try:
            yield Layer(Origin(kind="config.d", name=str(each)), read_file(each))
        except ConfigurationError as exc:
            if isinstance(exc.__cause__, PermissionError):
                raise
            yield str(exc)


def _variables_of_secrets(value: Any) -> Iterator[str]:
    """Names under `env` at any depth."""
    if isinstance(value, dict):
        if isinstance(name := value.get("env"), str):
            yield name
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _variables_of_secrets(each)
