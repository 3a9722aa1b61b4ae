"""Alertmanager takes what the sink posts, and a team can route and silence by its labels."""

from __future__ import annotations

import time

import pytest

from sensor.alerts.dispatch import Dispatcher
from sensor.alerts.notice import timestamp
from sensor.alerts.sinks.options import build_sinks

HOSTILE = 'a\nb\x00\x1b[2J\u202e{{ .Labels }} {{ template "x" }} $value "quoted"=~ \udcff'


@pytest.fixture
def send(alertmanager):
    def deliver(*documents, **options):
        [sink] = build_sinks([{"type": "alertmanager", "url": alertmanager.url, **options}])
        dispatcher = Dispatcher([sink])
        dispatcher.start()
        for document in documents:
            dispatcher.submit(document, document["event"]["severity"])
        assert dispatcher.close(20)
        counters = dispatcher.counters()["sinks"]["alertmanager"]
        assert (counters["delivered"], counters["refused"]) == (len(documents), 0)

    return deliver


@pytest.fixture
def now():
    """Alerts of this moment: one from long ago has ended when it arrives."""
    return {"@timestamp": timestamp(time.time())}


def test_alerts_of_one_rule_and_container_are_one_that_is_firing(alertmanager, send, alert, now):
    other = {"container": {"id": "db" * 32, "name": "db"}}
    send(alert(1, **now), alert(2, "find", **now), alert(3, **now, **other))

    found = {each["labels"]["container"]: each for each in alertmanager.alerts()}

    assert set(found) == {"web", "db"}
    assert found["web"]["labels"] == {
        "alertname": "Keys searched",
        "rule_id": "keys-searched",
        "severity": "high",
        "host": "node-1",
        "container": "web",
        "job": "sensor",
    }
    assert found["web"]["annotations"]["command_line"] == "find"
    assert found["web"]["status"]["state"] == "active"


def test_a_silence_by_label_keeps_an_alert_quiet(alertmanager, send, alert, now):
    matcher = {"name": "container", "value": "web", "isRegex": False, "isEqual": True}
    alertmanager.ask(
        "/api/v2/silences",
        {
            "matchers": [matcher],
            "startsAt": timestamp(time.time()),
            "endsAt": timestamp(time.time() + 600),
            "createdBy": "test",
            "comment": "an audit",
        },
    )
    send(alert(1, **now), alert(2, **now, container={"id": "db" * 32, "name": "db"}))

    states = {
        each["labels"]["container"]: each["status"]["state"] for each in alertmanager.alerts()
    }

    assert states == {"web": "suppressed", "db": "active"}


def test_an_alert_ends_by_itself(alertmanager, send, alert, now, eventually):
    send(alert(1, **now), resolve_after=1)

    eventually(lambda: not alertmanager.alerts())


def test_hostile_values_arrive_escaped(alertmanager, send, alert, now):
    send(
        alert(
            1, "grep", HOSTILE, **now,
            user={"name": HOSTILE},
            container={"id": HOSTILE, "name": HOSTILE, "image": {"name": HOSTILE}, "labels": {"x": "y" * (1 << 20)}},
        )
    )  # fmt: skip

    [found] = alertmanager.alerts()

    escaped = 'a\\nb\\x00\\x1b[2J\\u202e{{ .Labels }} {{ template "x" }} $value "quoted"=~ \\\\xff'
    assert found["labels"]["container"].replace("\\\\xff", "\\xff") == escaped.replace(
        "\\\\xff", "\\xff"
    )
    assert found["annotations"]["user"].isprintable()
    assert found["annotations"]["summary"].isprintable()
