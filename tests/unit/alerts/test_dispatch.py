"""Delivery: the caller never waits, sinks do not hold each other up, and every loss is counted."""

from __future__ import annotations

import json
import os
import tempfile
import threading

import pytest

from sensor.alerts.dispatch import Dispatcher
from sensor.alerts.encode import encode
from sensor.alerts.outbox import Outbox
from sensor.alerts.sinks.protocol import (
    DELIVERED,
    Outcome,
    Outgoing,
    SinkClosedError,
    SinkError,
)
from sensor.alerts.sinks.stdout import StdoutSink
from sensor.alerts.worker import Backoff

FAST = Backoff(first=0.001, longest=0.01)


class MemorySink:
    """A receiver whose answers the test decides; `answer` may raise, block or refuse."""

    durable = True
    rendered = False

    def __init__(self, name="memory", *, batch_size=10, answer=None):
        self.name = name
        self.batch_size = batch_size
        self.received = []
        self.changed = threading.Condition()
        self.answer = answer or (lambda batch: DELIVERED)

    def accepts(self, severity, *, is_alert):
        return is_alert

    def deliver(self, batch):
        outcome = self.answer(batch)
        gone = [item for item, _ in outcome.refused] + list(outcome.retry)
        with self.changed:
            self.received += [item.document["n"] for item in batch if item not in gone]
            self.changed.notify_all()
        return outcome

    def close(self):
        pass

    def wait_for(self, count):
        with self.changed:
            assert self.changed.wait_for(lambda: len(self.received) >= count, timeout=10)


def numbered(number, kind="alert"):
    return {"n": number, "event": {"kind": kind}}


def item(number, severity=47, size=1):
    """An item of at least `size` bytes."""
    return Outgoing(payload=(b'{"n":%d}' % number).ljust(size), severity=severity)


def test_every_document_reaches_every_sink_in_order():
    sinks = [MemorySink("a"), MemorySink("b", batch_size=1)]
    dispatcher = Dispatcher(sinks)
    dispatcher.start()

    for number in range(100):
        dispatcher.submit(numbered(number), 47)

    assert dispatcher.close(10)
    assert [sink.received for sink in sinks] == [list(range(100))] * 2
    assert dispatcher.counters()["sinks"]["a"]["delivered"] == 100


def test_a_sink_gets_only_what_it_accepts():
    sink = MemorySink()
    dispatcher = Dispatcher([sink])
    dispatcher.start()

    dispatcher.submit(numbered(1, kind="event"), 0)
    dispatcher.submit(numbered(2), 47)

    assert dispatcher.close(10)
    assert sink.received == [2]


def test_a_sink_that_fails_is_tried_again_until_all_arrived_once():
    failures = iter([SinkError("down"), SinkError("down"), SinkError("busy", retry_after=0.001)])

    def answer(_batch):
        for failure in failures:
            raise failure
        return DELIVERED

    sink = MemorySink(answer=answer)
    dispatcher = Dispatcher([sink], backoff=FAST)
    dispatcher.start()
    for number in range(25):
        dispatcher.submit(numbered(number), 47)
    sink.wait_for(25)

    assert dispatcher.close(10)
    assert sink.received == list(range(25))
    counters = dispatcher.counters()["sinks"]["memory"]
    assert (counters["delivered"], counters["retries"], counters["dropped"]) == (25, 3, 0)


def test_only_what_did_not_arrive_of_a_batch_is_tried_again():
    seen = set()

    def answer(batch):
        odd = [item for item in batch if item.document["n"] % 2 and item.document["n"] not in seen]
        seen.update(item.document["n"] for item in odd)
        return Outcome(retry=odd)

    sink = MemorySink(answer=answer)
    dispatcher = Dispatcher([sink], backoff=FAST)
    for number in range(10):
        dispatcher.submit(numbered(number), 47)
    dispatcher.start()
    sink.wait_for(10)

    assert dispatcher.close(10)
    assert sink.received == [0, 2, 4, 6, 8, 1, 3, 5, 7, 9]


def test_what_a_receiver_refuses_is_counted_and_not_tried_again():
    sink = MemorySink(
        answer=lambda batch: Outcome(
            refused=[(item, "bad") for item in batch if item.document["n"] == 3]
        )
    )
    dispatcher = Dispatcher([sink], backoff=FAST)
    dispatcher.start()
    for number in range(5):
        dispatcher.submit(numbered(number), 47)

    assert dispatcher.close(10)
    assert sink.received == [0, 1, 2, 4]
    assert dispatcher.counters()["sinks"]["memory"]["refused"] == 1


def test_a_fault_in_a_sink_costs_the_one_document_that_causes_it():
    def answer(batch):
        if any(item.document["n"] == 3 for item in batch):
            raise ZeroDivisionError
        return DELIVERED

    sink = MemorySink(answer=answer)
    dispatcher = Dispatcher([sink], backoff=FAST)
    for number in range(5):
        dispatcher.submit(numbered(number), 47)
    dispatcher.start()

    assert dispatcher.close(10)
    assert sink.received == [0, 1, 2, 4]
    counters = dispatcher.counters()["sinks"]["memory"]
    assert (counters["refused"], counters["errors"]) == (1, 2)


def test_a_blocked_sink_holds_up_neither_the_caller_nor_the_others():
    release = threading.Event()
    entered = threading.Event()

    def answer(_batch):
        entered.set()
        release.wait(10)
        return DELIVERED

    blocked, free = MemorySink("blocked", answer=answer), MemorySink("free")
    dispatcher = Dispatcher([blocked, free])
    dispatcher.start()
    dispatcher.submit(numbered(0), 47)
    assert entered.wait(10)
    for number in range(1, 11):
        dispatcher.submit(numbered(number), 47)
    free.wait_for(11)

    assert blocked.received == []
    assert dispatcher.counters()["sinks"]["blocked"]["queued"] == 10
    release.set()
    assert dispatcher.close(10)
    assert blocked.received == list(range(11))


def test_close_leaves_a_sink_that_never_answers_behind():
    release = threading.Event()
    sink = MemorySink(answer=lambda _: release.wait(10) and DELIVERED)
    dispatcher = Dispatcher([sink])
    dispatcher.start()
    dispatcher.submit(numbered(0), 47)

    assert not dispatcher.close(0.05)
    release.set()


def test_a_closed_sink_is_named_and_what_comes_after_is_counted_as_lost():
    def answer(_batch):
        raise SinkClosedError("the reader has ended")

    dispatcher = Dispatcher([MemorySink(answer=answer)], clock=lambda: 1000.0)
    dispatcher.submit(numbered(0), 47)
    dispatcher.start()
    dispatcher.submit(numbered(1), 47)

    assert not dispatcher.close(10)
    dispatcher.submit(numbered(2), 47)
    assert dispatcher.closed_sinks() == ["memory"]
    assert dispatcher.counters()["sinks"]["memory"]["dropped"] == 3


def test_a_loss_is_told_in_the_alert_stream_and_not_more_than_once_a_minute():
    broken = MemorySink("broken", answer=lambda _: (_ for _ in ()).throw(SinkClosedError("gone")))
    well = MemorySink("well")
    received = []
    well.deliver = lambda batch: received.extend(batch) or DELIVERED
    dispatcher = Dispatcher([broken, well], common={"host": {"hostname": "node-1"}})
    dispatcher.submit(numbered(0), 47)
    dispatcher.start()
    assert dispatcher._workers[0].join(10)

    dispatcher.tick(1000.0)
    dispatcher.submit(numbered(1), 47)
    dispatcher.tick(1001.0)
    dispatcher.tick(1061.0)
    dispatcher.close(10)

    notices = [each.document for each in received if "rule" in each.document]
    assert [each["sensor"]["delivery_loss"]["count"] for each in notices] == [1, 2]
    assert notices[0]["rule"]["id"] == "sensor.delivery_loss"
    assert notices[0]["event"]["kind"] == "alert"
    assert notices[0]["host"] == {"hostname": "node-1"}
    assert "broken 1" in notices[0]["message"]


def test_full_queue_drops_the_oldest_of_the_lowest_severity():
    outbox = Outbox(max_items=3)
    for number, severity in enumerate([47, 21, 21]):
        assert outbox.put(item(number, severity)) == []

    dropped = [each.document["n"] for each in outbox.put(item(3, 99))]
    dropped += [each.document["n"] for each in outbox.put(item(4, 21))]
    dropped += [each.document["n"] for each in outbox.put(item(5, 0))]

    assert dropped == [1, 2, 5]
    assert [each.document["n"] for each in outbox.take(10)] == [0, 3, 4]
    assert len(outbox) == 0


def test_queue_is_bounded_in_bytes_but_takes_one_large_document():
    outbox = Outbox(max_items=100, max_bytes=100)

    assert outbox.put(item(0, size=500)) == []
    assert [each.document["n"] for each in outbox.put(item(1, size=60))] == [0]
    assert outbox.put(item(2, size=40)) == []
    assert [each.document["n"] for each in outbox.put(item(3, size=1))] == [1]


def test_a_document_that_is_no_json_is_counted_and_ends_nothing(caplog):
    sink = MemorySink()
    dispatcher = Dispatcher([sink])
    dispatcher.start()

    dispatcher.submit({"n": object()}, 47)
    dispatcher.submit(numbered(1), 47)

    assert dispatcher.close(10)
    assert sink.received == [1]
    assert dispatcher.counters()["unencodable"] == 1


def test_stdout_writes_one_json_line_per_alert(alert):
    reader, writer = os.pipe()
    dispatcher = Dispatcher([StdoutSink(fd=writer)])
    dispatcher.start()
    documents = [alert(entity_id=f"p{number}") for number in range(3)]
    for each in documents:
        dispatcher.submit(each, 47)

    assert dispatcher.close(10)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        assert [json.loads(line) for line in stream] == documents


def test_what_is_hostile_is_one_line_that_steers_no_terminal(hostile):
    with tempfile.TemporaryFile() as stream:
        sink = StdoutSink(fd=stream.fileno(), output="json")
        sink.deliver([Outgoing(payload=encode(hostile), severity=47, submitted=hostile)])
        stream.seek(0)
        line = stream.read()

    assert line.count(b"\n") == 1
    assert line.decode()[:-1].isprintable()
    assert json.loads(line)["container"]["name"].startswith("a\nb\r\x00\x1b[2J")


def test_stdout_as_text_writes_blocks(alert):
    reader, writer = os.pipe()
    StdoutSink(output="text", fd=writer).deliver(
        [Outgoing(payload=b"", severity=47, submitted=alert("grep", "größe", "\x1b]0;x\x07"))]
    )
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as stream:
        written = stream.read()

    assert "grep 'größe' $'\\x1b]0;x\\x07'" in written
    assert written.endswith("\n\n")


def test_stdout_whose_reader_has_ended_is_closed():
    reader, writer = os.pipe()
    os.close(reader)

    with pytest.raises(SinkClosedError, match="standard output is closed"):
        StdoutSink(fd=writer).deliver([item(1)])
    os.close(writer)


def test_stdout_waits_where_somebody_made_the_descriptor_non_blocking():
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    sink = StdoutSink(fd=writer)
    thread = threading.Thread(target=sink.deliver, args=([item(1, size=1 << 20)],))
    thread.start()
    with os.fdopen(reader, "rb") as stream:
        assert len(stream.read((1 << 20) + 1)) == (1 << 20) + 1
    thread.join(10)
    os.close(writer)


def test_a_full_pipe_costs_nothing_but_what_no_queue_can_hold(alert):
    """The reader of standard output has stopped: submit returns, and what is lost is counted."""
    reader, writer = os.pipe()
    dispatcher = Dispatcher([StdoutSink(fd=writer)])
    dispatcher.start()
    document = alert("grep", "x" * 1000)

    for _ in range(12_000):
        dispatcher.submit(document, 47)

    counters = dispatcher.counters()["sinks"]["stdout"]
    in_hand = 12_000 - counters["queued"] - counters["dropped"] - counters["delivered"]
    assert 0 < in_hand <= StdoutSink.batch_size
    assert 0 < counters["queued"] <= 10_000
    assert counters["dropped"] >= 1_900
    assert not dispatcher.close(0.05)
    os.close(reader)
    assert dispatcher._workers[0].join(10)
    os.close(writer)
