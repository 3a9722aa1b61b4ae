"""The configuration file: defaults, types, and errors that name file and key."""

from __future__ import annotations

from pathlib import Path

import pytest

from sensor.config import Config, load_config
from sensor.errors import ConfigurationError


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "sensor.yaml"
    path.write_text(text)
    return path


def test_without_a_file_the_defaults_hold() -> None:
    config = load_config(None)
    assert config == Config()
    assert (config.user, config.containers.wait_ms, config.kernel.capture) == (
        "nobody",
        250,
        "matching",
    )


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, "# nothing\n")) == Config()


def test_what_the_file_says_holds(tmp_path: Path) -> None:
    config = load_config(
        written(tmp_path, "containers: {wait_ms: 10, sockets: []}\nstrict: true\n")
    )
    assert (config.containers.wait_ms, config.containers.sockets, config.strict) == (10, [], True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("containrs: {}", "containrs: unknown key"),
        ("containers: {wait: 3}", "containers.wait: unknown key"),
        ("containers: {wait_ms: soon}", "containers.wait_ms: expected `int`"),
        ("containers: {wait_ms: -1}", "containers.wait_ms: expected `int` >= 0"),
        ("kernel: {capture: some}", "kernel.capture: invalid enum value 'some'"),
        ("- a list", "the file: expected `object`"),
        ("a: [", "sensor.yaml"),
        ("rules: !!python/object/apply:os.system [id]", "could not determine a constructor"),
    ],
)
def test_an_error_names_the_file_and_the_key(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        load_config(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        load_config(tmp_path / "none.yaml")
