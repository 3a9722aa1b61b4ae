"""The block for a terminal shows who did what where, and nothing of it can steer the terminal."""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.alerts.alert import alert_document
from sensor.alerts.terminal import render, wants_color

_OUR_COLOURS = re.compile(r"\x1b\[[0-9;]+m")
_any_text = st.text(alphabet=st.characters(codec=None), max_size=80)


def test_block_of_an_alert(alert):
    block = render(alert(), color=False, width=100)

    assert block == (
        "12:00:00.123 MEDIUM 47 AWS Credentials Searched For Inside A Container\n"
        "  command    grep -r aws_secret_access_key /srv\n"
        "  process    /usr/bin/grep  pid 4321  in /  interactive\n"
        "  parent     bash  pid 4300\n"
        "  container  web  5f2b0c3c9f0d  nginx:1.27  docker\n"
        "  labels     com.example.team=shop\n"
        "  user       root (0)\n"
        f"  alert      {alert()['event']['id']}\n"
    )


def test_an_exec_that_failed_says_why(document, rule):
    event = document(error={"code": "EACCES", "message": "Permission denied\x1b[2J"})
    event["event"] |= {"type": ["info"], "outcome": "failure"}
    lines = render(alert_document((event, event), rule()), color=False, width=100).splitlines()

    assert "  failed     EACCES  Permission denied\\x1b[2J" in lines
    assert lines[-2] == "  step       grep -r aws_secret_access_key /srv  failed (EACCES)"


def recent(*commands):
    return [
        {"@timestamp": f"2026-08-21T11:59:{number:02}.5Z", "process": {"args": list(args)}}
        for number, args in enumerate(commands)
    ]


def test_what_the_container_did_just_before_is_a_few_lines(alert):
    document = alert()
    commands = [["id"], ["ls", "/srv"], ["cat", "a\nb\x1b[2J"], ["sh", "-c", "x" * 10_000]]
    document["sensor"]["recent_activity"] = recent(*commands)

    block = render(document, color=False, width=300)

    assert (
        "  user       root (0)\n"
        "  before     11:59:01  ls /srv\n"
        "             11:59:02  cat $'a\\nb\\x1b[2J'\n"
        "             11:59:03  sh -c "
    ) in block
    assert len(block) < 1500


def test_an_update_says_how_often_and_does_not_repeat_what_was_before(alert):
    document = alert()
    document["sensor"]["recent_activity"] = recent(["id"])
    document["sensor"]["collapsed"] = {"count": 3, "first": "a", "last": "b"}

    block = render(document, color=False, width=100)

    assert "  seen       3 times from a to b\n" in block
    assert "before" not in block


def test_colour_changes_nothing_but_colour(alert):
    plain = render(alert(), color=False, width=80)
    coloured = render(alert(), color=True, width=80)

    assert coloured != plain
    assert _OUR_COLOURS.sub("", coloured) == plain


def test_a_container_whose_metadata_is_missing_says_why(document, rule):
    resolution = {"state": "unavailable", "reason": "docker did not answer in time"}
    event = document(container={"id": "5f2b0c3c9f0d4c7e", "resolution": resolution})

    block = render(alert_document((event,), rule()), color=False, width=100)

    assert (
        "  container  5f2b0c3c9f0d\n  metadata   missing: docker did not answer in time\n" in block
    )


def test_an_exec_whose_place_is_unknown_says_why(document, rule):
    event = document(container={"identity": {"state": "unknown", "reason": "cgroup_not_read"}})

    alert = alert_document((event,), rule(name="R"))

    assert "  container  unknown: cgroup_not_read\n" in render(alert, color=False, width=100)
    assert "at an unknown place (cgroup_not_read)" in alert["message"]


def test_a_notice_shows_its_message():
    document = {
        "@timestamp": "2026-08-21T12:00:00Z",
        "event": {"severity": 73, "risk_score": 73},
        "rule": {"name": "Sensor: delivery loss"},
        "message": "5 documents were lost",
    }

    assert render(document, color=False, width=80) == (
        "12:00:00 HIGH 73 Sensor: delivery loss\n  message    5 documents were lost\n"
    )


def test_an_empty_document_is_no_error():
    assert render({}, color=True, width=10).endswith("\n")


@given(one=_any_text, two=_any_text, width=st.integers(40, 120))
def test_no_character_of_an_attackers_steers_the_terminal(document, rule, one, two, width):
    event = document(one, two, one)
    event["process"] |= {
        "executable": two,
        "working_directory": one,
        "parent": {"args": [two, one]},
    }
    event["container"] |= {"name": one, "image": {"name": two, "tag": [one]}, "labels": {one: two}}
    event["user"] = {"id": one, "name": two}
    event["sensor"] |= {"recent_activity": recent([one, two])}

    block = render(alert_document((event,), rule(name=one)), color=True, width=width)

    assert all(line.isprintable() for line in _OUR_COLOURS.sub("", block).split("\n"))


def test_lines_fit_the_width(document, rule):
    event = document("grep", "日本" * 200, "a " * 300, "b" * 500)

    block = render(alert_document((event,), rule()), color=False, width=60)

    wide = 0
    for line in block.splitlines():
        columns = len(line) + sum(character in "日本" for character in line)
        wide = max(wide, columns)
    assert 50 < wide <= 60


def test_a_hostile_alert_is_a_block_of_a_few_printable_lines(hostile):
    block = render(hostile, color=True, width=100)

    assert all(line.isprintable() for line in _OUR_COLOURS.sub("", block).split("\n"))
    assert len(block) < 10_000


@pytest.mark.parametrize(
    ("environment", "terminal", "coloured"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"NO_COLOR": "1"}, True, False),
        ({"NO_COLOR": ""}, True, True),
        ({"FORCE_COLOR": "1"}, False, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, True, False),
    ],
)
def test_colours_are_for_terminals_unless_the_environment_says_otherwise(
    monkeypatch, environment, terminal, coloured
):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stdout", SimpleNamespace(isatty=lambda: terminal))

    assert wants_color() is coloured
