"""`sensor tune` proposes the narrowest exception for what recurs, with its evidence, and changes nothing."""

from __future__ import annotations

import json

import pytest
import yaml
from click.testing import CliRunner
from stored import START_S, make_alert, make_container, make_rule, outgoing

from sensor.alerts.exceptions import load_exceptions
from sensor.cli.tune import tune
from sensor.ecs import matching_view
from sensor.errors import SensorError
from sensor.store.writer import StoreWriter

DAY = 86_400
RULE = """\
id: keys-searched
name: The rule keys-searched
query: process where true
"""


@pytest.fixture
def path(tmp_path):
    return tmp_path / "alerts.db"


@pytest.fixture
def writer(path):
    with StoreWriter(path) as writer:
        yield writer


@pytest.fixture
def configuration(tmp_path, path):
    """A sensor with the rule, and with a folder of exceptions."""
    (tmp_path / "rule.yml").write_text(RULE)
    (tmp_path / "exceptions").mkdir()
    file = tmp_path / "sensor.yaml"
    file.write_text(
        f"builtin_rules: false\nrules: [{tmp_path}/rule.yml]\nstore: {{path: {path}}}\n"
        f"alerts: {{exceptions: [{tmp_path}/exceptions]}}\n"
    )
    return file


def run(configuration, *arguments):
    result = CliRunner().invoke(
        tune, [*arguments, "--config", str(configuration), "--since", "2023-01-01"]
    )
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def nightly(number, **changes):
    """A scan of a script in a container, every night at 22:13, of another folder each time."""
    alert = make_alert(
        number * DAY,
        *("grep", "-r", "aws_access_key_id", f"/backup/{20260101 + number}/etc"),
        pid=number + 2,
        **changes,
    )
    alert["process"]["parent"] = {
        "pid": 1,
        "executable": "/bin/bash",
        "args": ["bash", "/opt/audit/scan.sh"],
    }
    alert["process"]["interactive"] = False
    return alert


def write(writer, *documents):
    writer.write([outgoing(each) for each in documents])


def test_what_recurs_is_proposed_with_evidence_and_hides_just_that(writer, configuration, tmp_path):
    seen = [nightly(number) for number in range(8)]
    others = [
        make_alert(0, "grep", "-r", "aws_access_key_id", "/backup/1/etc", uid=1000),
        make_alert(5, "grep", "-r", "aws_secret_access_key", "/root"),
        nightly(3, container=make_container("db", "63ab" * 16, "postgres")),
    ]
    write(writer, *seen, *others)

    text = run(configuration, "--owner", "platform").stdout
    [entry] = yaml.safe_load(text)["exceptions"]
    assert entry["command_line"] == "grep -r aws_access_key_id /backup/2026010*/etc"
    assert entry["script"] == "/opt/audit/scan.sh"
    assert (entry["user"], entry["image"]) == ("root", "shop/web:1.4")
    assert entry["windows"] == [{"hours": "22:00-23:00", "timezone": "UTC"}]
    assert entry["reason"].startswith(
        "seen 8 times from 2023-11-14 to 2023-11-21, as root, in shop/web:1.4, "
        "by /opt/audit/scan.sh, at 22h UTC"
    )

    (tmp_path / "exceptions" / "tuned.yml").write_text(text)
    exceptions = load_exceptions([tmp_path / "exceptions"], [make_rule()])
    assert exceptions.errors == ()

    def hidden(document, moment=START_S + DAY):
        return exceptions.find(matching_view(document), make_rule(), moment) is not None

    assert all(map(hidden, seen))
    assert not any(map(hidden, others))
    assert not hidden(seen[0], START_S + DAY + 7200)
    # It is in force now: there is nothing left to propose.
    assert "hides it by now" in run(configuration, "--output", "text").stdout


def test_without_an_owner_a_proposal_does_not_load(writer, configuration, tmp_path):
    write(writer, *(nightly(number) for number in range(8)))

    (tmp_path / "exceptions" / "tuned.yml").write_text(run(configuration).stdout)
    [error] = load_exceptions([tmp_path / "exceptions"], [make_rule()]).errors
    assert "`owner` is still to be written" in error.message


def test_a_file_is_written_only_where_it_is_asked_for_and_never_over_another(
    writer, configuration, tmp_path
):
    write(writer, *(nightly(number) for number in range(8)))
    before = sorted(tmp_path.rglob("*"))
    run(configuration)
    run(configuration, "--output", "text")
    run(configuration, "--output", "json")
    assert [each for each in sorted(tmp_path.rglob("*")) if "alerts.db" not in each.name] == [
        each for each in before if "alerts.db" not in each.name
    ]

    target = tmp_path / "new.yml"
    run(configuration, "--write", str(target))
    assert len(yaml.safe_load(target.read_text())["exceptions"]) == 1
    with pytest.raises(SensorError, match="is there already"):
        run(configuration, "--write", str(target))


def test_what_was_typed_at_a_terminal_is_never_proposed(writer, configuration):
    typed = nightly(3)
    typed["process"]["interactive"] = True
    write(writer, *(nightly(number) for number in (0, 1, 2)), typed, nightly(4))

    result = run(configuration, "--output", "text")
    assert "no exception: 1 of 5 were typed at a terminal" in result.stdout
    assert run(configuration).stdout == ""


def test_where_the_container_is_known_by_its_id_alone_nothing_is_proposed(writer, configuration):
    write(writer, *(nightly(number, container={"id": "63ab" * 16}) for number in range(8)))

    assert "container's image is not known" in run(configuration, "--output", "text").stdout
    assert run(configuration).stdout == ""


def test_what_is_rare_is_not_proposed(writer, configuration):
    write(writer, *(nightly(number) for number in range(4)))

    assert run(configuration).stderr == "0 exceptions for 0 actions\n"
    assert "no action recurs often enough" in run(configuration, "--output", "text").stdout
    assert "1 exceptions" in run(configuration, "--least", "4").stderr


def test_different_images_of_one_name_and_hours_all_over_the_day(writer, configuration):
    alerts = []
    for number in range(30):
        container = make_container(f"job-{number}", f"{number:02}" * 32, tag=f"1.{number}")
        alerts.append(make_alert(number * 3600, "scan", pid=number + 2, container=container))
        alerts[-1]["process"]["interactive"] = False
    write(writer, *alerts)

    [entry] = yaml.safe_load(run(configuration).stdout)["exceptions"]
    assert entry["image"] == "shop/web:*"
    assert "container" not in entry
    assert "windows" not in entry
    assert "at all hours UTC" in entry["reason"]


def test_a_secret_becomes_a_wildcard(writer, configuration, tmp_path):
    def scan(number):
        alert = make_alert(number, "scan", "--password", f"hunter{number}x", "/srv", pid=number + 2)
        alert["process"]["interactive"] = False
        return alert

    alerts = [scan(number) for number in range(6)]
    write(writer, *alerts)

    for output in ("yaml", "text", "json"):
        assert "hunter" not in run(configuration, "--output", output).stdout
    text = run(configuration, "--owner", "me").stdout
    assert yaml.safe_load(text)["exceptions"][0]["command_line"] == "scan --password * /srv"
    (tmp_path / "exceptions" / "x.yml").write_text(text)
    exceptions = load_exceptions([tmp_path / "exceptions"], [make_rule()])
    assert all(exceptions.find(each, make_rule(), START_S) for each in alerts)


def test_a_proposal_that_reaches_further_says_so(writer, configuration):
    """On the host, where an argument is a wildcard, others are near."""
    host = {"identity": {"state": "host"}}

    def scan(number, *args):
        alert = make_alert(number, "scan", *args, pid=number + 2, container=host)
        alert["process"]["interactive"] = False
        return alert

    write(writer, *(scan(number, f"--run={number}x") for number in range(6)))
    write(writer, scan(50, "--run=ax"), scan(51, "other"))

    text = run(configuration).stdout
    assert "CAREFUL: it would also hide 1 of 2 other alerts" in text
    assert "CAREFUL: nothing in it is beyond the reach of the process itself but the user" in text
    [line] = run(configuration, "--output", "json").stdout.splitlines()
    answer = json.loads(line)
    assert answer["would_also_hide"] == {"count": 1, "of": 2}
    assert answer["alerts"] == 6
    assert answer["exception"]["command_line"] == "scan --run=*x"


def test_a_window_may_go_over_midnight(writer, configuration):
    alerts = []
    for number in range(6):
        # 23:13 and 00:13
        alert = make_alert(number * DAY + 3600 * (1 + number % 2), "scan", pid=number + 2)
        alert["process"]["interactive"] = False
        alerts.append(alert)
    write(writer, *alerts)

    [entry] = yaml.safe_load(run(configuration).stdout)["exceptions"]
    assert entry["windows"] == [{"hours": "23:00-01:00", "timezone": "UTC"}]
    assert "at 23h-00h UTC" in entry["reason"]


def test_hostile_texts_make_a_file_that_can_be_read_and_a_report_that_is_inert(
    writer, configuration
):
    evil = "x: [&a\n  - *a]\x1b[2J\u202e #\t'\""
    for number in range(6):
        container = make_container(evil, "63ab" * 16, evil, evil)
        alert = make_alert(number, evil, evil, pid=number + 2, container=container)
        alert["process"]["interactive"] = False
        write(writer, alert)

    yaml.safe_load(run(configuration).stdout or "{}")
    text = run(configuration, "--output", "text").stdout
    assert [line for line in text.split("\n") if not line.isprintable()] == []


def test_the_report_begins_with_the_loud_rules(writer, configuration):
    write(writer, *(nightly(number) for number in range(8)), make_alert(1, rule=make_rule("other")))

    lines = run(configuration, "--output", "text").stdout.splitlines()
    assert lines[0].startswith("9 alerts since 2023-01-01")
    assert [line.split(maxsplit=1) for line in lines[1:3]] == [
        ["8", "The rule keys-searched"],
        ["1", "The rule other"],
    ]
