"""The spool keeps documents until every sink has them, within its bounds, whatever happens."""

from __future__ import annotations

import contextlib
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from sensor.alerts.dispatch import Dispatcher
from sensor.alerts.sinks.protocol import DELIVERED, Outgoing, SinkError
from sensor.alerts.spool import Spool
from sensor.alerts.worker import BacklogError, Backoff
from sensor.errors import ConfigurationError

FAST = Backoff(first=0.001, longest=0.01)


class Receiver:
    """A durable sink that keeps what it gets; while `down` is set it fails."""

    durable = True
    rendered = False
    batch_size = 50

    def __init__(self, name="a", least=0, durable=True):
        self.name = name
        self.least = least
        self.durable = durable
        self.received = []
        self.down = False
        self.changed = threading.Condition()

    def accepts(self, severity, *, is_alert):
        return is_alert and severity >= self.least

    def deliver(self, batch):
        with self.changed:
            if self.down:
                raise SinkError("down")
            self.received += [item.document["n"] for item in batch]
            self.changed.notify_all()
        return DELIVERED

    def close(self):
        pass

    def wait_for(self, count):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.received) >= count, timeout=20)


def item(number, severity=47, is_alert=True, padding=0):
    payload = b'{"n":%d,"p":"%s"}' % (number, b"x" * padding)
    return Outgoing(payload=payload, severity=severity, is_alert=is_alert)


def numbers(read):
    return [each.document["n"] for each in read[0]]


def alert(number, severity=47):
    return {"n": number, "event": {"kind": "alert", "severity": severity}}


def until(condition):
    """Wait for another thread's work that has no event of its own."""
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture
def open_spool(tmp_path):
    opened = []

    def make(*sinks, **options):
        spool = Spool(tmp_path, sinks or [Receiver()], **options)
        opened.append(spool)
        return spool

    yield make
    for spool in opened:
        try:
            spool.close()
        except OSError:
            pass  # the test closed it


def test_each_sink_reads_from_its_own_position(open_spool):
    spool = open_spool(Receiver("a"), Receiver("b"))
    spool.append([item(number) for number in range(5)])

    read = spool.read("a", 3)
    assert numbers(read) == [0, 1, 2]
    assert numbers(spool.read("a", 3)) == [0, 1, 2]
    spool.done("a", read[1])
    assert numbers(spool.read("a", 3)) == [3, 4]
    assert numbers(spool.read("b", 9)) == [0, 1, 2, 3, 4]
    assert spool.counters()["behind"] == {"a": 2, "b": 5}
    assert spool.counters()["documents"] == 5


@pytest.mark.parametrize("with_spool", [True, False])
def test_secrets_are_looked_for_once_for_all_sinks(open_spool, with_spool):
    class SlowRedactor:
        def __init__(self):
            self.asked = Counter()

        def document(self, document):
            self.asked[document["n"]] += 1
            time.sleep(0.01)  # as long as others need to ask for the same
            return {**document, "redacted": True}

    sinks = [Receiver("shown", durable=False), Receiver("a"), Receiver("b")]
    redactor = SlowRedactor()
    spool = open_spool(*sinks[1:]) if with_spool else None
    dispatcher = Dispatcher(sinks, spool=spool, redactor=redactor)
    dispatcher.start()

    for number in range(20):
        dispatcher.submit(alert(number), 47)
        for sink in sinks:
            sink.wait_for(number + 1)

    assert dispatcher.close(10)
    assert redactor.asked == Counter(range(20))


def test_what_is_read_is_what_stands_on_the_disk(open_spool, tmp_path):
    spool = open_spool()
    with contextlib.closing(sqlite3.connect(tmp_path / "spool.db", timeout=5)) as other:
        spool.append([item(0), item(1)])
        other.execute("UPDATE document SET payload = ? WHERE position = 2", (b'{"n":7}',))
        other.commit()

    assert numbers(spool.read("a", 9)) == [0, 7]


def test_what_all_sinks_have_is_deleted(open_spool):
    spool = open_spool(Receiver("a"), Receiver("b"))
    spool.append([item(number) for number in range(5)])
    position = spool.read("a", 9)[1]

    spool.done("a", position)
    spool.done("b", position)

    counters = spool.counters()
    assert (counters["documents"], counters["bytes"]) == (0, 0)
    assert spool.read("a", 9) == ([], 0)


def test_what_was_appended_is_there_after_a_restart_and_once_only(open_spool):
    spool = open_spool(Receiver("a"))
    spool.append([item(number) for number in range(4)])
    spool.done("a", spool.read("a", 2)[1])
    before = spool.counters()
    spool.close()

    again = open_spool(Receiver("a"))

    assert numbers(again.read("a", 9)) == [2, 3]
    assert again.counters()["bytes"] == before["bytes"]


def test_positions_are_not_used_twice_after_all_was_deleted(open_spool):
    spool = open_spool(Receiver("a"))
    spool.append([item(0), item(1)])
    spool.done("a", spool.read("a", 9)[1])
    spool.close()

    again = open_spool(Receiver("a"))
    again.append([item(2)])

    assert numbers(again.read("a", 9)) == [2]


def test_a_new_sink_begins_with_what_is_new_and_a_removed_one_holds_nothing(open_spool):
    spool = open_spool(Receiver("old"))
    spool.append([item(0)])
    spool.close()

    again = open_spool(Receiver("new"))
    assert again.counters()["documents"] == 0
    again.append([item(1)])

    assert numbers(again.read("new", 9)) == [1]


def test_a_sink_reads_only_what_it_accepts_and_gets_past_the_rest(open_spool):
    spool = open_spool(Receiver("a", least=73))
    spool.append([item(0, 21), item(1, 73), item(2, 99, is_alert=False), item(3, 99), item(4, 21)])

    batch, position = spool.read("a", 1)
    assert [each.document["n"] for each in batch] == [1]
    spool.done("a", position)
    assert numbers(spool.read("a", 9)) == [3]
    spool.done("a", spool.read("a", 9)[1])
    assert spool.read("a", 9) == ([], 0)
    assert spool.counters()["documents"] == 0


def test_a_full_spool_drops_the_oldest_of_the_lowest_severity(open_spool):
    spool = open_spool(Receiver("a"), max_bytes=1200)
    spool.append([item(0, 73), item(1, 21, padding=150), item(2, 47), item(3, 21, padding=150)])

    spool.append([item(4, 47, padding=600)])

    assert numbers(spool.read("a", 9)) == [0, 2, 3, 4]
    spool.append([item(5, 99, padding=700)])
    assert numbers(spool.read("a", 9)) == [0, 5]
    counters = spool.counters()
    assert counters["evicted_by_severity"] == {21: 2, 47: 2}
    assert counters["bytes"] <= 1200
    assert spool.lost == 4


def test_what_is_too_old_goes_and_is_counted(open_spool):
    now = [1000.0]
    spool = open_spool(Receiver("a"), max_age=60, clock=lambda: now[0])
    spool.append([item(0)])
    now[0] = 1030.0
    spool.append([item(1)])
    now[0] = 1061.0

    spool.maintain()

    assert numbers(spool.read("a", 9)) == [1]
    assert spool.counters()["expired"] == spool.lost == 1


def test_the_files_are_for_the_owner_alone_and_shrink_again(open_spool, tmp_path):
    spool = open_spool(Receiver("a"), max_bytes=64 << 20)
    spool.append([item(number, padding=100_000) for number in range(100)])
    spool.maintain()
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    full = (tmp_path / "spool.db").stat().st_size
    assert full > 10_000_000

    position = spool.read("a", 200)[1]
    while position:
        spool.done("a", position)
        position = spool.read("a", 200)[1]
    for number in range(10):
        spool.append([item(number)])
        spool.maintain()

    assert (tmp_path / "spool.db").stat().st_size < full / 2


def test_two_sensors_cannot_share_a_spool(open_spool, tmp_path):
    open_spool()

    with pytest.raises(ConfigurationError, match="another sensor uses this spool"):
        Spool(tmp_path, [Receiver()])


def test_a_directory_that_is_not_there_is_a_configuration_error(tmp_path):
    with pytest.raises(ConfigurationError, match="No such file"):
        Spool(tmp_path / "none", [Receiver()])


@pytest.mark.parametrize("content", [b"no database at all, but long enough to be read" * 100])
def test_a_broken_database_is_kept_aside(open_spool, tmp_path, content, caplog):
    (tmp_path / "spool.db").write_bytes(content)

    spool = open_spool(clock=lambda: 1234.0)
    spool.append([item(0)])

    assert numbers(spool.read("a", 9)) == [0]
    assert (tmp_path / "spool.db.broken-1234").read_bytes() == content
    assert "is broken" in caplog.text


def test_another_versions_database_is_kept_aside(open_spool, tmp_path):
    database = sqlite3.connect(tmp_path / "spool.db")
    database.execute("PRAGMA user_version = 99")
    database.close()

    open_spool(clock=lambda: 1234.0).append([item(0)])

    assert (tmp_path / "spool.db.broken-1234").exists()


def test_a_full_disk_is_an_error_and_nothing_is_half_written(open_spool):
    spool = open_spool(Receiver("a"))
    spool.append([item(0)])
    (pages,) = spool._writer.execute("PRAGMA page_count").fetchone()
    spool._writer.execute(f"PRAGMA max_page_count = {pages + 2}")

    with pytest.raises(BacklogError, match="full"):
        spool.append([item(1), item(2, padding=1_000_000)])

    assert numbers(spool.read("a", 9)) == [0]
    assert spool.counters()["documents"] == 1
    spool.append([item(3)])
    assert numbers(spool.read("a", 9)) == [0, 3]


def test_a_position_that_cannot_be_written_is_not_read_again(open_spool):
    spool = open_spool(Receiver("a"))
    spool.append([item(0)])
    position = spool.read("a", 9)[1]
    spool._writer.execute("PRAGMA query_only = 1")

    with pytest.raises(BacklogError):
        spool.done("a", position)

    assert spool.read("a", 9) == ([], 0)


def test_threads_append_and_read_at_once(open_spool):
    spool = open_spool(Receiver("a"), Receiver("b"))
    seen = {"a": [], "b": []}

    def write(start):
        for number in range(start, start + 100):
            spool.append([item(number)])

    def read(name):
        while len(seen[name]) < 300:
            batch, position = spool.read(name, 7)
            seen[name] += [each.document["n"] for each in batch]
            if position:
                spool.done(name, position)

    threads = [threading.Thread(target=write, args=(start,)) for start in (0, 1000, 2000)]
    threads += [threading.Thread(target=read, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    expected = sorted(start + number for start in (0, 1000, 2000) for number in range(100))
    assert sorted(seen["a"]) == sorted(seen["b"]) == expected
    assert spool.counters()["documents"] == spool.counters()["bytes"] == 0


# Through the dispatcher.


def test_a_sink_that_was_down_for_ten_thousand_alerts_gets_each_once(open_spool):
    sink = Receiver("remote")
    sink.down = True
    dispatcher = Dispatcher([sink], spool=open_spool(sink), backoff=FAST)
    dispatcher.start()
    for number in range(10_000):
        dispatcher.submit(alert(number), 47)
        if number % 2000 == 0:  # the queue before the disk is bounded too
            until(lambda: not dispatcher._journal.counters()["queued"])
    sink.down = False
    sink.wait_for(10_000)

    assert dispatcher.close(10)
    assert sink.received == list(range(10_000))


def test_what_a_sink_does_not_take_before_the_end_is_there_the_next_time(open_spool):
    sink, shown = Receiver("remote"), Receiver("stdout", durable=False)
    sink.down = True
    dispatcher = Dispatcher([shown, sink], spool=open_spool(sink), backoff=FAST)
    dispatcher.start()
    for number in range(20):
        dispatcher.submit(alert(number), 47)
    assert dispatcher.close(5)
    assert sink.received == []
    assert shown.received == list(range(20))

    sink.down = False
    again = Dispatcher([sink], spool=open_spool(sink), backoff=FAST)
    again.start()
    sink.wait_for(20)

    assert again.close(5)
    assert sink.received == list(range(20))


def test_what_no_sink_wants_is_shown_and_not_written_down(open_spool):
    """Heartbeats and recorded events, where only standard output takes events."""
    sink, shown = Receiver("remote"), Receiver("stdout", durable=False)
    sink.accepts = lambda severity, *, is_alert: is_alert and severity >= 47
    spool = open_spool(sink)
    dispatcher = Dispatcher([shown, sink], spool=spool, backoff=FAST)
    dispatcher.start()
    dispatcher.submit(alert(0), 21)
    dispatcher.submit(alert(1), 47)
    sink.wait_for(1)
    shown.wait_for(2)

    assert dispatcher.counters()["spool"]["appended"] == 1
    assert dispatcher.close(5)
    assert shown.received == [0, 1]


def test_a_full_disk_sends_alerts_from_memory(open_spool):
    sink, shown = Receiver("remote"), Receiver("stdout", durable=False)
    spool = open_spool(sink)
    spool._writer.execute("PRAGMA query_only = 1")
    dispatcher = Dispatcher([shown, sink], spool=spool, backoff=FAST)
    dispatcher.start()
    dispatcher.submit(alert(0), 47)
    sink.wait_for(1)
    shown.wait_for(1)
    spool._writer.execute("PRAGMA query_only = 0")
    dispatcher.submit(alert(1), 47)
    sink.wait_for(2)

    counters = dispatcher.counters()
    assert dispatcher.close(5)
    assert sink.received == shown.received == [0, 1]
    assert counters["journal"]["unspooled"] == 1
    assert counters["spool"]["appended"] == 1


def test_a_disk_that_does_not_answer_silences_no_other_sink(open_spool, monkeypatch):
    monkeypatch.setattr("sensor.alerts.journal._STUCK_SECONDS", 0.0)
    sink, shown = Receiver("remote"), Receiver("stdout", durable=False)
    spool = open_spool(sink)
    entered, release = threading.Event(), threading.Event()
    append = spool.append

    def blocked(items):
        entered.set()
        release.wait(20)
        append(items)

    monkeypatch.setattr(spool, "append", blocked)
    dispatcher = Dispatcher([shown, sink], spool=spool, backoff=FAST)
    dispatcher.start()
    dispatcher.submit(alert(0), 47)
    assert entered.wait(10)
    dispatcher.submit(alert(1), 47)
    dispatcher.tick(0.0)
    shown.wait_for(2)

    assert sorted(shown.received) == [0, 1]
    assert sink.received == []
    release.set()
    sink.wait_for(2)
    assert dispatcher.close(5)
    assert sorted(shown.received) == [0, 1]
    assert sink.received == [0, 1]


def test_what_a_full_spool_drops_is_told_in_the_alert_stream(open_spool):
    sink, shown = Receiver("remote"), Receiver("stdout", durable=False)
    sink.down = True
    notices = []
    shown.deliver = lambda batch: notices.extend(batch) or DELIVERED
    spool = open_spool(sink, max_bytes=2000)
    dispatcher = Dispatcher([shown, sink], spool=spool, backoff=FAST)
    dispatcher.start()
    for number in range(100):
        dispatcher.submit(alert(number), 47)
    until(lambda: not dispatcher._journal.counters()["queued"])
    dispatcher.tick(1000.0)
    dispatcher.close(5)

    [told] = [each.document for each in notices if "rule" in each.document]
    # The notice itself takes room, too.
    assert 50 < told["sensor"]["delivery_loss"]["total"]["spool"] <= spool.lost


_CHILD = """
import sys
from pathlib import Path
sys.path[:0] = [sys.argv[2]]
from test_spool import Receiver, alert, until
from sensor.alerts.dispatch import Dispatcher
from sensor.alerts.sinks.stdout import StdoutSink
from sensor.alerts.spool import Spool
sink = Receiver("remote")
sink.down = True
dispatcher = Dispatcher([StdoutSink(), sink], spool=Spool(Path(sys.argv[1]), [sink]))
dispatcher.start()
number = int(sys.argv[3])
while True:
    dispatcher.submit(alert(number), 47)
    number += 1
    until(lambda: dispatcher._journal.counters()["queued"] < 100)
"""


def test_kill_9_at_any_point_loses_nothing_that_was_shown(open_spool, tmp_path):
    """Runs over one spool, each ended with SIGKILL after some lines."""
    shown = []
    for run in range(5):
        child = subprocess.Popen(
            [
                sys.executable,
                "-c",
                _CHILD,
                str(tmp_path),
                str(Path(__file__).parent),
                str(run * 10**6),
            ],
            stdout=subprocess.PIPE,
        )
        lines = random.randint(1, 400)
        shown += [json.loads(child.stdout.readline())["n"] for _ in range(lines)]
        child.kill()
        rest = child.stdout.read()
        shown += [json.loads(line)["n"] for line in rest.split(b"\n")[:-1]]
        child.wait()

    sink = Receiver("remote")
    dispatcher = Dispatcher([sink], spool=open_spool(sink))
    dispatcher.start()
    until(lambda: not any(dispatcher.counters()["spool"]["behind"].values()))
    assert dispatcher.close(20)

    assert len(shown) > 100
    assert sorted(set(shown) - set(sink.received)) == []
    assert len(sink.received) == len(set(sink.received))


class Model(RuleBasedStateMachine):
    """The spool against a list: whatever the order of appends, reads, ends and restarts."""

    def __init__(self):
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.sinks = [Receiver("a"), Receiver("b", least=50)]
        self.open()
        self.all = []
        self.have = {"a": [], "b": []}

    def open(self):
        self.spool = Spool(Path(self.folder.name), self.sinks)

    @rule(severities=st.lists(st.sampled_from([21, 47, 73, 99]), max_size=5))
    def append(self, severities):
        new = [(len(self.all) + index, severity) for index, severity in enumerate(severities)]
        self.spool.append([item(*each) for each in new])
        self.all += new

    @rule(name=st.sampled_from("ab"), limit=st.integers(1, 4), finish=st.booleans())
    def deliver(self, name, limit, finish):
        batch, position = self.spool.read(name, limit)
        if finish and position:
            self.have[name] += [each.document["n"] for each in batch]
            self.spool.done(name, position)

    @rule()
    def restart(self):
        self.spool.close()
        self.open()

    @rule()
    def maintain(self):
        self.spool.maintain()

    @invariant()
    def nothing_is_lost_or_doubled(self):
        for sink in self.sinks:
            rest = [each.document["n"] for each in self.spool.read(sink.name, 10**6)[0]]
            wanted = [number for number, severity in self.all if severity >= sink.least]
            assert self.have[sink.name] + rest == wanted

    def teardown(self):
        self.spool.close()
        self.folder.cleanup()


TestModel = Model.TestCase
TestModel.settings = settings(
    max_examples=15, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_the_spool_is_imported_only_where_it_is_used():
    code = (
        "import sys, sensor.alerts.dispatch, sensor.alerts.sinks.stdout;"
        "print([m for m in ('sqlite3', 'requests', 'ssl', 'yaml', 'elasticsearch')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, check=True, env={**os.environ}
    )

    assert done.stdout == b"[]\n"
