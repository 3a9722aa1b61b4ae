"""Alerts through the spool and the official client into a server that keeps what it is given."""

from __future__ import annotations

import copy
import time

import pytest
from elastic_server import ElasticServer

from sensor.alerts.dispatch import Dispatcher
from sensor.alerts.sinks.options import ElasticsearchOptions
from sensor.alerts.spool import Spool
from sensor.alerts.worker import Backoff

elasticsearch = pytest.importorskip(
    "elasticsearch", reason="the extra elasticsearch is not installed"
)
from sensor.alerts.sinks.elasticsearch import ElasticsearchSink, template  # noqa: E402

STREAM = "logs-sensor.alerts-default"
FAST = Backoff(first=0.01, longest=0.05)


def until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)


@pytest.fixture
def server():
    served = ElasticServer()
    yield served
    served.close()


@pytest.fixture
def deliver(server, tmp_path):
    """Sends documents through a spool; gives the sink's counters when all have been dealt with."""
    (tmp_path / "spool").mkdir()

    def send(*documents, meanwhile=lambda: None, **options):
        options = {"install_templates": True, "events": True, **options}
        sink = ElasticsearchSink(ElasticsearchOptions(urls=[server.url], **options), "sinks[0]")
        dispatcher = Dispatcher([sink], spool=Spool(tmp_path / "spool", [sink]), backoff=FAST)
        dispatcher.start()
        for document in documents:
            dispatcher.submit(document, document["event"].get("severity", 0))
        meanwhile()
        until(lambda: not dispatcher.counters()["journal"]["queued"])
        until(lambda: not dispatcher.counters()["spool"]["behind"]["elasticsearch"])
        assert dispatcher.close(10)
        return dispatcher.counters()["sinks"]["elasticsearch"]

    return send


def test_what_arrives_can_be_read_with_the_official_client(server, deliver, alert, document):
    one = alert()
    event = document()

    assert deliver(one, event)["delivered"] == 2

    client = elasticsearch.Elasticsearch(server.url)
    [hit] = client.search(index=STREAM)["hits"]["hits"]
    assert (hit["_id"], hit["_source"]) == (one["event"]["id"], one)
    [hit] = client.search(index="logs-cloud_defend.process-default")["hits"]["hits"]
    assert hit["_source"]["process"] == event["process"]
    client.close()


def test_down_and_up_again_and_answers_that_are_lost_none_is_there_twice(server, deliver, alert):
    documents = [alert(entity_id=f"p{number}") for number in range(1_000)]
    server.down = True

    def trouble():
        server.unsure = True
        server.down = False
        until(lambda: len(server.ids(STREAM)) > 100)
        server.unsure = False

    counters = deliver(*documents, meanwhile=trouble)

    assert server.ids(STREAM) == [each["event"]["id"] for each in documents]
    assert (counters["delivered"], counters["refused"], counters["dropped"]) == (1_000, 0, 0)


def labelled(alert, number, labels):
    made = copy.deepcopy(alert(entity_id=f"p{number}"))
    made["container"]["labels"] = labels
    return made


def test_labels_with_dots_are_no_conflict_and_a_long_one_is_no_refusal(server, deliver, alert):
    documents = [
        labelled(alert, number, labels)
        for number, labels in enumerate(
            [
                {"com.a": "x"},
                {"com.a.b": "y"},
                {"com": "z"},
                {"a": "x" * 40_000},
            ]
        )
    ]

    counters = deliver(*documents)

    assert (counters["delivered"], counters["refused"]) == (4, 0)
    assert [each["container"]["labels"] for each in server.streams[STREAM].values()] == [
        each["container"]["labels"] for each in documents
    ]


def test_a_label_whose_name_is_too_long_is_no_refusal(server, deliver, alert):
    assert deliver(labelled(alert, 1, {"ä" * 40_000: "x", "a": "y"}))["delivered"] == 1

    [source] = server.streams[STREAM].values()
    name, plain = source["container"]["labels"]
    assert plain == "a"
    assert name.startswith("ä" * 100)
    assert len(name) < 1200


def test_without_the_template_such_labels_would_be_refused_and_the_others_arrive(
    server, deliver, alert
):
    """What the template is for; and a refusal is counted and costs nobody else."""
    bare = template("sensor.alerts")
    del bare["template"]["mappings"]["properties"]["container"]["properties"]["labels"]
    server.templates["by-hand"] = bare
    documents = [
        labelled(alert, number, labels)
        for number, labels in enumerate([{"com.a": "x"}, {"com.a.b": "y"}, {"com.a": "z"}])
    ]

    counters = deliver(*documents, install_templates=False)

    assert (counters["delivered"], counters["refused"]) == (2, 1)
    assert server.ids(STREAM) == [documents[0]["event"]["id"], documents[2]["event"]["id"]]


def test_what_is_hostile_arrives_whole(server, deliver, hostile):
    assert deliver(hostile)["delivered"] == 1

    [source] = server.streams[STREAM].values()
    assert source["container"]["name"].startswith("a\nb\r\x00\x1b[2J")
    # A flattened field takes no NUL in a key, and the document would be refused for it.
    [(key, value)] = source["container"]["labels"].items()
    assert key.startswith("a\nb\r\\x00\x1b[2J")
    assert len(value) == 1 << 20
