"""The webhook sink and Alertmanager's: what is posted, what an answer means, what is never logged."""

from __future__ import annotations

import json
import re
import socket
import threading

import pytest

from sensor.alerts.sinks.alertmanager import AlertmanagerSink
from sensor.alerts.sinks.formats import falcosidekick, slack
from sensor.alerts.sinks.http import HttpSink
from sensor.alerts.sinks.options import AlertmanagerOptions, HttpOptions, Secret
from sensor.alerts.sinks.protocol import DELIVERED, SinkError


@pytest.fixture
def sink(web):
    def make(**options):
        return HttpSink(HttpOptions(**{"url": f"{web.url}/hook", **options}), "sinks[0]")

    return make


@pytest.fixture
def manager(web):
    def make(**options):
        options = AlertmanagerOptions(**{"url": web.url, **options})
        return AlertmanagerSink(options, "sinks[0]")

    return make


def test_each_document_is_posted_over_one_connection(sink, web, alert, outgoing):
    documents = [alert(), alert("find")]

    assert sink().deliver([outgoing(each) for each in documents]) == DELIVERED

    assert web.bodies() == documents
    path, headers, _ = web.requests[0]
    assert path == "/hook"
    assert headers["Content-Type"] == "application/json"
    assert headers["User-Agent"].startswith("sensor/")


def test_a_batch_as_lines(sink, web, alert, outgoing):
    documents = [alert(), alert("find")]

    sink(format="ndjson").deliver([outgoing(each) for each in documents])

    [(_, headers, body)] = web.requests
    assert headers["Content-Type"] == "application/x-ndjson"
    assert [json.loads(line) for line in body.splitlines()] == documents


def test_a_secret_and_headers_are_sent_whatever_a_netrc_says(
    sink, web, alert, outgoing, tmp_path, monkeypatch
):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login wrong password wrong\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("SENSOR_TOKEN", "Bearer s3cret")
    made = sink(authorization=Secret(env="SENSOR_TOKEN"), headers={"X-Team": "a"})

    made.deliver([outgoing(alert())])

    headers = web.requests[0][1]
    assert (headers["Authorization"], headers["X-Team"]) == ("Bearer s3cret", "a")


def test_what_is_refused_for_good_and_what_is_tried_again(sink, web, alert, outgoing):
    batch = [outgoing(alert(entity_id=f"p{number}")) for number in range(5)]
    web.answers = [
        (200, {}, b""),
        (400, {}, b"no \x1b[31m such"),
        (200, {}, b""),
        (503, {"Retry-After": "7"}, b""),
    ]

    outcome = sink().deliver(batch)

    assert [item for item, _ in outcome.refused] == [batch[1]]
    assert outcome.refused[0][1] == f"{web.url}: HTTP 400: no \\x1b[31m such"
    assert outcome.retry == batch[3:]
    assert outcome.retry_after == 7
    assert len(web.requests) == 4


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 504])
def test_statuses_that_pass(sink, web, alert, outgoing, status):
    web.answers = [(status, {}, b"")]

    with pytest.raises(SinkError, match=f"HTTP {status}"):
        sink().deliver([outgoing(alert())])


def test_a_redirect_is_not_followed(sink, web, alert, outgoing):
    web.answers = [(302, {"Location": "http://192.0.2.1/"}, b"")]

    outcome = sink().deliver([outgoing(alert())])

    assert len(outcome.refused) == 1
    assert len(web.requests) == 1


def test_no_error_shows_the_address_which_may_be_a_secret(alert, outgoing, monkeypatch):
    closed = socket.create_server(("127.0.0.1", 0))
    port = closed.getsockname()[1]
    closed.close()
    monkeypatch.setenv("SENSOR_HOOK", f"http://user:pa55@127.0.0.1:{port}/services/T0/s3cret?k=v")
    made = HttpSink(HttpOptions(url=Secret(env="SENSOR_HOOK")), "sinks[0]")

    with pytest.raises(SinkError) as raised:
        made.deliver([outgoing(alert())])

    assert str(raised.value) == f"http://127.0.0.1:{port}: Connection refused"


def test_a_receiver_that_never_answers_runs_into_the_time_limit(alert, outgoing):
    deaf = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{deaf.getsockname()[1]}"

    with pytest.raises(SinkError, match=r"no answer within 0\.1 s"):
        HttpSink(HttpOptions(url=url, timeout=0.1), "k").deliver([outgoing(alert())])
    deaf.close()


def test_a_receiver_that_breaks_off_in_its_answer(alert, outgoing):
    breaking = socket.create_server(("127.0.0.1", 0))

    def answer():
        connection, _ = breaking.accept()
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 500 no\r\nContent-Length: 9\r\n\r\nshort")
        connection.close()

    threading.Thread(target=answer, daemon=True).start()
    url = f"http://127.0.0.1:{breaking.getsockname()[1]}"

    with pytest.raises(SinkError, match=url):
        HttpSink(HttpOptions(url=url, timeout=5), "k").deliver([outgoing(alert())])
    breaking.close()


def test_slack(alert, rule):
    body = slack(alert(rule=rule(severity="high", name="Keys & co")))

    [attachment] = body["attachments"]
    assert body["text"] == "HIGH Keys &amp; co"
    assert attachment["color"] == "#d9480f"
    fields = {each["title"]: each["value"].replace("\u2060", "") for each in attachment["fields"]}
    assert fields == {
        "Command": "```grep -r aws_secret_access_key /srv```",
        "Container": "web",
        "Image": "nginx:1.27",
        "User": "root",
        "Host": "node-1",
    }


def texts(value):
    if isinstance(value, dict):
        return [each for key in value for each in texts(value[key])]
    if isinstance(value, list):
        return [each for item in value for each in texts(item)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("form", ["ecs", "ndjson"])
def test_what_is_hostile_is_one_document_of_the_body(hostile, outgoing, sink, web, form):
    sink(format=form).deliver([outgoing(hostile)])

    [(_, _, body)] = web.requests
    assert body.rstrip(b"\n").decode().isprintable()
    [line] = body.splitlines()
    assert json.loads(line)["container"]["name"].startswith("a\nb\r\x00\x1b[2J")
    assert json.loads(line)["process"]["args"][1].endswith("\\xff")


def test_nothing_hostile_is_markup_in_a_chat(hostile, outgoing, sink, web):
    sink(format="slack").deliver([outgoing(hostile)])

    [body] = web.bodies()
    assert len(web.requests[0][2]) < 20_000
    for each in texts(body):
        assert each.replace("\u2060", "").isprintable()
        assert "<" not in each
        # A mention or a code mark is always followed by the mark that takes its meaning.
        inside = each.removeprefix("```").removesuffix("```")
        assert "`" not in inside.replace("`\u2060", "")
        if inside == each:
            assert not re.search(r"@(?!\u2060)", each)


def test_a_notice_in_a_chat():
    body = slack({"message": "5 lost", "rule": {"name": "n"}, "host": {"hostname": "h"}})

    assert body["attachments"][0]["text"] == "5 lost"


def test_falcosidekick(alert, hostile):
    body = falcosidekick(alert())

    assert body["priority"] == "Warning"
    assert body["rule"] == "AWS Credentials Searched For Inside A Container"
    assert body["time"] == "2026-08-21T12:00:00.123456Z"
    assert body["output"] == alert()["message"]
    assert body["output_fields"]["proc.cmdline"] == "grep -r aws_secret_access_key /srv"
    assert body["output_fields"]["container.id"] == "5f2b0c3c9f0d"
    assert body["tags"] == ["Domain: Container"]
    assert all(each.isprintable() for each in texts(falcosidekick(hostile)))
    assert falcosidekick({})["output"] == "-"


def test_alertmanager(manager, web, alert, outgoing):
    made = manager(labels={"team": "shop"}, resolve_after=60, generator_url="http://runbook")

    made.deliver([outgoing(alert())])

    [(path, _, _)] = web.requests
    assert path == "/api/v2/alerts"
    [[sent]] = web.bodies()
    assert sent["labels"] == {
        "alertname": "AWS Credentials Searched For Inside A Container",
        "rule_id": "aws-credentials-search",
        "severity": "medium",
        "host": "node-1",
        "container": "web",
        "image": "nginx:1.27",
        "job": "sensor",
        "team": "shop",
    }
    assert sent["startsAt"] == "2026-08-21T12:00:00.123456Z"
    assert sent["endsAt"] == "2026-08-21T12:01:00.123456Z"
    assert sent["annotations"]["command_line"] == "grep -r aws_secret_access_key /srv"
    assert sent["annotations"]["summary"] == alert()["message"]
    assert sent["generatorURL"] == "http://runbook"


def test_alertmanager_values_are_bounded_and_printable(manager, hostile, outgoing):
    sent = manager().alert(outgoing(hostile))

    for value in texts(sent):
        assert value.isprintable()
        assert len(value) < 3000


def test_alertmanager_finds_the_one_alert_it_refuses(manager, web, alert, outgoing):
    batch = [outgoing(alert(entity_id=f"p{number}")) for number in range(3)]
    web.answers = [(400, {}, b"all"), (200, {}, b""), (400, {}, b"this one"), (200, {}, b"")]

    outcome = manager().deliver(batch)

    assert [item for item, _ in outcome.refused] == [batch[1]]
    assert "this one" in outcome.refused[0][1]


def test_alertmanager_takes_a_document_without_a_time(manager, web, outgoing):
    manager().deliver([outgoing({"event": {"kind": "alert"}, "message": "m"})])

    assert web.bodies()[0][0]["labels"] == {
        "alertname": "sensor",
        "severity": "low",
        "job": "sensor",
    }
