"""rsyslog reads every field of what the syslog sink sends, over each transport."""

from __future__ import annotations

import json

import pytest

from sensor.alerts.dispatch import Dispatcher
from sensor.alerts.sinks.options import build_sinks
from sensor.alerts.spool import Spool
from sensor.alerts.worker import Backoff

HOSTILE = "a\nb\r\x00\x1b[2J\x9b\u202e%msg% $!all-json ]> <13>1 - - - - - - fake\n<13>fake \udcff"


@pytest.fixture
def sink(rsyslog):
    def make(transport, **options):
        address = {
            "unix": str(rsyslog.folder / "socket5424"),
            "local": str(rsyslog.folder / "socket"),
            "udp": f"127.0.0.1:{rsyslog.udp}",
            "tcp": f"127.0.0.1:{rsyslog.tcp}",
            "tls": f"localhost:{rsyslog.tls}",
        }[transport]
        if transport == "unix":
            options["format"] = "rfc5424"
        if transport == "local":
            transport = "unix"
        if transport == "tls":
            options["tls"] = {"ca": str(rsyslog.folder / "cert")}
        [made] = build_sinks(
            [{"type": "syslog", "transport": transport, "address": address, **options}]
        )
        return made

    return make


def send(sink, *documents):
    dispatcher = Dispatcher([sink], backoff=Backoff(first=0.05, longest=0.2))
    dispatcher.start()
    for document in documents:
        dispatcher.submit(document, document["event"]["severity"])
    assert dispatcher.close(20)
    assert dispatcher.counters()["sinks"]["syslog"]["delivered"] == len(documents)


@pytest.mark.parametrize("transport", ["local", "unix", "udp", "tcp", "tls"])
def test_an_alert_and_a_hostile_one(rsyslog, sink, alert, eventually, transport):
    rsyslog.start()
    plain = alert(1)
    hostile = alert(2, "grep", HOSTILE, user={"name": HOSTILE}, container={"id": HOSTILE})

    send(sink(transport), plain, hostile)

    first, second = eventually(lambda: len(found := rsyslog.messages()) >= 2 and found)
    assert {key: first[key] for key in ("facility", "severity", "app", "parsed")} == {
        "facility": "16",
        "severity": "3",
        "app": "sensor",
        "parsed": "OK",
    }
    if transport != "local":  # which has neither
        assert first["kind"] == "alert"
        assert first["time"] == plain["@timestamp"]
    assert first["id"] == plain["event"]["id"]
    assert body(first) == plain
    assert second["id"] == hostile["event"]["id"]
    assert body(second)["process"]["args"][1] == HOSTILE.replace("\udcff", "\\xff")
    assert len(rsyslog.messages()) == 2


def body(message):
    return json.loads(message["message"].strip().removeprefix("@cee: "))


def test_a_long_argv_arrives_in_short_and_can_be_read(rsyslog, sink, alert, eventually):
    rsyslog.start()

    send(sink("tcp"), alert(1, "grep", "x" * 100_000, "aws_secret_access_key"))

    [message] = eventually(rsyslog.messages)
    assert message["parsed"] == "OK"
    assert "aws_secret_access_key" in message["message"]


def test_down_for_ten_thousand_alerts_then_up(rsyslog, sink, alert, eventually, tmp_path):
    made = sink("tcp")
    (tmp_path / "spool").mkdir()
    backoff = Backoff(first=0.05, longest=0.2)
    dispatcher = Dispatcher([made], spool=Spool(tmp_path / "spool", [made]), backoff=backoff)
    dispatcher.start()
    sent = []
    for number in range(10_000):
        document = alert(number)
        sent.append(document["event"]["id"])
        dispatcher.submit(document, 73)
        if number % 5000 == 0:
            eventually(lambda: not dispatcher.counters()["journal"]["queued"])
    assert dispatcher.counters()["sinks"]["syslog"]["delivered"] == 0

    rsyslog.start()
    eventually(lambda: dispatcher.counters()["sinks"]["syslog"]["delivered"] == 10_000, 60)
    assert dispatcher.close(10)

    eventually(lambda: len(rsyslog.messages()) >= 10_000)
    assert [each["id"] for each in rsyslog.messages()] == sent
