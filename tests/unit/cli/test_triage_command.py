"""`sensor triage`: where the alert comes from, where the report goes, and what it says when it cannot."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner
from stored import make_alert, make_container, outgoing
from triaged import alert

from sensor.alerts.encode import encode
from sensor.cli.triage import triage
from sensor.errors import SensorError
from sensor.store.writer import StoreWriter


@pytest.fixture(autouse=True)
def configuration(tmp_path, monkeypatch):
    """The machine's own configuration has no say here."""
    path = tmp_path / "sensor.yaml"
    path.write_text("{}\n")
    monkeypatch.setenv("SENSOR_CONFIG", str(path))


@pytest.fixture
def document(tmp_path):
    path = tmp_path / "alert.json"
    path.write_bytes(encode(alert()))
    return path


@pytest.fixture
def store(tmp_path):
    """A store with three alerts: twice the same action in two containers, and another image's."""
    alerts = [
        make_alert(0, pid=10),
        make_alert(60, pid=11, container=make_container("other", "77ab" * 16)),
        make_alert(120, pid=12, container=make_container("db", "88ab" * 16, image="shop/db")),
    ]
    path = tmp_path / "alerts.db"
    with StoreWriter(path) as writer:
        writer.write([outgoing(each) for each in alerts])
    return path, [each["event"]["id"] for each in alerts]


def run(*arguments, stdin=None):
    result = CliRunner().invoke(triage, [str(each) for each in arguments], input=stdin)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_a_file_needs_no_store_and_the_report_says_that_there_is_none(document):
    result = run(document)

    assert result.stdout.startswith("MEDIUM 47 AWS Credentials Searched For Inside A Container\n")
    assert "There is no store to look up what happened before" in result.stdout


def test_an_alert_comes_from_standard_input_as_well(document):
    assert run("-", stdin=document.read_bytes()).stdout == run(document).stdout


def test_an_alert_of_the_store_comes_with_what_the_store_knows(store):
    path, identifiers = store
    report = json.loads(run(identifiers[0][:8], "--store", path, "--format", "json").stdout)

    assert report["id"] == identifiers[0]
    assert report["history"]["alerts"] == 2
    assert [
        (group["title"], [each["container"] for each in group["alerts"]])
        for group in report["related"]
    ] == [
        ("The same action elsewhere on this node", ["other"]),
        ("The same rule elsewhere on this node", ["db"]),
    ]


def test_last_is_the_newest(store):
    path, identifiers = store

    assert (
        json.loads(run("last", "--store", path, "--format", "json").stdout)["id"] == identifiers[2]
    )


def test_a_file_is_looked_up_in_a_store_that_is_named(document, store):
    path, _ = store
    report = json.loads(run(document, "--store", path, "--format", "json").stdout)

    assert not any("There is no store" in gap for gap in report["gaps"])


@pytest.mark.parametrize(
    ("name", "begins"),
    [
        ("r.html", b"<!doctype html>"),
        ("r.md", b"# AWS"),
        ("r.json", b'{"id"'),
        ("r.txt", b"MEDIUM 47 AWS"),
        ("report", b"MEDIUM 47 AWS"),
    ],
)
def test_the_outputs_suffix_says_the_form_and_the_file_is_for_its_owner_only(
    document, tmp_path, name, begins
):
    output = tmp_path / name
    run(document, "--output", output)

    assert output.read_bytes().lstrip().startswith(begins)
    assert output.stat().st_mode & 0o777 == 0o600


def test_secrets_are_not_shown_unless_they_are_asked_for(tmp_path):
    path = tmp_path / "alert.json"
    path.write_bytes(encode(alert("grep", "-r", "AKIAIOSFODNN7EXAMPLQ", "/srv")))

    shown = run(path).stdout
    assert "AKIAIOSFODNN7EXAMPLQ" not in shown
    assert "secrets are not shown: " in shown
    assert "AKIAIOSFODNN7EXAMPLQ" in run(path, "--secrets").stdout


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "standard input: not JSON"),
        (b"no json", "standard input: not JSON"),
        (b"[" * 100_000, "standard input: not JSON"),
        (b"[1]", "one JSON object is expected"),
        (b"{}\n{}\n", "2 documents; give one alert"),
        (b"{}", "not an alert: the document has no process"),
        (b'{"event": {"module": "sensor"}}', "the sensor says this of itself"),
    ],
)
def test_what_is_no_alert_is_refused_with_a_reason(data, message):
    with pytest.raises(SensorError, match=message):
        run("-", stdin=data)


def test_a_file_that_is_not_there_and_an_id_that_is_not_known(tmp_path, store):
    with pytest.raises(SensorError, match=r"missing.json: No such file"):
        run(tmp_path / "missing.json")
    with pytest.raises(SensorError, match="has the id 'ffff'"):
        run("ffff", "--store", store[0])


def test_a_store_that_is_named_and_not_there_is_an_error(document, tmp_path):
    with pytest.raises(SensorError, match="there is no store"):
        run(document, "--store", tmp_path / "none.db")
