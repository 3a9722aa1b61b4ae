"""Documents on disk until every sink has them: appended once, read by each sink from its own position.

One SQLite database in WAL mode. What was appended survives the end of the process by any means at
once, and a loss of power after the next `maintain`. When it is full, the oldest of the lowest severity
goes first, and is counted.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sqlite3
import threading
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sensor.alerts.database_file import claim, make_private, set_aside, unusable
from sensor.alerts.sinks.protocol import Outgoing
from sensor.alerts.worker import BacklogError
from sensor.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Self

    from sensor.alerts.sinks.protocol import Sink

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE document (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    created REAL NOT NULL,
    severity INTEGER NOT NULL,
    is_alert INTEGER NOT NULL,
    size INTEGER NOT NULL,
    payload BLOB NOT NULL
);
CREATE INDEX least_severe_first ON document (severity, position);
CREATE TABLE cursor (sink TEXT PRIMARY KEY, position INTEGER NOT NULL) WITHOUT ROWID;
PRAGMA user_version = 1;
"""

_OTHER_VERSION = "made by another version of the sensor"

# What a row costs beside its payload, roughly.
_ROW_BYTES = 64
_READ_BYTES = 8 << 20
_READ_ROWS = 1000
_DELETE_ROWS = 500
_FREE_PAGES = 1024
# So many of the last items are remembered as they were appended: what other sinks have found out of them
# by then, such as where their secrets are, need not be found out again.
_REMEMBERED = 16
_BACKSTOP_PAGES = 25_000


class Spool:
    """The queue of all durable sinks. Safe to use from several threads.

    `max_bytes` bounds the documents' size, `max_age` their age in seconds. Raises ConfigurationError
    when the directory cannot be used or another sensor uses it, and BacklogError when the disk fails:
    then the sensor can go on without.
    """

    def __init__(
        self,
        directory: Path,
        sinks: Sequence[Sink],
        *,
        max_bytes: int = 256 << 20,
        max_age: float = 7 * 86_400.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = directory / "spool.db"
        self._sinks = {sink.name: sink for sink in sinks}
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._clock = clock
        self._write_lock = threading.Lock()
        self._read_lock = threading.Lock()
        self._changed = False
        self._remembered: OrderedDict[int, Outgoing] = OrderedDict()
        self._appended = 0
        self._evicted: Counter[int] = Counter()
        self._expired = 0
        self._behind = dict.fromkeys(self._sinks, 0)
        self._lock_descriptor = _lock(directory)
        try:
            self._open_or_begin_anew()
        except BaseException:
            os.close(self._lock_descriptor)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, items: Sequence[Outgoing]) -> None:
        """Write the items down, all or none. Raises BacklogError."""
        now = self._clock()
        rows = [
            (now, item.severity, item.is_alert, len(item.payload) + _ROW_BYTES, item.payload)
            for item in items
        ]
        added = sum(row[3] for row in rows)
        with self._writing() as change:
            change.database.executemany(
                "INSERT INTO document (created, severity, is_alert, size, payload)"
                " VALUES (?, ?, ?, ?, ?)",
                rows,
            )
            change.rows += len(rows)
            change.size += added
            (last,) = change.database.execute("SELECT last_insert_rowid()").fetchone()
            evicted = _evict(change, self._bytes + added - self._max_bytes)
            # Before any reader can see them: positions of one transaction follow each other.
            for position, item in enumerate(items, last - len(rows) + 1):
                self._remembered[position] = item
            while len(self._remembered) > _REMEMBERED:
                self._remembered.popitem(last=False)
        self._evicted += evicted
        self._appended += len(rows)

    def read(self, sink: str, limit: int) -> tuple[list[Outgoing], int]:
        """Give up to `limit` documents that a sink wants and does not have, oldest first.

        With them comes the position to say `done` to, or 0 where there is nothing at all. Raises
        BacklogError.
        """
        accepts = self._sinks[sink].accepts
        found: list[Outgoing] = []
        size = last = 0
        query = (
            "SELECT position, severity, is_alert, payload FROM document"
            " WHERE position > ? ORDER BY position LIMIT ?"
        )
        with self._reading() as database:
            # Only some are wanted, it may be, and one call must not go through them all.
            cursor = database.execute(query, (self._cursors[sink], max(limit, _READ_ROWS)))
            with contextlib.closing(cursor) as rows:
                for position, severity, is_alert, payload in rows:
                    if accepts(severity, is_alert=bool(is_alert)):
                        if len(found) == limit or size > _READ_BYTES:
                            break
                        size += len(payload)
                        item = self._remembered.get(position)
                        if item is None or item.payload != payload:
                            item = Outgoing(
                                payload=payload, severity=severity, is_alert=bool(is_alert)
                            )
                        found.append(item)
                    last = position
        return found, last

    def done(self, sink: str, position: int) -> None:
        """All of a sink's documents up to the position are dealt with. Raises BacklogError."""
        # In memory first: what cannot be written down now is still not sent a second time.
        self._cursors[sink] = position
        with self._writing() as change:
            change.database.execute("REPLACE INTO cursor VALUES (?, ?)", (sink, position))
            least = min(self._cursors.values())
            if least > self._deleted:
                condition = "FROM document WHERE position <= ?"
                rows, size = change.database.execute(
                    f"SELECT count(*), total(size) {condition}", (least,)
                ).fetchone()
                change.database.execute(f"DELETE {condition}", (least,))
                change.rows -= rows
                change.size -= int(size)
                change.deleted = least
                for remembered in [each for each in self._remembered if each <= least]:
                    del self._remembered[remembered]

    def maintain(self) -> None:
        """Make what was written safe from a loss of power, and clear away. May take long.

        To be called about once a second from a thread that nobody waits for. Raises BacklogError.
        """
        if self._changed:
            self._changed = False
            self._synchronise()
        if self._rows:
            self._expire(self._clock() - self._max_age)

    def _synchronise(self) -> None:
        try:
            with Path(f"{self._path}-wal").open("rb") as write_ahead_log:
                os.fsync(write_ahead_log.fileno())
            # A connection of its own: it copies to the database beside those who write and read.
            self._keeper.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            with self._write_lock:
                (free,) = self._writer.execute("PRAGMA freelist_count").fetchone()
                if free > _FREE_PAGES:
                    # As a script: `execute` takes one step of this, and each step frees one page.
                    self._writer.executescript(f"PRAGMA incremental_vacuum({_FREE_PAGES})")
        except (sqlite3.Error, OSError) as error:
            raise BacklogError(f"spool: {error}") from error

    def counters(self) -> dict[str, Any]:
        """Count what is in it now, and documents since the start; `behind` by sink."""
        with contextlib.suppress(BacklogError), self._reading() as database:
            query = "SELECT count(*) FROM document WHERE position > ?"
            for sink, position in self._cursors.items():
                (self._behind[sink],) = database.execute(query, (position,)).fetchone()
        return {
            "documents": self._rows,
            "bytes": self._bytes,
            "appended": self._appended,
            "evicted": sum(self._evicted.values()),
            "evicted_by_severity": dict(self._evicted),
            "expired": self._expired,
            "behind": dict(self._behind),
        }

    @property
    def lost(self) -> int:
        """Documents that went before every sink had them."""
        return sum(self._evicted.values()) + self._expired

    def close(self) -> None:
        """Write everything down and let go of the files."""
        with self._write_lock, self._read_lock:
            for connection in (self._reader, self._keeper, self._writer):
                connection.close()
        os.close(self._lock_descriptor)

    def _open_or_begin_anew(self) -> None:
        try:
            self._open()
        except (sqlite3.OperationalError, OSError) as error:
            # A full or failing disk: the file itself may be well.
            raise BacklogError(f"{self._path}: cannot be used: {error}") from error
        except sqlite3.DatabaseError as error:
            try:
                set_aside(self._path, error, self._clock())
                self._open()
            except (sqlite3.Error, OSError) as again:
                raise BacklogError(f"{self._path}: cannot be begun anew: {again}") from again

    def _open(self) -> None:
        make_private(self._path)
        self._writer = self._connect()
        try:
            (version,) = self._writer.execute("PRAGMA user_version").fetchone()
            if version == 0:
                self._writer.executescript("PRAGMA auto_vacuum = INCREMENTAL; VACUUM;" + _SCHEMA)
            elif version != SCHEMA_VERSION:
                raise sqlite3.DatabaseError(_OTHER_VERSION)  # noqa: TRY301 - as for a broken one
            self._writer.execute("PRAGMA journal_mode = WAL").fetchall()
            self._reader = self._connect()
            self._keeper = self._connect()
            self._cursors = self._restore(self._writer)
            rows, size = self._writer.execute(
                "SELECT count(*), total(size) FROM document"
            ).fetchone()
        except BaseException:
            self._writer.close()
            raise
        self._rows, self._bytes = rows, int(size)
        self._deleted = 0  # the position up to which documents are gone
        if rows:
            log.warning("spool: %d documents are left from an earlier run", rows)

    def _restore(self, database: sqlite3.Connection) -> dict[str, int]:
        """Give each sink's position; a sink that is new begins after all that is there."""
        known = dict(database.execute("SELECT sink, position FROM cursor"))
        (last,) = database.execute(
            "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'document'"
        ).fetchone()
        cursors = {name: known.get(name, last) for name in self._sinks}
        database.execute("BEGIN IMMEDIATE")
        database.execute("DELETE FROM cursor")
        database.executemany("INSERT INTO cursor VALUES (?, ?)", cursors.items())
        least = min(cursors.values(), default=last)
        database.execute("DELETE FROM document WHERE position <= ?", (least,))
        database.execute("COMMIT")
        return cursors

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, isolation_level=None, check_same_thread=False, timeout=5.0
        )
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -256")
        # `maintain` moves the log into the database; without it, the log still ends somewhere.
        connection.execute(f"PRAGMA wal_autocheckpoint = {_BACKSTOP_PAGES}")
        return connection

    def _expire(self, before: float) -> None:
        with self._reading() as database:
            oldest = database.execute(
                "SELECT created FROM document ORDER BY position LIMIT 1"
            ).fetchone()
        if oldest is None or oldest[0] >= before:
            return
        with self._writing() as change:
            rows = change.database.execute(
                "SELECT position, size FROM document WHERE created < ? ORDER BY position LIMIT ?",
                (before, _DELETE_ROWS),
            ).fetchall()
            change.database.executemany(
                "DELETE FROM document WHERE position = ?", [(position,) for position, _ in rows]
            )
            change.rows -= len(rows)
            change.size -= sum(size for _, size in rows)
        self._expired += len(rows)

    @contextlib.contextmanager
    def _writing(self) -> Iterator[_Change]:
        """Run a transaction; the totals follow when it has been committed."""
        with self._write_lock:
            change = _Change(database=self._writer)
            try:
                self._writer.execute("BEGIN IMMEDIATE")
                yield change
                self._writer.execute("COMMIT")
            except sqlite3.Error as error:
                # SQLite ends the transaction itself after some errors, such as a full disk.
                if self._writer.in_transaction:
                    self._writer.execute("ROLLBACK")
                raise BacklogError(f"spool: {error}") from error
            self._rows += change.rows
            self._bytes += change.size
            self._deleted = max(self._deleted, change.deleted)
            self._changed = True

    @contextlib.contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._read_lock:
            try:
                yield self._reader
            except sqlite3.Error as error:
                raise BacklogError(f"spool: {error}") from error


@dataclass(slots=True, kw_only=True)
class _Change:
    """A transaction that is going on, and what it changes in the totals."""

    database: sqlite3.Connection
    rows: int = 0
    size: int = 0
    deleted: int = 0


def _evict(change: _Change, excess: int) -> Counter[int]:
    """Delete the oldest of the lowest severity until so many bytes are free; count by severity."""
    evicted: Counter[int] = Counter()
    limit = 1  # mostly one makes room for one, and each row that is looked at is a page to read
    while excess > 0:
        rows = change.database.execute(
            "SELECT position, severity, size FROM document ORDER BY severity, position LIMIT ?",
            (limit,),
        ).fetchall()
        limit = min(4 * limit, _DELETE_ROWS)
        if not rows:
            break
        for position, severity, size in rows:
            change.database.execute("DELETE FROM document WHERE position = ?", (position,))
            change.rows -= 1
            change.size -= size
            excess -= size
            evicted[severity] += 1
            if excess <= 0:
                break
    return evicted


def _lock(directory: Path) -> int:
    """Claim the directory: two sensors would each send what the other has sent."""
    path = directory / "spool.lock"
    try:
        return claim(path)
    except BlockingIOError as error:
        raise ConfigurationError(f"{directory}: another sensor uses this spool") from error
    except OSError as error:
        raise ConfigurationError(f"spool.directory: {unusable(path, error)}") from error
