"""A rule's alerts are limited per interval, and what was held back is said."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    first, more, others = alerts(100), alerts(20, "web", 100), alerts(8, "db", 200)

    assert offer(limiter, first + more + others, one, 1000.0) == first + others[:5]
    assert limiter.tick(1299.9) == []
    [summary] = limiter.tick(1300.0)

    assert summary["sensor"]["held_back"] == {
        "count": 23,
        "sent": 105,
        "interval": 300,
        "max_alerts": 100,
        "reserve": {"size": 100, "used": 5},
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


def test_a_loud_container_does_not_hide_the_first_alert_of_another(alerts, rule):
    limiter, one = Limiter(), rule(max_alerts=100)
    offer(limiter, alerts(500, "decoy"), one, 0.0)

    for number in range(46):
        [first, *_] = documents = alerts(500, f"attacked-{number}", 1000 * number)
        assert offer(limiter, documents, one, 1.0)[:1] == [first]


def test_the_less_of_the_reserve_is_left_the_less_a_container_gets_of_it(alerts, rule):
    limiter, one = Limiter(), rule(max_alerts=100)
    offer(limiter, alerts(100, "decoy"), one, 0.0)

    shares = [
        len(offer(limiter, alerts(9, f"c{number}", 100 * number), one, 0.0)) for number in range(60)
    ]

    assert [shares.count(each) for each in (5, 4, 3, 2, 1, 0)] == [4, 5, 6, 11, 20, 14]


def test_a_container_that_sent_before_the_maximum_was_reached_has_that_counted(alerts, rule):
    limiter, one = Limiter(), rule(max_alerts=100)
    offer(limiter, alerts(4, "web") + alerts(96, "decoy", 100), one, 0.0)

    assert len(offer(limiter, alerts(9, "web", 200), one, 0.0)) == 1


@pytest.mark.parametrize(
    ("max_alerts", "reserve", "sent"),
    [(1, None, 21), (30, None, 60), (1000, None, 1100), (100, 0, 100), (100, 7, 107), (0, 7, 0)],
)
def test_the_reserve_is_as_large_as_the_maximum_within_bounds_or_as_set(
    alerts, rule, max_alerts, reserve, sent
):
    limiter = Limiter(per_rule={"a": Limit(max_alerts=max_alerts, reserve=reserve)})
    decoys = alerts(1200, "decoy")
    others = [alerts(1, f"c{number}", 5000 + number)[0] for number in range(200)]

    assert len(offer(limiter, decoys + others, rule(id="a"), 0.0)) == sent


def test_a_reserve_for_one_rule_wins_over_that_for_all(alerts, rule):
    limiter = Limiter(everywhere=Limit(max_alerts=1, reserve=1), per_rule={"a": Limit(reserve=2)})
    documents = [alerts(1, f"c{number}", number)[0] for number in range(9)]

    assert len(offer(limiter, documents, rule(id="a"), 0.0)) == 3
    assert len(offer(limiter, documents, rule(id="b"), 0.0)) == 2


def test_host_and_unknown_place_have_shares_and_names_of_their_own(alert, rule):
    limiter, one = Limiter(), rule(max_alerts=2)

    def at(state, count):
        place = {"identity": {"state": state, "reason": "why"}}
        return [alert(entity_id=f"{state}{each}", container=place) for each in range(count)]

    host, unknown = at("host", 9), at("unknown", 9)

    assert offer(limiter, host + unknown, one, 0.0) == host[:2] + unknown[:2]
    [summary] = limiter.tick(300.0)
    assert summary["sensor"]["held_back"]["containers"] == [
        {"state": "host", "count": 7},
        {"state": "unknown", "count": 7},
    ]
    assert summary["message"].endswith("where: the host (7), an unknown place (7)")


@given(
    st.lists(st.integers(0, 40), max_size=400),
    st.integers(0, 60),
    st.none() | st.integers(0, 60),
)
def test_whatever_comes_the_sum_is_bounded_and_the_first_of_each_place_passes(
    alert, rule, places, max_alerts, reserve
):
    limit = Limit(max_alerts=max_alerts, reserve=reserve)
    limiter, one = Limiter(everywhere=limit), rule()
    size = min(max(max_alerts, 20), 100) if reserve is None else reserve
    sent: dict[int, int] = {}
    held = 0
    for number, place in enumerate(places):
        document = alert(entity_id=f"p{number}", container={"id": f"{place:064x}"})
        before = sum(sent.values())
        if limiter.offer(document, one, 0.0):
            sent[place] = sent.get(place, 0) + 1
        else:
            held += 1
            # Elastic's meaning: nothing is held back before the maximum.
            assert before >= max_alerts
            assert place in sent or before == max_alerts + size or max_alerts == 0
    assert sum(sent.values()) <= max_alerts + (size if max_alerts else 0)
    assert all(each <= max_alerts for each in sent.values())
    assert sum(sent.values()) + held == len(places)
    assert sum(each["sensor"]["held_back"]["count"] for each in limiter.flush(1.0)) == held


def test_the_memory_for_places_is_bounded(alerts, rule):
    limiter, one = Limiter(), rule(max_alerts=1_000_000)
    [document] = alerts(1)

    def fill(first):
        for number in range(first, first + 5000):
            limiter.offer(document | {"container": {"id": f"{number:064x}"}}, one, 0.0)

    fill(0)
    tracemalloc.start()
    fill(5000)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 100_000


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
    limiter, one = Limiter(everywhere=Limit(reserve=0)), rule(max_alerts=1)
    for number in range(200):
        offer(limiter, alerts(1, f"c{number}", number), one, 0.0)

    [summary] = limiter.tick(300.0)

    held = summary["sensor"]["held_back"]
    assert len(held["containers"]) == 50
    assert held["in_other_containers"] == 149
    assert summary["message"].endswith("and others")


def test_held_alerts_whose_updates_are_held_are_bounded(alerts, rule, monkeypatch):
    monkeypatch.setattr("sensor.alerts.limits._MAX_HELD_IDS", 3)
    limiter, one = Limiter(everywhere=Limit(reserve=0)), rule(max_alerts=1)
    documents = alerts(9)
    offer(limiter, documents, one, 0.0)

    assert list(limiter._held_ids) == [each["event"]["id"] for each in documents[-3:]]


def test_the_end_of_the_sensor_says_what_was_held_back(alerts, rule):
    limiter, one = Limiter(), rule(max_alerts=1)
    offer(limiter, alerts(3), one, 0.0)

    assert [each["sensor"]["held_back"]["count"] for each in limiter.flush(1.0)] == [2]
    assert limiter.flush(2.0) == []
