"""Lists and look-ups in a store of a million alerts, as the commands and the triage report ask them.

    python benchmarks/store_benchmark.py [--alerts 1000000] [--rounds 5] [--keep PATH]

The store is filled with rows made by the stages that make them in the sensor, of which numbers, times
and places are varied. Each question is asked in turn, round after round, by a reader beside an open
writer; the median and the longest are given, and the ratio of the median to reading one alert by its id.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sensor.alerts.alert import alert_document
from sensor.alerts.encode import encode
from sensor.alerts.sinks.protocol import Outgoing
from sensor.ecs import Host, event_document
from sensor.event import Cgroup, ExecEvent, Namespaces, Process
from sensor.rules.rule import Rule, Severity
from sensor.store.filter import Filter
from sensor.store.row import COLUMNS, columns, pack
from sensor.store.schema import ALERT, connect_writing
from sensor.store.store import Store
from sensor.store.writer import StoreWriter

_START_S = 1_790_000_000
_DAYS = 30
_SEED = 1
# Of each the first is the most frequent by far.
_CONTAINERS = 2000
_RULES = 40
_ACTIONS = 200
_BASES = 20_000
_BATCH = 10_000


def example(action: int, rule: int, container: int) -> dict[str, Any]:
    """An alert as the sensor makes it, of an argv of its own."""
    severity: Severity = ("low", "medium", "high", "critical")[rule % 4]
    host = Host(
        hostname="node-1",
        kernel="6.1.0",
        architecture="x86_64",
        boot_id="815a760f-8153-49e1-9d0b-da0d3b2a468c",
        machine_id=None,
        realtime_offset_ns=0,
    )
    args = ("grep", "-r", f"word{chr(97 + action % 26)}{'x' * (action // 26)}", "/srv")
    parent = Process(pid=99, start_ns=1, name="bash", executable="/bin/bash", args=("bash", "-i"))
    subject = Process(
        pid=100, start_ns=2, name="grep", executable="/usr/bin/grep", args=args, uid=action % 3
    )
    event = ExecEvent(
        time_ns=_START_S * 10**9,
        process=subject,
        names=("grep",),
        filename="/usr/bin/grep",
        tid=100,
        ppid=99,
        args=args,
        args_bytes=64,
        args_truncated=False,
        args_read_error=False,
        real_uid=0,
        real_gid=0,
        executable_deleted=False,
        executable_memfd=False,
        cgroups=(Cgroup(id=7, path="/"),),
        namespaces=Namespaces(pid=1, mnt=2, pid_is_host=False, mnt_is_host=False),
        ancestors=(parent,),
    )
    place = {
        "container": {
            "id": f"{container:064x}"[::-1],
            "name": f"service-{container}",
            "image": {"name": f"registry.example.com/team/app-{container % 50}", "tag": ["1.4"]},
            "labels": {f"com.example.label-{number}": "value" for number in range(8)},
        }
    }
    of = Rule(
        id=f"rule-{rule}",
        name=f"Rule {rule}",
        severity=severity,
        query_text="process where true",
        path="rule.yml",
        format="yaml",
    )
    return alert_document((event_document(event, host, place, 1),), of)


def rows(count: int) -> Iterator[dict[str, Any]]:
    """Rows of so many alerts, ordered by time, made of some thousands."""
    chance = random.Random(_SEED)

    def skewed(below: int) -> int:
        return int(below * chance.random() ** 3)

    bases = []
    for number in range(min(count, _BASES)):
        # Each container has some; what it does and which rules find it is skewed.
        document = example(skewed(_ACTIONS), skewed(_RULES), number % _CONTAINERS)
        bases.append(columns(document, ALERT, 0) | {"payload": pack(encode(document))})
    for number in range(count):
        base = bases[skewed(len(bases))]
        moment = int((_START_S + number * _DAYS * 86_400 / count) * 1e6)
        identifier = f"{chance.getrandbits(128):032x}"
        yield base | {"id": identifier, "time": moment, "changed": moment}


def fill(path: Path, count: int) -> None:
    """Write the rows in the store's own tables, without the writer's care for each."""
    names = ("changed", "payload", *COLUMNS)
    sql = f"INSERT INTO alert ({', '.join(names)}) VALUES ({', '.join(f':{n}' for n in names)})"
    path.touch(mode=0o600)
    database = connect_writing(path)
    database.execute("PRAGMA cache_size = -262144")
    database.execute("PRAGMA synchronous = OFF")
    batch: list[dict[str, Any]] = []
    for row in rows(count):
        batch.append(row)
        if len(batch) == _BATCH:
            write(database, sql, batch)
    write(database, sql, batch)
    database.close()


def write(database: Any, sql: str, batch: list[dict[str, Any]]) -> None:
    database.execute("BEGIN")
    database.executemany(sql, batch)
    database.execute("COMMIT")
    batch.clear()


def questions(store: Store) -> dict[str, Callable[[], Any]]:
    """What the commands ask, by what they ask for."""
    newest = store.alerts(limit=1)[0]
    document = store.alert(newest.id)
    frequent = store.alert(store.recurring(limit=1)[0].example.id)
    rare = f"service-{_CONTAINERS - 1}"
    end = _START_S + _DAYS * 86_400
    common = document["container"]["name"]
    return {
        "alert by id": lambda: store.alert(newest.id),
        "alert by the id's beginning": lambda: store.alert(newest.id[:10]),
        "newest 100": lambda: store.alerts(limit=100),
        "one rule": lambda: store.alerts(Filter(rule="rule-0")),
        "a rare container": lambda: store.alerts(Filter(container=rare)),
        "a common container, a rare rule": lambda: store.alerts(
            Filter(container=common, rule=f"rule-{_RULES - 1}")
        ),
        "a rule and an image": lambda: store.alerts(
            Filter(rule="rule-1", image="registry.example.com/team/app-49")
        ),
        "critical, of one user, in one day": lambda: store.alerts(
            Filter(
                minimum_severity=99, user="root", since=end - 10 * 86_400, until=end - 9 * 86_400
            )
        ),
        "what nothing matches": lambda: store.alerts(Filter(user="root", rule="no such rule")),
        "count all": store.count,
        "count of one rule": lambda: store.count(Filter(rule="rule-0")),
        "similar to the most frequent": lambda: store.similar(frequent),
        "100 whole documents of one image": lambda: list(
            store.documents(Filter(image="registry.example.com/team/app-0"))
        ),
        "what changed last": lambda: store.changed_after(newest.change - 1),
        "loud rules": store.rules,
        "what recurs": store.recurring,
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--alerts", type=int, default=1_000_000)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--keep", type=Path, help="a store to fill, or to use again")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = given.keep or Path(folder) / "alerts.db"
        if not path.exists():
            started = time.monotonic()
            fill(path, given.alerts)
            print(f"filled in {time.monotonic() - started:.0f} s", file=sys.stderr)
        with (
            StoreWriter(path, max_bytes=1 << 40, max_age_s=1e9) as writer,
            Store.open(path) as store,
        ):
            count = store.count()
            megabytes = path.stat().st_size / 1e6
            print(f"{count} alerts, {megabytes:.0f} MB, {megabytes * 1e6 / count:.0f} bytes each\n")
            asked = questions(store)
            taken: dict[str, list[float]] = {name: [] for name in asked}
            written: list[float] = []
            for number in range(given.rounds):
                for name, ask in asked.items():
                    started = time.perf_counter()
                    ask()
                    taken[name].append(time.perf_counter() - started)
                documents = [example(each, 1, each) for each in range(64)]
                for each, document in enumerate(documents):
                    document["event"]["id"] = f"new-{number}-{each}"
                items = [Outgoing(payload=encode(each), severity=47) for each in documents]
                started = time.perf_counter()
                writer.write(items)
                written.append((time.perf_counter() - started) / len(items))
        unit = statistics.median(taken["alert by id"])
        print(f"{'question':36} {'median ms':>10} {'longest ms':>11} {'ratio':>8}")
        for name, seconds in taken.items():
            median = statistics.median(seconds)
            print(f"{name:36} {median * 1e3:10.2f} {max(seconds) * 1e3:11.2f} {median / unit:8.1f}")
        print(f"\nwriting, each of a batch of 64: {statistics.median(written) * 1e6:.0f} µs")


if __name__ == "__main__":
    main()
