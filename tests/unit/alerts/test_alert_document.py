"""An alert is all of the last event, the rule, and an id that depends only on what happened."""

from __future__ import annotations

import copy

from sensor.alerts.alert import alert_document


def test_alert_carries_the_event_the_rule_and_the_framework(document, rule):
    alert = alert_document((document(),), rule(severity="high", risk_score=70))

    assert alert["event"] | {"id": ""} == {
        "id": "",
        "kind": "alert",
        "category": ["process"],
        "type": ["start"],
        "action": "exec",
        "module": "cloud_defend",
        "dataset": "sensor.alerts",
        "severity": 73,
        "risk_score": 70,
    }
    assert alert["rule"]["id"] == "aws-credentials-search"
    assert alert["threat"]["tactic"]["id"] == ["TA0006"]
    assert alert["tags"] == ["Domain: Container"]
    assert alert["data_stream"] == {
        "type": "logs",
        "dataset": "sensor.alerts",
        "namespace": "default",
    }
    for part in ("process", "container", "user", "host", "@timestamp"):
        assert alert[part] == document()[part]


def test_message_is_one_sentence_with_rule_command_container_and_user(document, rule):
    alert = alert_document((document(),), rule())

    assert alert["message"] == (
        "AWS Credentials Searched For Inside A Container: grep -r aws_secret_access_key /srv "
        "in container web (5f2b0c3c9f0d, nginx:1.27) as root (0)"
    )


def test_message_on_the_host_and_without_argv_or_user(document, rule):
    event = document(container={}, user={})
    event["process"]["args"] = None

    assert alert_document((event,), rule(name="R"))["message"] == "R: /usr/bin/grep on the host"


def failed(document, code="ENOENT", **changes):
    event = document(error={"code": code, "message": "No such file or directory"}, **changes)
    event["event"] |= {"type": ["info"], "outcome": "failure"}
    return event


def test_message_says_that_the_exec_failed(document, rule):
    alert = alert_document((failed(document),), rule(name="R"))

    assert alert["message"].startswith(
        "R: grep -r aws_secret_access_key /srv failed (ENOENT) in container web"
    )
    assert alert["error"]["code"] == "ENOENT"
    assert alert["event"]["outcome"] == "failure"


def test_failures_of_one_search_are_told_apart_within_a_microsecond(document, rule):
    ids = {
        alert_document((failed(document, sensor={"filename": path}),), rule())["event"]["id"]
        for path in ("/usr/local/bin/grep", "/usr/bin/grep")
    }
    assert len(ids) == 2


def test_a_sequence_says_which_of_its_steps_failed(document, rule):
    alert = alert_document((failed(document), document()), rule())

    assert [step.get("error") for step in alert["sensor"]["sequence"]] == [
        {"code": "ENOENT"},
        None,
    ]
    assert "failed" not in alert["message"]


def test_message_names_the_pod(document, rule):
    event = document(
        orchestrator={"namespace": "shop", "resource": {"name": "web-0", "type": "pod"}}
    )

    assert (
        "(5f2b0c3c9f0d, nginx:1.27) of pod shop/web-0 as"
        in (alert_document((event,), rule())["message"])
    )


def test_message_is_bounded_and_on_one_line(document, rule):
    event = document("grep\n", "\x1b[2J" * 50_000, "\u202e", "aws_secret_access_key", user={})
    event["container"]["name"] = "a\r\nb" * 1000

    message = alert_document((event,), rule())["message"]

    assert message.isprintable()
    assert "aws_secret_access_key" in message
    assert len(message) < 2000


def test_inputs_stay_as_they_were(document, rule):
    events = (document(), document(entity_id="p2"))
    before = copy.deepcopy(events)

    alert_document(events, rule())

    assert events == before


def test_same_events_give_the_same_id(document, rule):
    first = alert_document((document(),), rule())
    again = alert_document((document(),), rule())

    assert first["event"]["id"] == again["event"]["id"]
    assert len(first["event"]["id"]) == 32


def test_id_differs_by_boot_process_time_argv_rule_and_sequence(document, rule):
    events = [
        (document(),),
        (document(entity_id="p2"),),
        (document(timestamp="2026-08-21T12:00:00.123457Z"),),
        (document("grep", "-E", "aws_secret_access_key"),),
        (document("grep", "-Eaws_secret_access_key"),),
        (document(host={"boot": {"id": "another"}}),),
        (document(), document(entity_id="p2")),
    ]
    ids = {alert_document(each, rule())["event"]["id"] for each in events}
    ids.add(alert_document(events[0], rule(id="another"))["event"]["id"])

    assert len(ids) == len(events) + 1


def test_a_sequence_refers_to_each_of_its_events(document, rule):
    first = document("curl", "-o", "x", "http://a", entity_id="p1")
    second = document("sh", "x", entity_id="p2")

    alert = alert_document((first, second), rule())

    assert alert["process"]["entity_id"] == "p2"
    assert [each["process"]["command_line"] for each in alert["sensor"]["sequence"]] == [
        "curl -o x http://a",
        "sh x",
    ]
    assert alert["sensor"]["event_ids"] == [first["event"]["id"], second["event"]["id"]]
    assert "curl -o x http://a → sh x in container web" in alert["message"]
