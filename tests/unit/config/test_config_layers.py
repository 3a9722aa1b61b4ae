"""Files beside the main one, variables and flags: what each does to the ones before, and who it was."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.config import Config, Layer, Origin, effective_config, load_config
from sensor.config.changes import LIVE, change
from sensor.config.merge import keys
from sensor.config.variables import variable
from sensor.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


def files(tmp_path: Path, main: str, **others: str) -> Path:
    path = tmp_path / "sensor.yaml"
    path.write_text(main)
    (tmp_path / "config.d").mkdir()
    for name, text in others.items():
        (tmp_path / "config.d" / f"{name}.yml").write_text(text)
    return path


def flag(name: str, data: dict[str, Any]) -> Layer:
    return Layer(Origin(kind="flag", name=name), data, replaces=True)


def test_each_has_its_say_over_the_one_before(tmp_path: Path) -> None:
    path = files(
        tmp_path,
        "containers: {wait_ms: 1, cluster_name: file}\nuser: file\noutput: json\n",
        a="containers: {wait_ms: 2}\nuser: a\n",
        b="containers: {wait_ms: 3}\n",
    )
    effective = effective_config(
        path,
        environ={"SENSOR_CONTAINERS__WAIT_MS": "4", "SENSOR_STRICT": "true"},
        flags=[flag("--wait", {"containers": {"wait_ms": 5}})],
    )
    config = effective.config
    assert (config.containers.wait_ms, config.containers.cluster_name) == (5, "file")
    assert (config.user, config.output, config.strict) == ("a", "json", True)
    origins = {key: str(origin) for key, origin in effective.origins.items()}
    assert origins["containers.wait_ms"] == "flag --wait"
    assert origins["strict"] == "variable SENSOR_STRICT"
    assert origins["user"] == f"config.d {tmp_path}/config.d/a.yml"
    assert origins["output"] == f"file {path}"
    assert origins["stdout"] == "default"


def test_the_files_lists_add_up_and_an_empty_one_begins_anew(tmp_path: Path) -> None:
    path = files(
        tmp_path, "rules: [main]\nsinks: [{type: a}]\n", a="rules: [a, b]\n", b="sinks: []"
    )
    effective = effective_config(path, environ={})
    assert effective.config.rules == ["main", "a", "b"]
    assert effective.config.sinks == []
    origins = {key: origin.name.rpartition("/")[2] for key, origin in effective.origins.items()}
    assert [origins[f"rules[{index}]"] for index in range(3)] == ["sensor.yaml", "a.yml", "a.yml"]
    assert origins["sinks"] == "b.yml"


def test_a_variables_list_stands_in_place_of_the_files(tmp_path: Path) -> None:
    path = files(tmp_path, "rules: [main]\n")
    assert load_config(path, {"SENSOR_RULES": "[mine]"}).rules == ["mine"]


def test_a_list_that_is_null_and_then_named(tmp_path: Path) -> None:
    path = files(tmp_path, "containers: {sockets: null}\n", a="containers: {sockets: [/s]}\n")
    assert load_config(path, {}).containers.sockets == ["/s"]


def test_hidden_and_other_files_are_left_out(tmp_path: Path) -> None:
    path = files(tmp_path, "")
    for name in (".a.yml", "a.yml.dpkg-dist", "README"):
        (tmp_path / "config.d" / name).write_text("- no: [")
    assert load_config(path, {}) == Config()


@pytest.mark.parametrize(
    ("name", "text", "key", "value"),
    [
        ("SENSOR_KERNEL__CAPTURE", "all", ("kernel", "capture"), "all"),
        ("SENSOR_CONTAINERS__CLUSTER_NAME", "1234", ("containers", "cluster_name"), "1234"),
        ("SENSOR_CONTAINERS__CLUSTER_NAME", "null", ("containers", "cluster_name"), None),
        ("SENSOR_CONTAINERS__KUBERNETES", "off", ("containers", "kubernetes"), False),
        ("SENSOR_METRICS__LISTEN", "127.0.0.1:1", ("metrics", "listen"), "127.0.0.1:1"),
        ("SENSOR_METRICS__LISTEN", "", ("metrics", "listen"), None),
    ],
)
def test_a_variable_has_the_type_of_its_key(
    name: str, text: str, key: tuple[str, str], value: object
) -> None:
    config = load_config(None, {name: text})
    assert getattr(getattr(config, key[0]), key[1]) == value


@pytest.mark.parametrize("name", ["SENSOR_KERNEL__CAPTUR", "SENSOR_KERNEL__", "SENSOR__STRICT"])
def test_a_variable_that_can_only_be_meant_for_the_sensor_and_names_nothing(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"variable {name}: unknown key"):
        load_config(None, {name: "all"})


def test_a_variable_that_may_be_somebody_elses_is_said() -> None:
    effective = effective_config(None, environ={"SENSOR_STRICTT": "1", "SENSOR_PORT": "tcp://x"})
    assert effective.warnings == (
        "variable SENSOR_PORT is no setting and was ignored",
        "variable SENSOR_STRICTT is no setting and was ignored; did you mean `SENSOR_STRICT`?",
    )


def test_a_variable_of_the_tests_is_nobodys_mistake() -> None:
    assert effective_config(None, environ={"SENSOR_TEST_PATIENCE": "10"}).warnings == ()


def test_a_variable_that_holds_a_sinks_secret_is_known(tmp_path: Path) -> None:
    path = files(tmp_path, "sinks: [{type: http, url: {env: SENSOR_HOOK}}]\n")
    assert effective_config(path, environ={"SENSOR_HOOK": "https://x"}).warnings == ()


def test_no_two_keys_have_the_same_variable() -> None:
    names = [variable(path) for path, _ in keys()]
    assert len(names) == len(set(names))


@given(st.dictionaries(st.text(max_size=12), st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)))  # fmt: skip
def test_whatever_stands_in_a_layer_is_taken_or_refused(data: dict[str, Any]) -> None:
    layer = Layer(Origin(kind="flag"), data | {"kernel": data, "rules": list(data)})
    with suppress(ConfigurationError):
        assert effective_config(None, environ={}, flags=[layer]).config.rules == list(data)


# --- a reload -----------------------------------------------------------------------------------------


def test_a_reload_takes_what_can_change_and_names_the_rest() -> None:
    wanted = load_config(
        None,
        {
            "SENSOR_RULES": "[x]",
            "SENSOR_ALERTS__LIMIT": "false",
            "SENSOR_KERNEL__RING_BYTES": "8388608",
            "SENSOR_USER": "daemon",
            "SENSOR_CONTAINERS__WAIT_MS": "1",
            "SENSOR_CONTAINERS__SOCKETS": "[]",
        },
    )
    result = change(Config(), wanted)
    assert sorted(result.changed) == ["alerts.limit", "containers.wait_ms", "rules"]
    assert sorted(result.pending) == ["containers.sockets", "kernel.ring_bytes", "user"]
    assert (result.config.rules, result.config.alerts.limit) == (["x"], False)
    assert (result.config.containers.wait_ms, result.config.containers.sockets) == (1, None)
    assert result.config.kernel == Config().kernel
    assert change(result.config, wanted).changed == ()
    assert change(result.config, wanted).pending == result.pending


def test_what_can_change_exists() -> None:
    assert {".".join(path) for path, _ in keys()} >= LIVE


def test_an_unchanged_configuration_changes_nothing() -> None:
    result = change(Config(), msgspec.convert(msgspec.to_builtins(Config()), Config))
    assert (result.config, result.changed, result.pending) == (Config(), (), ())
