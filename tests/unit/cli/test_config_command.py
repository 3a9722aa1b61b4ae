"""`sensor config`: what it shows can be read back, names each origin, and tells no secret."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import yaml
from click.testing import CliRunner, Result

from sensor.cli.config import config as command
from sensor.config import load_config

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "s3cr3t"


def invoke(*arguments: str | Path, **environ: str) -> Result:
    return CliRunner().invoke(command, [str(each) for each in arguments], env=environ)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "sensor.yaml"
    path.write_text(f"""\
user: "no#body: x"
containers: {{cluster_name: "\\u202e\\U0001F600 line\\nfeed", sockets: [/a b]}}
sinks:
  - {{type: http, name: chat, url: "https://u:{SECRET}@hooks.example.com:8443/{SECRET}?k={SECRET}"}}
  - type: http
    name: other
    url: {{file: /run/hook}}
    headers: {{X-Token: {SECRET}}}
    authorization: {{env: HOOK}}
  - {{type: elasticsearch, urls: ["https://es:9200", "https://a:{SECRET}@es2:9200"], api_key: {SECRET}}}
  - {{type: file, path: /var/log/alerts.json}}
""")
    return path


def test_what_is_shown_is_a_configuration_with_the_same_values(path: Path, tmp_path: Path) -> None:
    shown = invoke("show", "--config", path, "--strict")
    assert shown.exit_code == 0
    again = tmp_path / "again.yaml"
    again.write_text(shown.stdout)
    mine, theirs = load_config(again, {}), load_config(path, {})
    assert (mine.user, mine.containers, mine.strict) == (theirs.user, theirs.containers, True)
    assert mine.sinks[3] == theirs.sinks[3]
    assert shown.stdout.isascii()


def test_each_value_has_its_origin_beside_it(path: Path) -> None:
    lines = invoke(
        "show", "--config", path, "--no-limit", SENSOR_CANARY_INTERVAL_S="5"
    ).stdout.splitlines()
    assert "  limit: false  # flag --no-limit" in lines
    assert "canary_interval_s: 5.0  # variable SENSOR_CANARY_INTERVAL_S" in lines
    assert "stdout: true  # default" in lines
    assert f"  - {{type: file, path: /var/log/alerts.json}}  # file {path}" in lines


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_secrets_are_not_shown_but_where_they_are_is(path: Path, form: tuple[str, ...]) -> None:
    shown = invoke("show", "--config", path, *form).stdout
    assert SECRET not in shown
    for text in ("hooks.example.com:8443", "/run/hook", "X-Token", "HOOK", "https://es:9200"):
        assert text in shown


def test_as_json(path: Path) -> None:
    shown = json.loads(invoke("show", "--config", path, "--json").stdout)
    assert shown["configuration"]["containers"]["sockets"] == ["/a b"]
    assert shown["origins"]["containers.sockets[0]"] == {"kind": "file", "name": str(path)}
    assert shown["origins"]["metrics.listen"] == {"kind": "default", "name": ""}


def test_a_configuration_that_is_right(tmp_path: Path) -> None:
    path = tmp_path / "sensor.yaml"
    path.write_text("strict: true\n")
    (tmp_path / "config.d").mkdir()
    (tmp_path / "config.d/a.yml").write_text("user: me\n")
    checked = invoke("check", "--config", path)
    assert (checked.exit_code, checked.stdout) == (0, f"ok: {path}, {tmp_path}/config.d/a.yml\n")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sinks: [{type: http, ulr: x}]", "sinks[0]"),
        ("sinks: [{type: file, path: /a}, {type: pigeon}]", "sinks[1]"),
        ("sinks: [{type: http, url: {env: NO_SUCH_HOOK}}]", "NO_SUCH_HOOK is not set"),
        ("sinks: [{type: file, path: /a}, {type: file, path: /b}]", "the name file is taken"),
        ("stdout: false", "at least one sink"),
    ],
)
def test_what_is_wrong_with_sinks_is_said_by_key(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "sensor.yaml"
    path.write_text(text)
    checked = invoke("check", "--config", path)
    assert checked.exit_code == 2
    assert said in checked.stderr


def test_the_shown_form_of_the_defaults_is_yaml() -> None:
    shown = yaml.safe_load(invoke("show").stdout)
    assert (shown["user"], shown["sinks"]) == ("nobody", [])
