"""What becomes of matches: each is hidden, counted into an earlier one, held back, or sent."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from sensor.alerts.collapse import Collapser
from sensor.alerts.exceptions import Exceptions, load_exceptions
from sensor.alerts.limits import Limit, Limiter
from sensor.outlet import AlertOutlet
from sensor.rules.rule import Rule

RULE = Rule(
    id="a-rule",
    name="A rule",
    query_text="process where true",
    path="rule.yml",
    format="yaml",
    severity="high",
)
AUDIT = {
    "id": "audit",
    "rules": "a-rule",
    "executable": "/usr/bin/audit",
    "reason": "on purpose",
    "owner": "us",
    "expires": "never",
    "record": True,
}


class Dispatched:
    """In the dispatcher's place: keeps what is submitted."""

    def __init__(self) -> None:
        self.documents: list[dict[str, Any]] = []

    def submit(self, document: dict[str, Any], severity: int) -> None:
        assert severity == (document["event"].get("severity") or 0)
        self.documents.append(document)

    def tick(self) -> None:
        """There is nothing to be told."""


class Feed:
    """An outlet with a clock of the test's, fed with execs."""

    def __init__(self, *, window: float = 60, exceptions: Exceptions | None = None) -> None:
        self.now = 1_800_000_000.0
        self.dispatched = Dispatched()
        self.outlet = AlertOutlet(
            self.dispatched,  # type: ignore[arg-type]
            exceptions or Exceptions(),
            Collapser(window=window),
            Limiter(everywhere=Limit(interval=300, max_alerts=2)),
            clock=lambda: self.now,
        )
        self._numbers = itertools.count()

    def exec(self, entity_id: str = "", parent: str = "shell", **process: Any) -> Any:
        number = next(self._numbers)
        document = {
            "@timestamp": f"2027-01-15T08:00:00.{number:06}Z",
            "event": {"id": f"e{number}", "kind": "event", "module": "cloud_defend"},
            "host": {"boot": {"id": "b"}},
            "process": {
                "entity_id": entity_id or f"p{number}",
                "name": "grep",
                "executable": "/usr/bin/grep",
                "args": ["grep", "key", str(number)],
                "parent": {"entity_id": parent},
                **process,
            },
            "container": {"id": "c" * 64, "name": "web"},
            "sensor": {"ancestor_entity_ids": [parent]},
        }
        return self.outlet.alert((document,), RULE, int(self.now * 1e9))

    def after(self, seconds: float) -> list[dict[str, Any]]:
        """What a tick sends so much later."""
        self.now += seconds
        before = len(self.dispatched.documents)
        self.outlet.tick()
        return self.dispatched.documents[before:]


@pytest.fixture
def feed() -> Feed:
    return Feed()


def test_each_match_is_counted_once_by_what_became_of_it() -> None:
    exceptions = load_exceptions([], [], common={})
    feed = Feed(exceptions=exceptions)
    feed.exec("find")
    feed.exec("grep", parent="find")
    feed.exec("another")
    feed.exec("third")
    outlet = feed.outlet
    assert outlet.matches == {"a-rule": 4}
    assert outlet.alerts == {("a-rule", "high"): 2}
    assert outlet.collapsed == {"a-rule": 1}
    assert outlet.held_back == {"a-rule": 1}
    assert len(feed.dispatched.documents) == 2


def test_what_an_exception_hides_is_counted_by_it_and_recorded_as_an_event(tmp_path: Any) -> None:
    path = tmp_path / "audit.yml"
    entry = "\n".join(f"    {key}: {value}" for key, value in AUDIT.items())
    path.write_text(f"exceptions:\n  -\n{entry}\n")
    feed = Feed(exceptions=load_exceptions([path], [RULE]))
    assert feed.exec(executable="/usr/bin/audit") is None
    [recorded] = feed.dispatched.documents
    assert recorded["event"]["kind"] == "event"
    assert recorded["rule"]["exception"]["id"] == "audit"
    assert feed.outlet.hidden == {("a-rule", "audit"): 1}
    assert feed.outlet.alerts == {}


def test_an_update_of_an_alert_that_was_held_back_is_held_back_at_its_windows_end(
    feed: Feed,
) -> None:
    for name in ("first", "second", "held"):
        feed.exec(name)
        feed.exec(f"child-of-{name}", parent=name)
    updates = feed.after(60)
    assert [each["process"]["entity_id"] for each in updates] == ["first", "second"]
    [summary] = feed.after(240)
    assert summary["sensor"]["held_back"]["count"] == 2


def test_the_end_says_what_is_counted_and_then_what_was_held_back(feed: Feed) -> None:
    for name in ("first", "second", "held"):
        feed.exec(name)
        feed.exec(f"child-of-{name}", parent=name)
    before = len(feed.dispatched.documents)
    feed.outlet.flush()
    kinds = [next(iter(each["sensor"])) for each in feed.dispatched.documents[before:]]
    assert len(kinds) == 3
    assert feed.dispatched.documents[-1]["sensor"]["held_back"]["count"] == 2


def test_an_alert_sent_again_with_its_container_tells_its_updates(feed: Feed) -> None:
    alert = feed.exec("find")
    feed.exec("grep", parent="find")
    feed.outlet.update(alert, RULE, {"container": {"id": "c" * 64, "name": "known by now"}})
    again = feed.dispatched.documents[-1]
    assert again["container"]["name"] == "known by now"
    assert again["sensor"]["update_of"] == alert["event"]["id"]
    assert again["event"]["id"] == f"{alert['event']['id']}-0"
    [update] = feed.after(60)
    assert update["container"]["name"] == "known by now"
    assert update["event"]["id"] == f"{alert['event']['id']}-1"
