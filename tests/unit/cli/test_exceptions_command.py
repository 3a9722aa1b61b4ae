"""`sensor exceptions`: what it prints, and its exit codes."""

from __future__ import annotations

import json

import pytest
import yaml
from click.testing import CliRunner
from stored import make_alert, outgoing

from sensor.cli.exceptions import exceptions
from sensor.store.writer import StoreWriter

RULE_ID = "a3f9c1d2-0000-4000-8000-000000000001"
RULE = f"""\
id: {RULE_ID}
name: Keys searched
query: process where process.args == "key"
tags: ["Audit"]
"""
GOOD = f"""\
exceptions:
  - id: nightly
    rules: {RULE_ID}
    user: root
    reason: the nightly audit
    owner: platform
    expires: 2999-12-31
  - id: old
    tags: Audit
    user: audit
    reason: an old audit
    owner: somebody
    expires: 2020-01-01
"""
EVENT = {
    "@timestamp": "2026-08-21T12:00:00Z",
    "event": {"kind": "event", "category": ["process"], "type": ["start"]},
    "process": {"entity_id": "p", "executable": "/bin/grep", "args": ["grep", "key"]},
    "user": {"name": "root"},
}


@pytest.fixture
def run(tmp_path):
    (tmp_path / "rule.yml").write_text(RULE)

    def call(command, text=GOOD, *options, **keywords):
        path = tmp_path / "e.yml"
        path.write_text(text)
        arguments = [command, str(path), "--rules", str(tmp_path / "rule.yml"), *options]
        return CliRunner().invoke(exceptions, arguments, **keywords)

    return call


def test_list(run):
    result = run("list")

    assert result.exit_code == 0
    lines = [line.split() for line in result.output.splitlines()]
    assert lines[1] == ["active", "2999-12-31", "platform", "nightly", RULE_ID, "the", "nightly", "audit"]  # fmt: skip
    assert lines[2][:4] == ["expired", "2020-01-01", "somebody", "old"]


def test_check_says_what_is_doubtful(run):
    unknown = GOOD.replace(f"rules: {RULE_ID}", "rules: none").replace("2999-12-31", "never")

    result = run("check", unknown)

    assert result.exit_code == 0
    assert "nightly: warning: no rule has the id 'none'" in result.output
    assert "nightly: warning: never expires" in result.output
    assert "old: warning: expired on 2020-01-01" in result.output
    assert result.output.endswith("2 exceptions ok, 3 warnings, 0 in error\n")


def test_check_ends_with_2_and_the_place_for_an_error(run, tmp_path):
    result = run("check", GOOD.replace("user: root", "usr: root"))

    assert result.exit_code == 2
    assert f"{tmp_path}/e.yml:2:5: error: exception 'nightly': " in result.output
    assert "1 exceptions ok, 1 warnings, 1 in error" in result.output


def test_report_of_a_running_sensor(run, tmp_path):
    state = {
        "version": 1,
        "exceptions": {
            "nightly": {"hidden": 7, "last": 1787313600.0, "errors": 0, "rules": {RULE_ID: 7}},
            "gone": {"hidden": 1, "last": None, "errors": 0, "rules": {}},
        },
    }
    (tmp_path / "state.json").write_text(json.dumps(state))

    result = run("report", GOOD, "--state", str(tmp_path / "state.json"))

    assert result.exit_code == 0
    lines = [line.split() for line in result.output.splitlines()]
    assert lines[1] == ["7", "2026-08-21", "12:00", "active", "nightly", "platform", RULE_ID, "(7)"]
    assert lines[2][:4] == ["never", "-", "expired", "old"]
    assert "no longer configured: gone" in result.output


def test_report_without_counts_says_so(run, tmp_path):
    result = run("report", GOOD, "--state", str(tmp_path / "none.json"))

    assert "No such file or directory; has the sensor run?" in str(result.exception)


def test_report_of_recorded_documents(run):
    alert = EVENT | {"rule": {"id": RULE_ID}}
    other = EVENT | {"user": {"name": "www-data"}}
    lines = "".join(json.dumps(each) + "\n" for each in (EVENT, alert, other))

    result = run("report", GOOD, "--documents", "-", input=lines)

    assert result.exit_code == 0
    assert result.output.splitlines()[1].split()[0] == "2"


def test_suggest_prints_an_entry_that_loads_once_it_is_filled_in(tmp_path):
    alert = EVENT | {"rule": {"id": RULE_ID}, "event": {"id": "0123456789"}, "message": "m"}

    result = CliRunner().invoke(exceptions, ["suggest", "-"], input=json.dumps(alert, indent=1))

    assert result.exit_code == 0
    [entry] = yaml.safe_load(result.output)["exceptions"]
    assert entry["rules"] == RULE_ID
    assert entry["executable"] == "/bin/grep"
    assert (entry["reason"], entry["owner"]) == ("TODO", "TODO")


def test_suggest_refuses_what_is_no_alert():
    result = CliRunner().invoke(exceptions, ["suggest", "-"], input="{}")

    assert "not an alert of a rule" in str(result.exception)
    result = CliRunner().invoke(exceptions, ["suggest", "-"], input="x\ny")
    assert "standard input: not JSON" in str(result.exception)


@pytest.mark.parametrize("reference", ["last", "the id"])
def test_suggest_takes_an_alert_of_the_store(tmp_path, reference):
    alert = make_alert(0, "grep", "-r", "needle")
    path = tmp_path / "alerts.db"
    with StoreWriter(path) as writer:
        writer.write([outgoing(alert)])
    wanted = "last" if reference == "last" else alert["event"]["id"][:8]

    result = CliRunner().invoke(exceptions, ["suggest", wanted, "--store", str(path)])

    assert result.exit_code == 0
    [entry] = yaml.safe_load(result.output)["exceptions"]
    assert entry["command_line"] == "grep -r needle"


def test_hostile_text_in_a_file_does_not_steer_the_terminal(run):
    hostile = GOOD.replace("reason: the nightly audit", 'reason: "a\\e[31m\\u202e"')

    result = run("list", hostile)

    assert "a\\x1b[31m\\u202e" in result.output
    assert "\x1b" not in result.output
