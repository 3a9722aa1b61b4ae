"""The store keeps within its bounds and goes on, whatever happens to its disk, its file, its process."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from stored import START_S, make_alert, make_rule, outgoing

from sensor.alerts.dispatch import Dispatcher
from sensor.alerts.spool import Spool
from sensor.errors import ConfigurationError
from sensor.store.errors import StoreError
from sensor.store.filter import Filter
from sensor.store.sink import StoreSink
from sensor.store.store import Store
from sensor.store.writer import StoreWriter

MIB = 1 << 20


@pytest.fixture
def path(tmp_path):
    return tmp_path / "alerts.db"


def numbered(count, severity="medium", start=0, padding=0):
    rule = make_rule(severity, severity=severity)
    for number in range(start, start + count):
        noise = random.Random(number).randbytes(padding).hex()
        yield outgoing(make_alert(number, "grep", f"n{number}", noise, pid=number + 2, rule=rule))


def commands(path, **filters):
    with Store.open(path) as store:
        return [each.command.split()[1] for each in store.alerts(Filter(**filters), limit=10**6)]


def test_the_files_are_for_their_owner_alone(path):
    path.touch(mode=0o644)
    with StoreWriter(path) as writer:
        writer.write(list(numbered(1)))
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}

    assert set(modes.values()) == {0o600}
    assert "alerts.db-wal" in modes


def test_what_is_written_again_is_there_once(path):
    items = list(numbered(3))
    with StoreWriter(path) as writer:
        writer.write(items)
        writer.write(items)
        assert writer.counters()["written"] == 3

    assert commands(path) == ["n2", "n1", "n0"]


def test_a_full_store_drops_the_oldest_of_the_lowest_severity(path):
    with StoreWriter(path, max_bytes=2 * MIB) as writer:
        writer.write(list(numbered(40, "low", padding=500)))
        writer.write(list(numbered(20, "critical", start=1000, padding=500)))
        for start in range(2000, 6000, 250):
            writer.write(list(numbered(250, "low", start=start, padding=500)))
        counts = writer.counters()

    kept = commands(path)
    assert counts["evicted"] == counts["written"] - len(kept) > 1000
    assert [each for each in kept if each.startswith("n10")] == [
        f"n{n}" for n in range(1019, 999, -1)
    ]
    low = [each for each in kept if each.startswith("n2") or int(each[1:]) >= 2000]
    assert low[0] == "n5999"
    assert low == [f"n{5999 - index}" for index in range(len(low))]
    assert path.stat().st_size < 2.2 * MIB


def test_what_is_too_old_goes(path):
    now = [START_S + 0.0]
    with StoreWriter(path, max_age_s=3600, clock=lambda: now[0]) as writer:
        writer.write(list(numbered(3)))
        writer.maintain()
        assert writer.counters()["expired"] == 0
        now[0] += 3602
        writer.maintain()
        assert writer.counters()["expired"] == 2

    assert commands(path) == ["n2"]


def test_revisions_of_a_long_action_are_bounded_and_end_with_their_alert(path):
    alert = make_alert(0)
    with StoreWriter(path, max_age_s=60, clock=lambda: START_S) as writer:
        writer.write([outgoing(alert)])
        for count in range(2, 300):
            update = make_alert(0)
            update["event"] = update["event"] | {"id": f"{alert['event']['id']}-{count}"}
            update["sensor"] = update["sensor"] | {
                "update_of": alert["event"]["id"],
                "collapsed": {"count": count},
            }
            writer.write([outgoing(update)])
        with Store.open(path) as store:
            kept = store.updates(alert["event"]["id"])
            assert store.find(alert["event"]["id"]).updates == 298
            assert len(kept) == 200
            assert kept[-1].change["sensor"]["collapsed"]["count"] == 299
        writer._clock = lambda: START_S + 100.0
        writer.maintain()
        (left,) = writer._connection().execute("SELECT count(*) FROM revision").fetchone()

    assert left == 0


def test_a_full_disk_is_an_error_nothing_is_half_written_and_it_goes_on_with_room(tmp_path):
    """On a file system of its own, really filled."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be mounted: {mounted.stderr.decode().strip()}")
    try:
        path = disk / "alerts.db"
        with StoreWriter(path) as writer:
            writer.write(list(numbered(10)))
            ballast = disk / "ballast"
            subprocess.run(
                ["dd", "if=/dev/zero", f"of={ballast}"], capture_output=True, check=False
            )
            assert os.statvfs(disk).f_bavail == 0
            with pytest.raises(StoreError, match=r"full|I/O"):
                writer.write(list(numbered(200, start=100, padding=4000)))
            assert len(commands(path)) == 10
            ballast.unlink()
            writer.write(list(numbered(5, start=100)))
        assert len(commands(path)) == 15
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_file_that_is_no_database_is_kept_aside(path, caplog):
    path.write_bytes(b"something else " * 1000)
    with StoreWriter(path, clock=lambda: 1234.5) as writer:
        writer.write(list(numbered(1)))

    assert "is broken" in caplog.text
    assert Path(f"{path}.broken-1234").read_bytes().startswith(b"something else")
    assert commands(path) == ["n0"]


def test_a_database_that_breaks_in_use_is_kept_aside_and_the_alerts_go_to_a_new_one(path, caplog):
    with StoreWriter(path, clock=lambda: 1234.5) as writer:
        writer.write(list(numbered(2000, padding=100)))
    size = path.stat().st_size
    with path.open("r+b") as file:
        for page in range(2, size // 4096):
            file.seek(page * 4096)
            file.write(b"\xff" * 4096)

    with StoreWriter(path, clock=lambda: 1234.5) as writer:
        writer.write(list(numbered(3, start=5000)))
        assert writer.counters()["begun_anew"] == 1

    assert "is broken" in caplog.text
    assert Path(f"{path}.broken-1234").stat().st_size == size
    assert commands(path) == ["n5002", "n5001", "n5000"]


def test_a_store_of_another_version_is_kept_aside(path):
    with StoreWriter(path) as writer:
        writer._connection().execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="another version"):
        Store.open(path)

    with StoreWriter(path, clock=lambda: 7.0):
        pass
    assert Path(f"{path}.broken-7").exists()
    assert commands(path) == []


def test_a_file_that_is_taken_away_is_begun_anew_and_a_reader_notices(path, caplog):
    with StoreWriter(path) as writer:
        writer.write(list(numbered(2)))
        with Store.open(path) as store:
            last = store.position().change
            path.unlink()
            writer.write(list(numbered(1, start=9)))
            assert not store.is_current()
        assert "taken away" in caplog.text
        with Store.open(path) as store:
            assert [each.command for each in store.changed_after(last)] == ["grep n9 ''"]


def test_two_writers_are_refused_and_many_readers_are_not(path):
    with StoreWriter(path) as writer:
        with pytest.raises(ConfigurationError, match="another sensor uses this store"):
            StoreWriter(path).open()
        readers = [Store.open(path) for _ in range(5)]
        seen = [[] for _ in readers]
        stop = threading.Event()

        def read(store, into):
            while not stop.is_set() or not into or into[-1] != 500:
                into.append(store.count())

        threads = [
            threading.Thread(target=read, args=pair) for pair in zip(readers, seen, strict=True)
        ]
        for thread in threads:
            thread.start()
        for start in range(0, 500, 20):
            writer.write(list(numbered(20, start=start)))
        stop.set()
        for thread in threads:
            thread.join()
        for store in readers:
            store.close()

    # Each saw whole batches only, and never less than before.
    assert all(counts == sorted(counts) for counts in seen)
    assert {count % 20 for counts in seen for count in counts} == {0}


@pytest.mark.parametrize("place", ["missing/alerts.db", "a-file/alerts.db"])
def test_a_place_that_cannot_be_used_is_said_with_its_key(tmp_path, place):
    (tmp_path / "a-file").touch()

    with pytest.raises(ConfigurationError, match=r"store\.path: .*(No such|Not a directory)"):
        StoreWriter(tmp_path / place).open()


def test_a_link_is_not_followed(tmp_path, path):
    target = tmp_path / "somebody-elses"
    target.write_bytes(b"precious")
    path.symlink_to(target)

    with pytest.raises(StoreError, match="symbolic links"):
        StoreWriter(path).open()
    assert target.read_bytes() == b"precious"


_CHILD = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_writing_the_store import numbered
from sensor.store.writer import StoreWriter
writer = StoreWriter(Path(sys.argv[1]))
writer.open()
for start in range(int(sys.argv[3]), 10**9, 3):
    writer.write(list(numbered(3, start=start)))
    print(start, flush=True)
"""


def test_kill_9_at_any_point_loses_nothing_that_was_written(path):
    """Runs over one store, each ended with SIGKILL after some batches."""
    here = Path(__file__)
    written = []
    for run in range(4):
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, path, here.parent, str(run * 10**6)],
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": f"{here.parents[1]}:{here.parents[3]}"},
        )
        written += [int(child.stdout.readline()) for _ in range(random.randint(1, 100))]
        child.kill()
        written += [int(line) for line in child.stdout.read().split(b"\n")[:-1]]
        child.wait()
        child.stdout.close()

    kept = {int(each[1:]) for each in commands(path)}
    assert {start + index for start in written for index in range(3)} <= kept
    # Whole batches: what was written and not yet told may be there, never a part of it.
    assert len(kept) % 3 == 0
    with StoreWriter(path) as writer:
        (answer,) = writer._connection().execute("PRAGMA integrity_check").fetchone()
        assert answer == "ok"
        writer.write(list(numbered(1, start=10**8)))
        assert writer.counters()["begun_anew"] == 0


def test_as_a_sink_it_has_what_the_dispatcher_was_given(path):
    sink = StoreSink(path, name="store", max_bytes=64 * MIB, max_age_s=10**9)
    dispatcher = Dispatcher([sink])
    dispatcher.start()
    for number in range(50):
        dispatcher.submit(make_alert(number, pid=number + 2), 47)
    event = make_alert(99)
    event["event"] = event["event"] | {"kind": "event"}
    dispatcher.submit(event, 0)
    assert dispatcher.close(20)

    with Store.open(path) as store:
        assert store.count() == 50
    assert dispatcher.counters()["sinks"]["store"]["own"]["written"] == 50


def test_with_a_spool_what_a_full_disk_refused_arrives_later(tmp_path, path, monkeypatch):
    sink = StoreSink(path, name="store", max_bytes=64 * MIB, max_age_s=10**9)
    spool_directory = tmp_path / "spool"
    spool_directory.mkdir()
    refused = threading.Event()

    def refuse(_):
        refused.set()
        raise StoreError("database or disk is full")

    monkeypatch.setattr(sink._writer, "write", refuse)
    dispatcher = Dispatcher([sink], spool=Spool(spool_directory, [sink]))
    dispatcher.start()
    dispatcher.submit(make_alert(0), 47)
    assert refused.wait(20)
    assert dispatcher.close(20)

    sink = StoreSink(path, name="store", max_bytes=64 * MIB, max_age_s=10**9)
    dispatcher = Dispatcher([sink], spool=Spool(spool_directory, [sink]))
    dispatcher.start()
    until_written(sink)
    assert dispatcher.close(20)
    with Store.open(path) as store:
        assert store.count() == 1


def until_written(sink):
    """The worker has no event of its own for this."""
    waiting = threading.Event()
    for _ in range(3000):
        if sink.counters()["written"]:
            return
        waiting.wait(0.01)
    raise AssertionError("nothing was written")
