"""What was written is found again: by its id, by what is asked for, by what recurs, by what is new."""

from __future__ import annotations

import json
import os
import sqlite3

import pytest
from stored import START_S, make_alert, make_container, make_rule, outgoing

from sensor.alerts.alert import message
from sensor.alerts.collapse import Collapser
from sensor.alerts.notice import notice
from sensor.store.errors import AlertNotFoundError, StoreError, StoreMissingError
from sensor.store.filter import Filter
from sensor.store.store import Store
from sensor.store.writer import StoreWriter

DB = "63ab" * 16


@pytest.fixture
def path(tmp_path):
    return tmp_path / "alerts.db"


@pytest.fixture
def writer(path):
    with StoreWriter(path, clock=lambda: START_S + 1000.0) as writer:
        yield writer


@pytest.fixture
def store(writer, path):
    with Store.open(path) as store:
        yield store


def write(writer, *documents):
    writer.write([outgoing(each) for each in documents])
    return [each["event"]["id"] for each in documents]


def found(store, limit=100, **filters):
    return [each.id for each in store.alerts(Filter(**filters), limit=limit)]


def test_an_alert_is_read_as_it_was_written(writer, store):
    document = make_alert(0, "grep", "-r", "caf\udce9\u202e\x1b[2J", "/srv")
    [identifier] = write(writer, document)

    assert store.alert(identifier) == json.loads(outgoing(document).payload)
    assert store.alert(identifier[:8]) == store.alert(identifier)


def test_a_summary_says_what_a_list_shows(writer, store):
    write(writer, make_alert(7, uid=0))

    [summary] = store.alerts()
    assert summary.kind == "alert"
    assert summary.time == START_S + 7
    assert (summary.severity, summary.risk_score) == (47, 47)
    assert (summary.rule_id, summary.rule_name) == ("keys-searched", "The rule keys-searched")
    assert (summary.container_name, summary.image) == ("web", "shop/web:1.4")
    assert (summary.user_id, summary.user_name) == ("0", "root")
    assert summary.command == "grep -r needle /srv"
    assert (summary.execs, summary.updates) == (1, 0)


def test_an_id_that_is_unknown_or_ambiguous_is_said(writer, store):
    first, second = make_alert(0), make_alert(1)
    first["event"]["id"], second["event"]["id"] = "ab12", "ab34"
    write(writer, first, second)

    assert store.find("ab1").id == "ab12"
    with pytest.raises(AlertNotFoundError, match="several alerts begin with 'ab': ab12, ab34"):
        store.alert("ab")
    with pytest.raises(AlertNotFoundError, match="no alert"):
        store.alert("ff")
    with pytest.raises(AlertNotFoundError):
        store.alert("")
    with pytest.raises(AlertNotFoundError):
        store.alert("ab%")


def test_filters(writer, store):
    root_web, user_web, root_db, other_rule = write(
        writer,
        make_alert(0),
        make_alert(10, uid=1000),
        make_alert(20, container=make_container("db", DB, "postgres", "16")),
        make_alert(30, rule=make_rule("other", severity="high")),
    )

    assert found(store) == [other_rule, root_db, user_web, root_web]
    assert found(store, limit=2) == [other_rule, root_db]
    assert found(store, rule="other") == [other_rule]
    assert found(store, rule="oth") == []
    assert found(store, container="db") == [root_db]
    assert found(store, container=DB) == [root_db]
    assert found(store, container=DB[:12]) == [root_db]
    assert found(store, container="5f2b", rule="other") == [other_rule]
    assert found(store, user="1000") == [user_web]
    assert found(store, user="root", container="web") == [other_rule, root_web]
    assert found(store, image="postgres") == [root_db]
    assert found(store, image="postgres:16") == [root_db]
    assert found(store, image="postgres:15") == []
    assert found(store, image="registry:5000/postgres") == []
    assert found(store, minimum_severity=73) == [other_rule]
    assert found(store, since=START_S + 10, until=START_S + 30) == [root_db, user_web]
    assert store.count(Filter(container="web")) == 3


def test_a_name_that_looks_like_an_id_is_a_name_first(writer, store):
    named, other = write(
        writer,
        make_alert(0, container=make_container("63ab", "cc" * 32)),
        make_alert(1, container=make_container("db", DB)),
    )

    assert found(store, container="63ab") == [named]
    assert found(store, container="63ab6") == [other]


def test_the_beginning_of_two_containers_ids_finds_both(writer, store):
    write(
        writer,
        make_alert(0, container=make_container("a", "63ab" + "0" * 60)),
        make_alert(1, container=make_container("b", "63ab" + "1" * 60)),
        make_alert(2, container=make_container("c", "63ac" + "1" * 60)),
    )

    assert len(found(store, container="63ab")) == 2
    assert len(found(store, container="63ab", rule="keys-searched")) == 2


def test_pages_follow_each_other_without_gap_or_double(writer, store):
    # Several within one microsecond.
    identifiers = write(writer, *(make_alert(number // 3, pid=number + 2) for number in range(20)))

    pages, last = [], None
    while page := store.alerts(limit=7, before=last):
        pages += [each.id for each in page]
        last = page[-1]
    assert sorted(pages) == sorted(identifiers)
    assert len(pages) == len(set(pages))


def test_the_sensors_own_words_are_notices_and_what_is_hidden_is_asked_for(writer, store):
    word = notice("kernel_loss", "12 execs lost", severity="high", time=START_S)
    hidden = make_alert(5)
    hidden["event"] = hidden["event"] | {"kind": "event"}
    hidden["rule"] = hidden["rule"] | {"exception": {"id": "nightly"}}
    bare_event = make_alert(6)
    bare_event["event"] = bare_event["event"] | {"kind": "event", "id": "bare"}
    alert = make_alert(9)
    write(writer, word, hidden, bare_event, alert)

    assert [each.kind for each in store.alerts()] == ["alert", "notice"]
    assert store.alerts(Filter(alerts=False))[0].command == "12 execs lost"
    [kept] = store.alerts(Filter(alerts=False, notices=False, hidden=True))
    assert (kept.kind, kept.rule_id) == ("hidden", "keys-searched")
    assert store.alert(kept.id)["rule"]["exception"]["id"] == "nightly"
    assert store.count(Filter(hidden=True)) == 3


def test_a_container_that_became_known_later_is_in_the_alert_and_in_the_filters(writer, store):
    alert = make_alert(0, container={"id": DB, "resolution": {"state": "pending"}})
    [identifier] = write(writer, alert)
    place = {"container": make_container("db", DB, "postgres", "16")}
    # As AlertOutlet.update sends it.
    update = {**alert, **place}
    update["sensor"] = {**alert["sensor"], "update_of": identifier}
    update["message"] = message((update,), "The rule")
    write(writer, update, update)

    assert found(store, container="db") == found(store, image="postgres:16") == [identifier]
    document = store.alert(identifier)
    assert document["container"]["name"] == "db"
    assert "in container db" in document["message"]
    assert document["process"] == alert["process"]
    assert "update_of" not in document["sensor"]
    [kept] = store.updates(identifier)
    assert kept.change["container"] == place["container"]
    assert kept.received == START_S + 1000.0
    assert store.find(identifier).updates == 1


def test_what_was_collapsed_is_counted_in_the_alert_and_keeps_its_container(writer, store):
    collapser, rule = Collapser(window=60), make_rule()
    alert = make_alert(0, container={"id": DB})
    again = make_alert(5)
    again["process"]["entity_id"] = alert["process"]["entity_id"]
    again["container"] = alert["container"]
    assert collapser.offer(alert, rule, 0) == [alert]
    assert collapser.offer(again, rule, 5) == []
    [collapsed] = collapser.tick(61)
    named = {**alert, "container": make_container("db", DB)}
    named["sensor"] = {**alert["sensor"], "update_of": alert["event"]["id"]}
    [identifier] = write(writer, alert)

    write(writer, named, collapsed, collapsed)

    document = store.alert(identifier)
    assert document["event"]["id"] == identifier
    assert document["@timestamp"] == alert["@timestamp"]
    assert document["sensor"]["collapsed"]["count"] == 2
    assert document["container"]["name"] == "db"
    summary = store.find(identifier)
    assert (summary.execs, summary.updates, summary.container_name) == (2, 2, "db")
    assert [each.number for each in store.updates(identifier)] == [1, 2]


def test_an_update_of_an_alert_that_is_gone_brings_the_alert_back(writer, store):
    collapser, rule = Collapser(window=60), make_rule()
    alert = make_alert(0)
    collapser.offer(alert, rule, 0)
    collapser.offer(alert, rule, 5)
    write(writer, *collapser.flush())

    document = store.alert(alert["event"]["id"])
    assert document["sensor"]["collapsed"]["count"] == 2
    assert document["process"] == alert["process"]


def test_similar_counts_the_exact_action_and_its_hours(writer, store):
    day, hour = 86_400, 3_600
    for number in range(4):
        write(
            writer, make_alert(number * day, "grep", "-r", f"run-{number}", "/srv", pid=number + 2)
        )
    write(
        writer,
        make_alert(hour, "grep", "-r", "run-9", "/srv"),
        make_alert(0, "grep", "-r", "other", "/srv"),
        make_alert(0, "grep", "-r", "run-1", "/srv", uid=1000),
        make_alert(0, "grep", "-r", "run-1", "/srv", rule=make_rule("other")),
        make_alert(
            0, "grep", "-r", "run-1", "/srv", container=make_container("db", DB, "postgres")
        ),
    )
    asked = make_alert(99, "grep", "-r", "run-77", "/srv")

    similar = store.similar(asked)

    assert (similar.alerts, similar.hidden, similar.execs) == (5, 0, 5)
    assert (similar.first, similar.last) == (START_S, START_S + 3 * day)
    assert {hour: count for hour, count in enumerate(similar.hours_utc) if count} == {22: 4, 23: 1}
    assert len(found(store, action=similar.action)) == 5


def test_similar_to_none_is_none(store):
    similar = store.similar(make_alert(0))

    assert (similar.alerts, similar.first, sum(similar.hours_utc)) == (0, 0, 0)


def test_what_recurs_and_which_rules_are_loud(writer, store):
    nightly = [make_alert(number, "scan", "/srv", pid=number + 2) for number in range(3)]
    write(writer, *nightly, make_alert(50, rule=make_rule("other")))

    recurring = store.recurring()
    assert [(each.alerts, each.example.command) for each in recurring] == [
        (3, "scan /srv"),
        (1, "grep -r needle /srv"),
    ]
    assert (recurring[0].first, recurring[0].last) == (START_S, START_S + 2)
    assert [(each.alerts, each.example.rule_id) for each in store.rules()] == [
        (3, "keys-searched"),
        (1, "other"),
    ]
    assert [each.alerts for each in store.recurring(since=START_S + 2, limit=1)] == [1]


def test_what_changed_is_told_in_order(writer, store):
    before, version = store.position().change, store.version()
    first, second = write(writer, make_alert(5), make_alert(1))

    assert store.version() != version
    new = store.changed_after(before)
    assert [each.id for each in new] == [first, second]
    update = make_alert(5)
    update["sensor"] = update["sensor"] | {"update_of": first}
    write(writer, update)
    assert [each.id for each in store.changed_after(new[-1].change)] == [first]
    assert store.position().change == store.find(first).change


def test_no_store_is_said(tmp_path, path):
    with pytest.raises(StoreMissingError, match="there is no store"):
        Store.open(path)
    with pytest.raises(StoreMissingError, match="Is a directory"):
        Store.open(tmp_path)
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match="not a database"):
        Store.open(path)
    path.write_bytes(b"")
    with Store.open(path) as store, pytest.raises(StoreMissingError, match="still empty"):
        store.alerts()


@pytest.mark.skipif(os.geteuid() != 0, reason="two users are needed")
def test_root_reads_the_store_of_another_user_without_taking_its_files(path):
    """Not even those that SQLite makes beside it while it is read."""
    with StoreWriter(path) as writer:
        [identifier] = write(writer, make_alert(0))
    for file in path.parent.iterdir():
        os.chown(file, 65534, 65534)

    with Store.open(path) as store:
        assert store.find(identifier).id == identifier
        owners = {file.name: file.stat().st_uid for file in path.parent.iterdir()}
    assert set(owners.values()) == {65534}
    assert "alerts.db-wal" in owners


def test_a_reader_changes_nothing(writer, store):
    with pytest.raises(sqlite3.OperationalError):
        store._connection.execute("DELETE FROM alert")


def test_texts_of_any_length_are_bounded_and_still_found(writer, store):
    long = "x" * 5000
    alert = make_alert(0, long, container=make_container(long, DB, long, long), name=long)
    [identifier] = write(writer, alert)

    summary = store.find(identifier)
    assert len(summary.container_name) == len(summary.image) == 256
    assert len(summary.command) < 400
    assert found(store, container=long) == [identifier]
    assert found(store, image=long) == [identifier]
