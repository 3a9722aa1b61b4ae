"""One action is one alert at once and one update at the end of its window."""

from __future__ import annotations

import copy
import gc
import tracemalloc

import pytest

from sensor.alerts.collapse import Collapser


@pytest.fixture
def feed(alert, rule):
    """Offers an exec's alert to a collapser; documents are given by process and parent."""

    def give(collapser, *args, now=0.0, of=None, **changes):
        return collapser.offer(alert(*args, **changes), of or rule(), now)

    return give


def test_a_wrapper_and_its_tool_are_one_alert_and_one_update(feed):
    collapser = Collapser(window=60)

    [first] = feed(collapser, "xargs", "grep", "key", entity_id="xargs")
    assert feed(collapser, "grep", "key", entity_id="grep", parent="xargs", now=0.1) == []
    assert collapser.tick(59.9) == []
    [update] = collapser.tick(60.0)

    assert "update_of" not in first["sensor"]
    assert update["sensor"]["update_of"] == first["event"]["id"]
    assert update["event"]["id"] == f"{first['event']['id']}-1"
    assert update["event"]["kind"] == "alert"
    collapsed = update["sensor"]["collapsed"]
    assert collapsed["count"] == 2
    assert collapsed["seen"] == [
        {"args": ["xargs", "grep", "key"], "count": 1},
        {"args": ["grep", "key"], "count": 1},
    ]
    assert update["message"].startswith(
        "AWS Credentials Searched For Inside A Container: 2 matching execs of one action, "
        "the first: xargs grep key in container web"
    )
    assert collapser.tick(9999.0) == []
    assert collapser.counters() == {"collapsed": 1, "actions": 0}


def test_a_process_that_execs_again_is_one_action(feed):
    collapser = Collapser()

    assert len(feed(collapser, "/bin/sh", "/usr/bin/egrep", "key", entity_id="p1")) == 1
    assert feed(collapser, "grep", "-E", "key", entity_id="p1") == []


def test_find_exec_grep_over_five_thousand_files(feed):
    collapser = Collapser()

    sent = feed(collapser, "find", "/srv", "-exec", "grep", "key", entity_id="find")
    for number in range(5000):
        sent += feed(
            collapser,
            "grep",
            "key",
            f"/srv/{number}",
            entity_id=f"g{number}",
            parent="find",
            timestamp=f"2026-08-21T12:00:{number // 250:02}.000000Z",
            now=number / 250,
        )
    [update] = collapser.tick(60.0)

    assert len(sent) == 1
    collapsed = update["sensor"]["collapsed"]
    assert (collapsed["count"], collapsed["new"]) == (5001, 5000)
    assert collapsed["distinct_args"] == 5001
    assert len(collapsed["seen"]) == 20
    assert collapsed["last"] == "2026-08-21T12:00:19.000000Z"
    assert update["event"]["end"] == update["@timestamp"] == collapsed["last"]
    assert update["event"]["start"] == collapsed["first"] == sent[0]["@timestamp"]


def test_distant_descendants_belong_to_the_action(feed):
    collapser = Collapser()
    feed(collapser, entity_id="sudo")

    deep = {"entity_id": "grep", "parent": "sh", "ancestors": ("timeout", "sudo")}

    assert feed(collapser, **deep) == []
    assert feed(collapser, entity_id="x", parent="y", ancestors=("grep",)) == []


@pytest.mark.parametrize(
    ("changes", "of"),
    [
        ({"entity_id": "p2"}, None),
        ({"container": {"id": "another"}}, None),
        ({}, "another-rule"),
        ({"entity_id": "p2", "parent": "shell"}, None),
    ],
)
def test_other_processes_containers_and_rules_are_other_actions(feed, rule, changes, of):
    collapser = Collapser()
    feed(collapser, entity_id="p1")

    sent = feed(collapser, **({"entity_id": "p1"} | changes), of=rule(id=of) if of else None)

    assert len(sent) == 1


def test_a_long_action_gives_one_update_per_window_and_never_a_second_first_alert(feed):
    collapser = Collapser(window=10)
    sent = feed(collapser, entity_id="find")
    for second in range(1, 35):
        sent += feed(collapser, entity_id=f"g{second}", parent="find", now=float(second))
    sent += collapser.tick(45.0)
    sent += collapser.tick(60.0)

    assert [each["sensor"].get("collapsed", {}).get("new") for each in sent] == [None, 9, 10, 10, 5]
    assert sent[-1]["sensor"]["collapsed"]["count"] == 35
    assert len({each["event"]["id"] for each in sent}) == 5


def test_after_a_quiet_window_the_same_process_alerts_again(feed):
    collapser = Collapser(window=10)
    feed(collapser, entity_id="p1", now=0.0)

    assert len(feed(collapser, entity_id="p1", now=10.0)) == 1


def test_an_update_that_is_on_its_way_does_not_change(feed):
    collapser = Collapser(window=10)
    [first] = feed(collapser, entity_id="p1")
    before = copy.deepcopy(first)
    feed(collapser, entity_id="p1", now=1.0)
    [update] = collapser.tick(10.0)
    sent = copy.deepcopy(update)

    feed(collapser, entity_id="p1", now=11.0)
    collapser.tick(20.0)

    assert update == sent
    assert first == before


def test_off_means_off(feed):
    collapser = Collapser(window=0)

    assert [len(feed(collapser, entity_id="p1")) for _ in range(3)] == [1, 1, 1]
    assert collapser.tick(1e9) == []


def test_a_document_without_a_process_passes(rule):
    document = {"event": {"id": "x"}}

    assert Collapser().offer(document, rule(), 0.0) == [document]


def test_hostile_argv_is_bounded_in_the_update(feed):
    collapser = Collapser()
    feed(collapser, entity_id="p1")
    feed(collapser, "grep", *["x" * 5000] * 1000, entity_id="p1")
    [update] = collapser.flush()

    seen = update["sensor"]["collapsed"]["seen"][1]
    assert len(seen["args"]) == 32
    assert seen["args_left_out"] == 969
    assert max(map(len, seen["args"])) < 600


def test_a_first_alert_with_a_huge_argv_leaves_whole_and_is_remembered_in_short(feed):
    collapser = Collapser()
    padding = "x" * 100_000
    [first] = feed(collapser, "grep", padding, "aws_secret_access_key", entity_id="p1")
    feed(collapser, entity_id="p1")
    [update] = collapser.flush()

    assert first["process"]["args"][1] == padding
    assert update["process"]["args"][2] == "aws_secret_access_key"
    assert update["sensor"]["args_shortened"] is True
    assert len(str(update)) < 20_000


def test_the_oldest_action_is_told_before_it_is_forgotten(feed, monkeypatch):
    monkeypatch.setattr("sensor.alerts.collapse._MAX_BYTES", 12_000)
    collapser = Collapser()
    feed(collapser, entity_id="p0")
    feed(collapser, entity_id="p0")
    sent = []
    while not sent or len(sent) == 1:
        sent = feed(collapser, entity_id=f"p{collapser.counters()['actions']}")

    update, alert = sent
    assert update["sensor"]["collapsed"]["count"] == 2
    assert update["process"]["entity_id"] == "p0"
    assert alert["process"]["entity_id"] == f"p{collapser.counters()['actions']}"
    assert len(collapser._by_process) == collapser.counters()["actions"]


@pytest.mark.parametrize(
    "hostile",
    [
        lambda number: {"args": ["grep", "key"]},
        lambda number: {"args": ["grep", "x" * 20_000, str(number)]},
        lambda number: {"args": ["grep", *map(str, range(300)), str(number)]},
        lambda number: {"container": {"id": "c", "labels": {"a": "x" * (1 << 20)}}},
        lambda number: {"args": ["grep", *["y" * 500] * 31, str(number)], "parent": "p0"},
        lambda number: {"args": ["grep", str(number)], "parent": f"p{number % 1000}"},
    ],
    ids=["many", "long", "arguments", "labels", "one-action", "many-actions"],
)
def test_what_is_remembered_is_bounded_in_bytes(feed, monkeypatch, hostile):
    monkeypatch.setattr("sensor.alerts.collapse._MAX_BYTES", 1 << 20)
    collapser = Collapser()
    count = 50 if "labels" in str(hostile(0)) else 2000
    tracemalloc.start()
    try:
        for number in range(count):
            changes = hostile(number)
            args = changes.pop("args", [])
            feed(collapser, *args, entity_id=f"p{number}", **changes)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert held < 3 << 20
    collapser.flush()
    assert collapser._bytes == 0


def test_an_update_has_what_was_learned_of_the_container_since(feed):
    collapser = Collapser()
    [first] = feed(collapser, entity_id="p1", container={"id": "c"})
    feed(collapser, entity_id="p1", container={"id": "c"})
    collapser.learn(first | {"container": {"id": "c", "name": "web"}})

    [update] = collapser.flush()

    assert update["container"]["name"] == "web"
    assert update["sensor"]["update_of"] == first["event"]["id"]


def test_members_are_bounded_and_forgotten_with_their_action(feed):
    collapser = Collapser()
    feed(collapser, entity_id="find")
    for number in range(2000):
        feed(collapser, entity_id=f"g{number}", parent="find")

    assert len(collapser._by_process) == 1024
    assert len(collapser.flush()) == 1
    assert collapser._by_process == {}


def test_a_clock_that_was_set_back_does_not_keep_an_action_open(feed):
    collapser = Collapser(window=10)
    feed(collapser, entity_id="p1", now=1e6)
    feed(collapser, entity_id="p1", now=1e6)

    assert len(collapser.tick(1000.0)) == 1
