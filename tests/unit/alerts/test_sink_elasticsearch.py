"""The Elasticsearch sink, with the official client, against a server that keeps documents by id."""

from __future__ import annotations

import json

import pytest

from sensor.alerts.sinks.options import ElasticsearchOptions, Secret
from sensor.alerts.sinks.protocol import DELIVERED, Outcome, SinkError
from sensor.errors import ConfigurationError

elasticsearch = pytest.importorskip(
    "elasticsearch", reason="the extra elasticsearch is not installed"
)
from sensor.alerts.sinks.elasticsearch import ElasticsearchSink, template  # noqa: E402

PRODUCT = {"X-Elastic-Product": "Elasticsearch", "Content-Type": "application/json"}


@pytest.fixture
def make(web):
    def sink(**options):
        return ElasticsearchSink(ElasticsearchOptions(urls=[web.url], **options), "sinks[0]")

    return sink


def items(*statuses, error=None):
    body = {
        "took": 1,
        "errors": True,
        "items": [{"create": {"status": status} | ({"error": error} if error else {})} for status in statuses],
    }  # fmt: skip
    return 200, PRODUCT, json.dumps(body).encode()


def lines(request):
    return [json.loads(line) for line in request[2].splitlines()]


def test_alerts_and_events_are_created_by_id_in_their_data_streams(
    make, web, alert, document, outgoing
):
    web.answers = [items(201, 201)]

    assert (
        make(namespace="prod", events=True).deliver([outgoing(alert()), outgoing(document())])
        == DELIVERED
    )

    [request] = web.requests
    assert request[0] == "/_bulk"
    first, sent, second, event = lines(request)
    assert first == {"create": {"_index": "logs-sensor.alerts-prod", "_id": alert()["event"]["id"]}}
    assert second == {
        "create": {"_index": "logs-cloud_defend.process-prod", "_id": document()["event"]["id"]}
    }
    stream = {"type": "logs", "dataset": "sensor.alerts", "namespace": "prod"}
    assert sent == alert() | {"data_stream": stream}
    assert event["data_stream"]["dataset"] == "cloud_defend.process"
    assert event["process"] == document()["process"]


def test_a_heartbeat_has_a_stream_of_its_own(make, web, alert, outgoing):
    web.answers = [items(201)]
    beat = alert()
    beat["event"]["kind"] = "metric"

    make(events=True).deliver([outgoing(beat)])

    action, sent = lines(web.requests[0])
    assert action["create"]["_index"] == "logs-sensor.heartbeat-default"
    assert sent["data_stream"]["dataset"] == "sensor.heartbeat"


def test_what_is_there_already_has_arrived(make, web, alert, outgoing):
    web.answers = [items(409)]

    assert make().deliver([outgoing(alert())]) == DELIVERED


def test_what_is_refused_and_what_is_tried_again(make, web, alert, outgoing):
    batch = [outgoing(alert(entity_id=f"p{number}")) for number in range(3)]
    web.answers = [items(201, 400, 429, error={"type": "x", "reason": "failed to \x1b parse"})]

    outcome = make().deliver(batch)

    assert outcome.refused == ((batch[1], "400: failed to \\x1b parse"),)
    assert outcome.retry == (batch[2],)


@pytest.mark.parametrize("status", [401, 403, 404, 429, 500, 503])
def test_an_error_of_the_whole_request_is_tried_again(make, web, alert, outgoing, status):
    web.answers = [(status, PRODUCT, b'{"error":{"type":"security_exception"},"status":1}')]

    with pytest.raises(SinkError, match=f"HTTP {status}"):
        make().deliver([outgoing(alert())])


def test_a_request_that_is_too_large_is_halved(make, web, alert, outgoing):
    batch = [outgoing(alert(entity_id=f"p{number}")) for number in range(3)]
    large = (413, PRODUCT, b"{}")
    web.answers = [large, items(201), large, large, items(201)]

    outcome = make().deliver(batch)

    assert [item for item, _ in outcome.refused] == [batch[1]]
    assert not outcome.retry


def test_what_is_no_elasticsearch_and_nobody_at_all(make, web, alert, outgoing):
    web.answers = [(200, {"Content-Type": "application/json"}, b"{}")]
    with pytest.raises(SinkError, match="the server is not Elasticsearch"):
        make().deliver([outgoing(alert())])
    web.close()
    with pytest.raises(SinkError, match="ConnectionError"):
        make().deliver([outgoing(alert())])
    web.server.server_close = web.server.shutdown = lambda: None


def test_templates_are_installed_once_on_request(make, web, alert, outgoing):
    sink = make(install_templates=True, events=True)
    acknowledged = (200, PRODUCT, b'{"acknowledged":true}')
    web.answers = [acknowledged, acknowledged, acknowledged, items(201), items(201)]

    sink.deliver([outgoing(alert())])
    sink.deliver([outgoing(alert())])

    assert [path for path, _, _ in web.requests] == [
        "/_index_template/logs-sensor.alerts",
        "/_index_template/logs-cloud_defend.process",
        "/_index_template/logs-sensor.heartbeat",
        "/_bulk",
        "/_bulk",
    ]
    assert json.loads(web.requests[0][2]) == template("sensor.alerts")


def test_credentials(make, web, alert, outgoing, monkeypatch):
    monkeypatch.setenv("SENSOR_KEY", "a2V5")
    web.answers = [items(201), items(201)]

    make(api_key=Secret(env="SENSOR_KEY")).deliver([outgoing(alert())])
    make(username="u", password=Secret(env="SENSOR_KEY")).deliver([outgoing(alert())])

    sent = [
        {name.lower(): value for name, value in each.items()}["authorization"]
        for _, each, _ in web.requests
    ]
    assert sent[0] == "ApiKey a2V5"
    assert sent[1].startswith("Basic ")
    with pytest.raises(ConfigurationError, match="either"):
        make(api_key=Secret(env="SENSOR_KEY"), username="u", password=Secret(env="SENSOR_KEY"))


def test_hostile_values_stay_in_their_document(make, web, hostile, outgoing):
    web.answers = [items(201)]

    make().deliver([outgoing(hostile)])

    action, sent = lines(web.requests[0])
    assert sent["container"]["name"].startswith("a\nb\r\x00")
    assert sent["container"]["name"].endswith("\\xff")
    assert action["create"]["_id"] == hostile["event"]["id"]


def test_much_at_once_is_sent_in_parts_that_a_server_takes(make, web, alert, outgoing):
    labels = {"id": "c", "labels": {"a": "x" * (3 << 20)}}
    batch = [outgoing(alert(entity_id=f"p{number}", container=labels)) for number in range(4)]
    web.answers = [items(201, 201), items(201, 201)]

    assert make().deliver(batch) == Outcome(refused=[], retry=[])

    assert [len(lines(request)) for request in web.requests] == [4, 4]


def fields(properties, above=""):
    for name, mapping in properties.items():
        yield f"{above}{name}", mapping
        yield from fields(mapping.get("properties", {}), f"{above}{name}.")


@pytest.mark.parametrize("dataset", ["sensor.alerts", "cloud_defend.process"])
def test_no_label_is_a_conflict_and_no_value_too_long_for_the_index(dataset):
    mappings = dict(fields(template(dataset)["template"]["mappings"]["properties"]))

    assert mappings["container.labels"]["type"] == "flattened"
    for name, mapping in mappings.items():
        if mapping.get("type") in ("keyword", "flattened"):
            assert mapping["ignore_above"] < 32766 / 4, name
