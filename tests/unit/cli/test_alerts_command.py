"""`sensor alerts`: what it lists, shows and follows, and what it says where there is nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from stored import make_alert, make_container, make_rule, outgoing

from sensor.cli.alerts import alerts
from sensor.cli.moments import Moment
from sensor.errors import SensorError
from sensor.store.filter import Filter
from sensor.store.follow import follow
from sensor.store.records import Position
from sensor.store.store import Store
from sensor.store.writer import StoreWriter

DB = "63ab" * 16
_COMMAND = "from sensor.cli.main import main; main()"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "alerts.db"


@pytest.fixture
def writer(path):
    with StoreWriter(path) as writer:
        yield writer


def write(writer, *documents):
    writer.write([outgoing(each) for each in documents])
    return [each["event"]["id"] for each in documents]


def run(path, *arguments, columns=200):
    result = CliRunner().invoke(
        alerts, [*arguments, "--store", str(path)], env={"TZ": "UTC", "COLUMNS": str(columns)}
    )
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_in_a_pipe_a_list_is_the_whole_documents_newest_first(writer, path):
    identifiers = write(writer, make_alert(0), make_alert(5))

    documents = [json.loads(line) for line in run(path, "list").stdout.splitlines()]
    assert [each["event"]["id"] for each in documents] == identifiers[::-1]
    assert documents[0]["process"]["args"] == ["grep", "-r", "needle", "/srv"]


def test_a_table_has_what_an_analyst_picks_by(writer, path):
    [identifier] = write(writer, make_alert(0, rule=make_rule(severity="high")))

    header, line = run(path, "list", "--output", "text").stdout.splitlines()
    assert header.split()[:3] == ["TIME", "SEVERITY", "ID"]
    assert f"high      {identifier[:10]}  web        root  The rule keys-searched" in line
    assert line.endswith("  grep -r needle /srv")


@pytest.mark.parametrize("columns", [40, 80, 100])
def test_on_a_narrow_terminal_rule_and_command_have_a_line_of_their_own(writer, path, columns):
    [identifier] = write(writer, make_alert(0, "grep", "-r", "needle", rule=make_rule(name="Rule")))

    lines = run(path, "list", "--output", "text", columns=columns).stdout.splitlines()
    assert lines[1:] == ["  RULE  COMMAND", lines[2], "  Rule  grep -r needle"]
    assert f"  {identifier[:10]}" in lines[2]
    assert all(len(line) <= columns for line in lines)


@pytest.mark.parametrize("output", ["text", "json"])
def test_a_reader_that_has_seen_enough_is_no_error_message(writer, path, output):
    write(writer, *(make_alert(number, "x" * 3000, pid=number + 2) for number in range(300)))
    command = f"{sys.executable} -c '{_COMMAND}' alerts list -n 300 --output {output}"
    done = subprocess.run(
        ["bash", "-c", f"{command} --store {path} | head -n 1"],
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert done.stdout.count(b"\n") == 1
    assert done.stderr in (b"", b"300 alerts\n")


def test_a_list_that_is_not_whole_says_so(writer, path):
    write(writer, *(make_alert(number, pid=number + 2) for number in range(5)))

    assert run(path, "list", "--output", "text", "-n", "3").stderr == (
        "3 alerts; 2 more, see --limit\n"
    )
    assert run(path, "list", "--output", "text", "-n", "5").stderr == "5 alerts\n"


def test_filters_of_the_command_line(writer, path):
    web, db = write(
        writer,
        make_alert(0, rule=make_rule("other", severity="low")),
        make_alert(60, container=make_container("db", DB, "postgres", "16"), uid=70),
    )

    def ids(*arguments):
        lines = run(path, "list", *arguments).stdout.splitlines()
        return [json.loads(line)["event"]["id"] for line in lines]

    assert ids("--rule", "the rule KEYS") == ids("--rule", "keys") == [db]
    assert ids("--rule", "other") == [web]
    assert ids("--container", "63ab") == ids("--image", "postgres") == ids("--user", "70") == [db]
    assert ids("--severity", "medium") == [db]
    assert ids("--since", "2023-11-14T22:14:00+00:00") == [db]
    assert ids("--until", "2023-11-14T22:14:00+00:00") == [web]
    assert ids("--since", "2w") == []


def test_a_rule_that_is_unclear_is_an_error_that_names_the_choices(writer, path):
    write(writer, make_alert(0), make_alert(1, rule=make_rule("other")))

    with pytest.raises(
        SensorError, match=r"several rules .*'the rule'; .*The rule other \(other\), The rule keys"
    ):
        run(path, "list", "--rule", "the rule")
    with pytest.raises(SensorError, match="no alert is of a rule 'nothing'; there are: The rule"):
        run(path, "list", "--rule", "nothing")


def test_show_for_a_person_and_for_a_program(writer, path):
    alert = make_alert(0, container={"id": DB})
    [identifier] = write(writer, alert, make_alert(3600, container={"id": DB}))[:1]
    named = alert | {"container": make_container("db", DB)}
    named["sensor"] = alert["sensor"] | {"update_of": identifier}
    write(writer, named)

    assert json.loads(run(path, "show", identifier[:8]).stdout)["container"]["name"] == "db"
    shown = run(path, "show", identifier, "--output", "text").stdout
    assert f"2023-11-14 22:13:20  {identifier}" in shown
    assert "command    grep -r needle /srv" in shown
    assert "container db" in shown


def test_show_says_how_often_and_at_which_hours(writer, path):
    write(writer, *(make_alert(number * 3600, pid=number + 2) for number in range(3)))

    shown = run(path, "show", "last", "--output", "text").stdout
    assert "this exact action 3 times since 2023-11-14 22:13:20" in shown
    assert "22h (1), 23h (1)" in shown


def test_nothing_of_an_attackers_steers_the_terminal(writer, path):
    evil = "\x1b[2J\r\n\x9b\u202e\x00" * 20
    write(writer, make_alert(0, evil, evil, container=make_container(evil, DB, evil, evil)))

    for command in (["list"], ["show", "last"]):
        text = run(path, *command, "--output", "text").stdout
        assert all(line.isprintable() for line in text.split("\n")), command
        assert "\\x1b" in text


def test_secrets_are_shown_only_when_they_are_asked_for(writer, tmp_path, path):
    write(writer, make_alert(0, "x", "--password=hunter2", "aws_access_key_id"))
    configuration = tmp_path / "sensor.yaml"
    configuration.write_text("redaction: {enabled: false}\n")

    for command in (["list"], ["show", "last"]):
        for output in ("json", "text"):
            asked = [*command, "--output", output]
            shown = run(path, *asked).stdout
            assert "hunter2" not in shown
            assert "aws_access_key_id" in shown
            assert "[redacted]" in shown
            assert "hunter2" in run(path, *asked, "--secrets").stdout
            assert "hunter2" in run(path, *asked, "--config", str(configuration)).stdout


def test_what_is_missing_is_said(tmp_path, path):
    with pytest.raises(SensorError, match="there is no store"):
        run(path, "list")
    configuration = tmp_path / "sensor.yaml"
    configuration.write_text("builtin_rules: true\n")
    with pytest.raises(SensorError, match=r"`store\.path` is not set"):
        CliRunner().invoke(alerts, ["list", "--config", str(configuration)], catch_exceptions=False)


def test_the_configuration_names_the_store(writer, tmp_path, path):
    [identifier] = write(writer, make_alert(0))
    configuration = tmp_path / "sensor.yaml"
    configuration.write_text(f"store: {{path: {path}}}\n")

    result = CliRunner().invoke(alerts, ["list", "--config", str(configuration)])
    assert json.loads(result.stdout)["event"]["id"] == identifier


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30m", 10_000 - 1800), ("2d", 10_000 - 172_800), ("1970-01-01T01:00:00+00:00", 3600.0)],
)
def test_times(text, seconds):
    assert Moment(clock=lambda: 10_000).convert(text, None, None) == seconds


@pytest.mark.parametrize("text", ["yesterday", "5y", "-5m", "", "9999999d", "99999-01-01"])
def test_what_is_no_time_is_a_usage_error(path, text):
    assert run(path, "list", "--since", text).exit_code == 2


def test_tail_shows_the_last_ones_then_each_new_one_and_ends_quietly_with_ctrl_c(writer, path):
    old = write(writer, *(make_alert(number, pid=number + 2) for number in range(12)))
    child = subprocess.Popen(
        [sys.executable, "-c", _COMMAND, "alerts", "tail", "-n", "2", "--store", str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
    )
    try:
        first = [json.loads(child.stdout.readline())["event"]["id"] for _ in range(2)]
        new = write(writer, make_alert(50), make_alert(51))
        then = [json.loads(child.stdout.readline())["event"]["id"] for _ in range(2)]
        child.send_signal(signal.SIGINT)
        rest, errors = child.communicate(timeout=20)
    finally:
        child.kill()
        child.communicate()
    assert (first, then) == (old[-2:], new)
    assert (rest, errors, child.returncode) == (b"", b"", 0)


def followed(path, after, where=None, *, updates=False, waits=(True,)):
    """The ids that following gives; `waits` are what each wait answers, or does."""
    steps = iter(waits)

    def wait(_seconds):
        step = next(steps)
        return step if isinstance(step, bool) else step()

    items = follow(path, where or Filter(), after=after, updates=updates, wait=wait)
    return [each.id for _, new in items for each in new]


START = Position(change=0, sequence=0)


def test_an_alert_with_an_update_already_is_new_once(writer, path):
    alert = make_alert(0)
    update = make_alert(0)
    update["sensor"] = update["sensor"] | {"update_of": alert["event"]["id"]}
    [identifier] = write(writer, alert)
    with Store.open(path) as store:
        read_before = store.position()
    write(writer, update)

    assert followed(path, START) == [identifier]
    assert followed(path, read_before) == []
    assert followed(path, read_before, updates=True) == [identifier]


def test_following_holds_to_the_filter_and_misses_none_of_many(writer, path):
    wanted = make_rule("wanted")
    written = write(
        writer,
        *(
            make_alert(number, pid=number + 2, rule=wanted if number % 2 else make_rule())
            for number in range(1200)
        ),
    )

    assert followed(path, START, Filter(rule="wanted")) == written[1::2]


def test_a_store_that_was_begun_anew_is_followed(path):
    with StoreWriter(path) as writer:
        [old] = write(writer, make_alert(0))
        written = []
        steps = (path.unlink, lambda: written.extend(write(writer, make_alert(60))), False, True)
        assert followed(path, START, waits=steps) == [old, *written]
    assert len(written) == 1
