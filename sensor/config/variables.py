"""Settings from the environment: `SENSOR_KERNEL__CAPTURE` is `kernel.capture`.

In: variables. Out: a layer for each that names a key, and what is wrong with the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from sensor.config.merge import Layer, Origin, did_you_mean, keys

PREFIX = "SENSOR_"
# Names the file of the configuration; the command line reads it.
CONFIG_FILE = "SENSOR_CONFIG"
# The tests' own, in the environment of the sensors that they start.
_TESTS = "SENSOR_TEST_"


def variable(path: tuple[str, ...]) -> str:
    """The name of the variable for a key."""
    return PREFIX + "__".join(path).upper()


def read_variables(environ: Mapping[str, str]) -> tuple[list[Layer], list[str], list[str]]:
    """Layers, errors, and names that mean nothing here.

    A name with `__` can only be meant for the sensor: where it names no key that is an error. Others
    may be somebody else's. An empty variable is as none.
    """
    known = {variable(path): (path, kind) for path, kind in keys()}
    layers: list[Layer] = []
    errors: list[str] = []
    strange: list[str] = []
    for name in sorted(environ):
        if not name.startswith(PREFIX) or name == CONFIG_FILE or not environ[name]:
            continue
        if name in known:
            path, kind = known[name]
            try:
                value = _value(environ[name], kind)
            except ValueError as exc:
                errors.append(f"variable {name}: {exc}")
                continue
            data: dict[str, Any] = {path[-1]: value}
            for section in reversed(path[:-1]):
                data = {section: data}
            layers.append(Layer(Origin(kind="variable", name=name), data, replaces=True))
        elif "__" in name:
            errors.append(f"variable {name}: unknown key{did_you_mean(name, known)}")
        elif not name.startswith(_TESTS):
            strange.append(name)
    return layers, errors, strange


def unknown(name: str) -> str:
    """What to say of a variable that looks like a setting and is none."""
    known = [variable(path) for path, _ in keys()]
    return f"variable {name} is no setting and was ignored{did_you_mean(name, known, 0.8)}"


def _value(text: str, kind: Any) -> Any:
    """YAML, but where the key wants a text and a text could be it, the text as it is."""
    from sensor.config.files import parse_yaml  # noqa: PLC0415 - brings PyYAML

    value = parse_yaml(text)
    if value is None or isinstance(value, str | list | dict):
        return value
    try:
        msgspec.convert(text, kind)
    except msgspec.ValidationError:
        return value
    return text
