"""A rule's alerts are limited per interval, and what was held back is said."""

from __future__ import annotations

import pytest

from sensor.alerts.limits import Limit, Limiter


def offer(limiter, documents, rule, now):
    return [each for document in documents for each in limiter.offer(document, rule, now)]


@pytest.fixture
def alerts(alert):
    def make(count, container="web", start=0):
        return [
            alert(
                entity_id=f"p{start + number}", container={"id": container * 20, "name": container}
            )
            for number in range(count)
        ]

    return make


def test_alerts_up_to_the_maximum_pass_and_the_rest_is_summed_up(alerts, rule):
    limiter, one = Limiter(), rule(interval=300, max_alerts=100)
    documents = alerts(100) + alerts(20, "web", 100) + alerts(3, "db", 200)

    assert offer(limiter, documents, one, 1000.0) == documents[:100]
    assert limiter.tick(1299.9) == []
    [summary] = limiter.tick(1300.0)

    assert summary["sensor"]["held_back"] == {
        "count": 23,
        "sent": 100,
        "interval": 300,
        "max_alerts": 100,
        "containers": [
            {"id": "web" * 20, "name": "web", "count": 20},
            {"id": "db" * 20, "name": "db", "count": 3},
        ],
        "in_other_containers": 0,
    }
    assert summary["message"] == (
        "AWS Credentials Searched For Inside A Container: 23 more alerts were held back, "
        "beyond 100 in 300 s; where: web (20), db (3)"
    )
    assert summary["rule"]["id"] == one.id
    assert summary["event"]["severity"] == 47
    assert limiter.counters() == {one.id: 23}
    assert limiter.tick(9999.0) == []


def test_a_new_interval_starts_with_the_first_alert_after_the_old_one(alerts, rule):
    limiter, one = Limiter(), rule(interval=10, max_alerts=1)
    first, held, later = alerts(3)

    assert offer(limiter, [first, held], one, 0.0) == [first]
    summary, sent = limiter.offer(later, one, 10.0)

    assert summary["sensor"]["held_back"]["count"] == 1
    assert sent == later


def test_rules_have_limits_of_their_own(alerts, rule):
    limiter = Limiter(everywhere=Limit(max_alerts=2), per_rule={"c": Limit(max_alerts=1)})
    documents = alerts(5)

    sent = {
        each: len(offer(limiter, documents, rule(id=each, max_alerts=4), 0.0)) for each in "ac"
    } | {"own": len(offer(Limiter(), documents, rule(id="own", max_alerts=4), 0.0))}

    assert sent == {"a": 2, "c": 1, "own": 4}


def test_the_interval_can_be_set_too(alerts, rule):
    limiter = Limiter(per_rule={"a": Limit(interval=1.0)})
    documents = alerts(2)
    one = rule(id="a", max_alerts=1)

    assert offer(limiter, documents, one, 0.0) == documents[:1]
    assert len(limiter.tick(1.0)) == 1


def test_a_maximum_of_none_at_all_holds_everything_back(alerts, rule):
    limiter = Limiter(per_rule={"a": Limit(max_alerts=0)})

    assert offer(limiter, alerts(3), rule(id="a"), 0.0) == []


def test_an_update_goes_the_way_of_its_alert(alerts, rule):
    limiter, one = Limiter(), rule(max_alerts=1)
    sent, held = alerts(2)

    def update(document, new):
        sensor = {"update_of": document["event"]["id"], "collapsed": {"count": 9, "new": new}}
        return document | {"event": document["event"] | {"id": "u"}, "sensor": sensor}

    offer(limiter, [sent, held], one, 0.0)

    assert limiter.update(update(sent, 8), 1.0) == [update(sent, 8)]
    assert limiter.update(update(held, 8), 1.0) == []
    [summary] = limiter.tick(300.0)
    assert summary["sensor"]["held_back"]["count"] == 9


def test_an_update_of_a_held_alert_is_held_in_the_next_interval_too(alerts, rule):
    limiter, one = Limiter(), rule(max_alerts=1)
    sent, held = alerts(2)
    offer(limiter, [sent, held], one, 0.0)
    limiter.tick(300.0)
    late = held | {"sensor": {"update_of": held["event"]["id"], "collapsed": {"new": 2}}}

    assert limiter.update(late, 301.0) == []
    assert limiter.tick(601.0)[0]["sensor"]["held_back"]["count"] == 2


def test_a_clock_that_was_set_back_does_not_hold_a_rule_back(alerts, rule):
    limiter, one = Limiter(), rule(interval=10, max_alerts=1)
    documents = alerts(3)
    offer(limiter, documents[:2], one, 1_000_000.0)

    assert limiter.offer(documents[2], one, 1000.0)[-1] == documents[2]


def test_containers_are_bounded(alerts, rule):
    limiter, one = Limiter(), rule(max_alerts=1)
    for number in range(200):
        offer(limiter, alerts(1, f"c{number}", number), one, 0.0)

    [summary] = limiter.tick(300.0)

    held = summary["sensor"]["held_back"]
    assert len(held["containers"]) == 50
    assert held["in_other_containers"] == 149
    assert summary["message"].endswith("and others")


def test_the_end_of_the_sensor_says_what_was_held_back(alerts, rule):
    limiter, one = Limiter(), rule(max_alerts=1)
    offer(limiter, alerts(3), one, 0.0)

    assert [each["sensor"]["held_back"]["count"] for each in limiter.flush(1.0)] == [2]
    assert limiter.flush(2.0) == []
