"""Configuration files from disk: a path in, what its YAML says out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from sensor.errors import ConfigurationError

_SIZE_MAX = 1 << 20
_MERGE = "tag:yaml.org,2002:merge"

FOLDER = "config.d"


class _Loader(yaml.SafeLoader):
    """A safe loader that takes no key twice: the first one would be lost without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if isinstance(key_node, yaml.ScalarNode) and key_node.tag != _MERGE:
                if key_node.value in seen:
                    raise yaml.constructor.ConstructorError(
                        None, None, f"the key {key_node.value!r} stands twice", key_node.start_mark
                    )
                seen.add(key_node.value)
        return super().construct_mapping(node, deep=deep)


def parse_yaml(text: str | bytes) -> Any:
    """What the YAML says. Raises `ValueError` with the reason and the place."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as exc:
        mark = exc.problem_mark or exc.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{place}{exc.problem or exc.context}") from exc
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as exc:
        raise ValueError(str(exc)) from exc


def read_file(path: Path) -> dict[Any, Any]:
    """The file's mapping; an empty file is an empty one.

    Raises `ConfigurationError` that begins with the path; its cause is the `OSError`, if it was one.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(_SIZE_MAX + 1)
    except OSError as exc:
        raise ConfigurationError(f"{path}: {exc.strerror}") from exc
    if len(raw) > _SIZE_MAX:
        raise ConfigurationError(f"{path}: larger than {_SIZE_MAX} bytes")
    try:
        data = parse_yaml(raw)
    except ValueError as exc:
        raise ConfigurationError(f"{path}: {exc}") from exc
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ConfigurationError(f"{path}: the file: expected a mapping")
    return data


def drop_ins(path: Path) -> list[Path]:
    """The files beside the main one that add to it: `config.d/*.yml` and `*.yaml`, by name."""
    folder = path.parent / FOLDER
    try:
        names = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as exc:
        raise ConfigurationError(f"{folder}: {exc.strerror}") from exc
    return [name for name in names if name.suffix in (".yml", ".yaml")]
