"""Reading the store: filters in, alerts out. Any number of processes may read while the sensor writes.

with Store.open(Path("/var/lib/sensor/alerts.db")) as store:
    for summary in store.alerts(Filter(container="web", minimum_severity=47), limit=20):
        document = store.alert(summary.id)
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sensor.store.errors import AlertNotFoundError, StoreError, StoreMissingError
from sensor.store.filter import Filter, conditions
from sensor.store.records import SUMMARY_COLUMNS, Position, Recurrence, Similar, Summary, Update
from sensor.store.row import action, unpack
from sensor.store.schema import ALERT, HIDDEN, connect_reading

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

_HOUR_US = 3_600_000_000
_AMBIGUOUS_SHOWN = 5


class Store:
    """An open store, for reading. Safe to use from several threads.

    Every method raises StoreError where the database cannot be read.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self._file = os.stat(path)
        self._lock = threading.Lock()

    @classmethod
    def open(cls, path: Path) -> Store:
        """Open the store at a path. Raises StoreMissingError where there is none for this user."""
        try:
            with path.open("rb"):
                pass
        except FileNotFoundError as error:
            raise StoreMissingError(
                f"{path}: there is no store; the sensor keeps one where `store.path` says"
            ) from error
        except OSError as error:
            hint = "; it is for the sensor's user and root" if error.errno == 13 else ""
            raise StoreMissingError(f"{path}: {error.strerror}{hint}") from error
        try:
            return cls(path, connect_reading(path))
        except (sqlite3.Error, OSError) as error:
            raise StoreError(f"{path}: cannot be read: {error}") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    # --- one alert ----------------------------------------------------------------------------------

    def find(self, reference: str) -> Summary:
        """The alert with this id, or the only one whose id begins so. Raises AlertNotFoundError."""
        rows = self._all(
            f"SELECT {SUMMARY_COLUMNS} FROM alert WHERE id >= ? AND id < ? ORDER BY id LIMIT ?",
            (reference, f"{reference}\U0010ffff", _AMBIGUOUS_SHOWN + 1),
        )
        found = [Summary.of(row) for row in rows]
        exact = next((each for each in found if each.id == reference), None)
        if exact is None and len(found) != 1:
            if not found or not reference:
                raise AlertNotFoundError(f"no alert in {self.path} has the id {reference!r}")
            shown = ", ".join(each.id for each in found[:_AMBIGUOUS_SHOWN])
            more = ", …" if len(found) > _AMBIGUOUS_SHOWN else ""
            raise AlertNotFoundError(f"several alerts begin with {reference!r}: {shown}{more}")
        return exact or found[0]

    def newest(self) -> Summary:
        """The newest alert of a rule. Raises AlertNotFoundError where there is none yet."""
        for each in self.alerts(Filter(notices=False), limit=1):
            return each
        raise AlertNotFoundError(f"{self.path}: there is no alert yet")

    def alert(self, reference: str) -> dict[str, Any]:
        """The whole ECS document of an alert, with its updates applied. Raises AlertNotFoundError."""
        return self._document(self.find(reference).sequence)

    def updates(self, reference: str) -> list[Update]:
        """What became known of an alert later, oldest first; of very many the last ones."""
        rows = self._all(
            "SELECT number, received, payload FROM revision WHERE alert = ? ORDER BY number",
            (self.find(reference).sequence,),
        )
        return [
            Update(number=number, received=received / 1e6, change=unpack(payload))
            for number, received, payload in rows
        ]

    # --- lists --------------------------------------------------------------------------------------

    def alerts(
        self, where: Filter | None = None, *, limit: int = 100, before: Summary | None = None
    ) -> list[Summary]:
        """Alerts in short, newest first; `before` is the last one of the page before."""
        sql, values = self._where(where or Filter())
        if before is not None:
            sql += " AND (time, seq) < (?, ?)"
            values += (before.time_us, before.sequence)
        return self._summaries(f"{sql} ORDER BY time DESC, seq DESC LIMIT ?", (*values, limit))

    def documents(
        self, where: Filter | None = None, *, limit: int = 100
    ) -> Iterator[dict[str, Any]]:
        """The same with their whole documents, one read at a time."""
        for each in self.alerts(where, limit=limit):
            with contextlib.suppress(AlertNotFoundError):  # it may have gone meanwhile
                yield self._document(each.sequence)

    def count(self, where: Filter | None = None) -> int:
        """How many alerts there are."""
        sql, values = self._where(where or Filter())
        return int(self._all(f"SELECT count(*) FROM alert{sql}", values)[0][0])

    # --- what recurs --------------------------------------------------------------------------------

    def similar(self, document: dict[str, Any]) -> Similar:
        """How often the exact action of an alert occurred, itself included, and at which hours."""
        rows = self._all(
            f"SELECT time / {_HOUR_US} % 24, kind, count(*), sum(execs), min(time), max(time)"
            " FROM alert WHERE action = ? GROUP BY 1, 2",
            (action(document),),
        )
        hours = [0] * 24
        for hour, _, count, *_ in rows:
            hours[hour] += count
        return Similar(
            action=action(document),
            alerts=sum(row[2] for row in rows if row[1] == ALERT),
            hidden=sum(row[2] for row in rows if row[1] == HIDDEN),
            execs=sum(row[3] for row in rows),
            first=min((row[4] for row in rows), default=0) / 1e6,
            last=max((row[5] for row in rows), default=0) / 1e6,
            hours_utc=tuple(hours),
        )

    def recurring(self, *, since: float = 0.0, limit: int = 20) -> list[Recurrence]:
        """The exact actions that alerted most often since a time, the most frequent first."""
        return self._recurrences("action", since, limit)

    def rules(self, *, since: float = 0.0, limit: int = 100) -> list[Recurrence]:
        """The rules by how often they alerted since a time, the loudest first."""
        return self._recurrences("rule_key", since, limit)

    # --- what is new --------------------------------------------------------------------------------

    def position(self) -> Position:
        """Where the store ends now; zeros while there is nothing in it."""
        [(change, sequence)] = self._all(
            "SELECT coalesce((SELECT max(changed) FROM alert), 0),"
            " coalesce((SELECT max(seq) FROM alert), 0)",
            (),
        )
        return Position(change=change, sequence=sequence)

    def changed_after(
        self, change: int, where: Filter | None = None, *, limit: int = 1000
    ) -> list[Summary]:
        """Alerts that were written or updated after a change, in that order."""
        sql, values = self._where(where or Filter(hidden=True))
        # What is new is little: no other index would find it sooner.
        return self._summaries(
            f" INDEXED BY by_change{sql} AND changed > ? ORDER BY changed LIMIT ?",
            (*values, change, limit),
        )

    def version(self) -> int:
        """A number that differs whenever somebody has written; a few microseconds."""
        return int(self._all("PRAGMA data_version", ())[0][0])

    def is_current(self) -> bool:
        """Whether the path still names the database that is open: a broken one is replaced."""
        try:
            return os.path.samestat(os.stat(self.path), self._file)
        except OSError:
            return False

    # --- queries ------------------------------------------------------------------------------------

    def _recurrences(self, column: str, since: float, limit: int) -> list[Recurrence]:
        execs = "sum(execs)" if column == "action" else "0"
        rows = self._all(
            f"SELECT {column}, count(*), {execs}, min(time), max(time), max(seq) FROM alert"
            f" WHERE {column} IS NOT NULL AND kind = {ALERT} AND time >= ?"
            " GROUP BY 1 ORDER BY 2 DESC LIMIT ?",
            (int(since * 1e6), limit),
        )
        result = []
        for _, count, execs_count, first, last, seq in rows:
            summaries = self._summaries(" WHERE seq = ?", (seq,))
            result += [
                Recurrence(
                    example=summary,
                    alerts=count,
                    execs=max(execs_count, count),
                    first=first / 1e6,
                    last=last / 1e6,
                )
                for summary in summaries
            ]
        return result

    def _where(self, where: Filter) -> tuple[str, tuple[Any, ...]]:
        return conditions(where, self._all)

    def _document(self, sequence: int) -> dict[str, Any]:
        rows = self._all("SELECT payload FROM alert WHERE seq = ?", (sequence,))
        if not rows:
            raise AlertNotFoundError("the alert is no longer in the store")
        return unpack(rows[0][0])

    def _summaries(self, rest: str, values: tuple[Any, ...]) -> list[Summary]:
        return [
            Summary.of(row)
            for row in self._all(f"SELECT {SUMMARY_COLUMNS} FROM alert{rest}", values)
        ]

    def _all(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        try:
            with self._lock:
                return self._connection.execute(sql, values).fetchall()
        except sqlite3.Error as error:
            if "no such table" in str(error):
                raise StoreMissingError(f"{self.path}: the store is still empty") from error
            raise StoreError(f"{self.path}: cannot be read: {error}") from error
