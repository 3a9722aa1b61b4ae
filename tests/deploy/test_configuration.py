"""deploy/sensor.yaml: the reference of the configuration says what the code does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec
import yaml

from sensor.alerts.sinks import options
from sensor.config import Config, load_config

REFERENCE = Path(__file__).parents[2] / "deploy/sensor.yaml"


def keys(value: Any, path: str = "") -> set[str]:
    """Paths of all keys of nested mappings."""
    if not isinstance(value, dict):
        return {path}
    return {path} | {each for key in value for each in keys(value[key], f"{path}.{key}")}


def test_every_value_is_the_default() -> None:
    assert load_config(REFERENCE) == Config()


def test_every_key_is_there() -> None:
    assert keys(yaml.safe_load(REFERENCE.read_text())) == keys(msgspec.to_builtins(Config()))


def test_every_key_is_explained() -> None:
    """A line with a key follows a comment, or a key of the same comment."""
    unexplained = []
    previous = ""
    for line in REFERENCE.read_text().splitlines():
        key = re.match(r" *([a-z_]+):", line)
        # A section is explained by its keys.
        if key and not line.endswith(":") and not re.match(r" *(#|[a-z_]+: )", previous):
            unexplained.append(key[1])
        previous = line
    assert unexplained == []


def test_the_examples_of_sinks_show_every_type_and_are_valid() -> None:
    commented = re.search(r"^# (sinks:\n(?:# .*\n)+)", REFERENCE.read_text(), re.MULTILINE)
    assert commented is not None
    examples = yaml.safe_load(commented[1].replace("\n# ", "\n"))["sinks"]
    read = [msgspec.convert(example, options.Options) for example in examples]
    assert {type(each) for each in read} == set(options.Options.__args__)
