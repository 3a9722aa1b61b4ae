"""The file sink: whole lines, for the owner alone, turned over, whatever the disk does."""

from __future__ import annotations

import errno
import json
import os

import pytest

from sensor.alerts.sinks.file import FileSink
from sensor.alerts.sinks.options import FileOptions
from sensor.alerts.sinks.protocol import DELIVERED, Outcome, SinkError


@pytest.fixture
def make(tmp_path):
    def sink(clock=lambda: 1000.0, **options):
        return FileSink(FileOptions(path=str(tmp_path / "alerts.json"), **options), clock=clock)

    return sink


def lines(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_alerts_are_lines_for_the_owner_alone(make, tmp_path, alert, outgoing):
    sink = make()
    documents = [alert(entity_id=f"p{number}") for number in range(3)]

    sink.deliver([outgoing(each) for each in documents[:2]])
    sink.deliver([outgoing(documents[2])])

    assert lines(tmp_path / "alerts.json") == documents
    assert (tmp_path / "alerts.json").stat().st_mode & 0o777 == 0o600


def test_hostile_values_stay_in_their_line(make, tmp_path, hostile, outgoing):
    make().deliver([outgoing(hostile)])

    data = (tmp_path / "alerts.json").read_bytes()
    assert data.count(b"\n") == 1
    assert data.decode().isprintable() or data.endswith(b"\n")
    assert all(character.isprintable() for character in data.decode()[:-1])
    assert lines(tmp_path / "alerts.json")[0]["container"]["name"].startswith("a\nb\r\x00\x1b[2J")


def test_it_is_turned_over_by_size_and_the_oldest_goes(make, tmp_path, alert, outgoing):
    sink = make(max_bytes=4096, keep=2)
    for number in range(12):
        sink.deliver([outgoing(alert("grep", "x" * 500, entity_id=f"p{number}"))])

    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["alerts.json", "alerts.json.1", "alerts.json.2"]
    assert all(path.stat().st_size <= 4096 for path in tmp_path.iterdir())
    found = [
        each["process"]["entity_id"] for name in reversed(names) for each in lines(tmp_path / name)
    ]
    assert found == [f"p{number}" for number in range(12)][-len(found) :]


def test_it_is_turned_over_by_age_over_a_restart_too(make, tmp_path, alert, outgoing):
    now = [1000.0]
    sink = make(lambda: now[0], max_age=60)
    sink.deliver([outgoing(alert())])
    now[0] = 1061.0
    sink.deliver([outgoing(alert())])
    assert len(lines(tmp_path / "alerts.json")) == 1
    sink.close()

    os.utime(tmp_path / "alerts.json", (1061.0, 1061.0))
    now[0] = 1122.0
    make(lambda: now[0], max_age=60).deliver([outgoing(alert())])

    assert len(list(tmp_path.iterdir())) == 3


def test_keeping_none_is_allowed(make, tmp_path, alert, outgoing):
    sink = make(max_bytes=4096, keep=0)
    for _ in range(8):
        sink.deliver([outgoing(alert("grep", "x" * 500))])

    assert [path.name for path in tmp_path.iterdir()] == ["alerts.json"]


def test_a_file_that_was_moved_away_is_made_anew(make, tmp_path, alert, outgoing):
    sink = make()
    sink.deliver([outgoing(alert())])
    (tmp_path / "alerts.json").rename(tmp_path / "moved")
    sink.deliver([outgoing(alert())])

    assert len(lines(tmp_path / "moved")) == len(lines(tmp_path / "alerts.json")) == 1


def test_a_disk_that_is_full_leaves_no_half_line(make, tmp_path, alert, outgoing, monkeypatch):
    sink = make()
    sink.deliver([outgoing(alert())])
    before = (tmp_path / "alerts.json").read_bytes()
    write = os.write

    def half(descriptor, data):
        if len(data) > 100:
            return write(descriptor, data[:100])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    document = alert("grep", "x")
    size = len(outgoing(document).payload)
    monkeypatch.setattr(
        os, "write", lambda fd, data: half(fd, data) if len(data) > size - 100 else half(fd, b"")
    )
    with pytest.raises(SinkError, match="No space left on device"):
        sink.deliver([outgoing(document)])
    monkeypatch.undo()

    assert (tmp_path / "alerts.json").read_bytes() == before
    sink.deliver([outgoing(document)])
    assert len(lines(tmp_path / "alerts.json")) == 2


@pytest.mark.parametrize("kind", ["symlink", "fifo", "directory"])
def test_it_writes_to_regular_files_only(make, tmp_path, alert, outgoing, kind):
    path = tmp_path / "alerts.json"
    if kind == "symlink":
        (tmp_path / "victim").write_text("")
        path.symlink_to(tmp_path / "victim")
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()

    with pytest.raises(SinkError):
        make().deliver([outgoing(alert())])

    assert kind != "symlink" or (tmp_path / "victim").read_text() == ""


def test_what_will_keep_it_from_working_is_said_before_the_first_alert(make, tmp_path):
    assert make().trouble() is None
    missing = FileSink(FileOptions(path=str(tmp_path / "none" / "alerts.json")))
    assert missing.trouble() == f"{tmp_path}/none: there is no such folder"


def test_a_batch_larger_than_a_file_goes_into_several(make, tmp_path, alert, outgoing):
    sink = make(max_bytes=4096, keep=20)
    documents = [alert("grep", "x" * 500, entity_id=f"p{number}") for number in range(12)]

    assert sink.deliver([outgoing(each) for each in documents]) == DELIVERED

    names = list(tmp_path.iterdir())
    assert len(names) > 2
    assert all(path.stat().st_size <= 4096 for path in names)
    assert sorted(each["process"]["entity_id"] for path in names for each in lines(path)) == sorted(
        each["process"]["entity_id"] for each in documents
    )


def test_of_a_batch_that_fails_half_way_only_the_rest_is_tried_again(
    make, tmp_path, alert, outgoing, monkeypatch
):
    sink = make(max_bytes=4096)
    batch = [outgoing(alert("grep", "x" * 2500, entity_id=f"p{number}")) for number in range(3)]
    append = sink._append
    calls = []

    def once(data):
        calls.append(data)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(data)

    monkeypatch.setattr(sink, "_append", once)

    assert sink.deliver(batch) == Outcome(retry=batch[1:])
    assert len(lines(tmp_path / "alerts.json")) == 1
