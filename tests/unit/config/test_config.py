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


def beside(tmp_path: Path, name: str, text: str) -> Path:
    path = tmp_path / "config.d" / name
    path.parent.mkdir(exist_ok=True)
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
        ("containrs: {}", "containrs: unknown key; did you mean `containers`?"),
        ("containers: {wait: 3}", "containers.wait: unknown key"),
        ("containers: {wait_ms: soon}", "containers.wait_ms: expected `int`"),
        ("containers: {wait_ms: -1}", "containers.wait_ms: expected `int` >= 0"),
        ("kernel: {capture: some}", "kernel.capture: invalid enum value 'some'"),
        ("- a list", "the file: expected a mapping"),
        ("a: [", "sensor.yaml"),
        ("containers: 3", "containers: expected a mapping"),
        ("rules: [a, 3]", "rules[1]: expected `str`"),
        ("strict: true\nstrict: false", "the key 'strict' stands twice"),
        ("kernel: {ring_bytes: 5000000}", "kernel.ring_bytes: not a power of two"),
        ("metrics: {listen: 9477}", "metrics.listen: expected `str"),
        (
            "metrics: {listen: 'localhost:http'}",
            "metrics.listen: 'localhost:http' is not HOST:PORT",
        ),
        ("a: [b\n", "line 2, column 1: expected ',' or ']', but got '<stream end>'"),
        ("a: 1\na: 2\n", "line 2, column 1: the key 'a' stands twice"),
        ("rules: !!python/object/apply:os.system [id]", "could not determine a constructor"),
    ],
)
def test_an_error_names_the_file_and_the_key(tmp_path: Path, text: str, message: str) -> None:
    path = written(tmp_path, text)
    with pytest.raises(ConfigurationError) as caught:
        load_config(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_all_errors_of_all_files_are_said_at_once(tmp_path: Path) -> None:
    path = written(tmp_path, "strict: perhaps\nuser: 3\n")
    beside(tmp_path, "10-a.yml", "stirct: true\n")
    beside(tmp_path, "20-b.yml", "a: [")
    with pytest.raises(ConfigurationError) as caught:
        load_config(path, {"SENSOR_CANARY_INTERVAL_S": "often"})
    said = str(caught.value)
    assert "sensor.yaml: strict: expected `bool`" in said
    assert "sensor.yaml: user: expected `str`" in said
    assert "10-a.yml: stirct: unknown key; did you mean `strict`?" in said
    assert "20-b.yml: " in said
    assert "variable SENSOR_CANARY_INTERVAL_S: canary_interval_s: expected `float`" in said


def test_a_section_whose_keys_are_all_commented_out_is_empty(tmp_path: Path) -> None:
    assert load_config(written(tmp_path, "kernel:\n  # capture: all\n")) == Config()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="No such file"):
        load_config(tmp_path / "none.yaml")
