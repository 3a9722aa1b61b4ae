"""Writing the store: documents in, rows out, within bounds of size and age, whatever happens to the disk.

One SQLite database in WAL mode with one writing process; what was written survives the end of the
process by any means at once. Nothing here is for the event thread.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import sqlite3
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sensor.alerts.database_file import claim, make_private, set_aside, unusable
from sensor.alerts.encode import encode
from sensor.errors import ConfigurationError
from sensor.store.errors import StoreError
from sensor.store.row import COLUMNS, columns, kind_of, pack, unpack
from sensor.store.schema import connect_writing, key
from sensor.store.update import as_alert, change_of, merged, updated_alert

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Self

    from sensor.alerts.sinks.protocol import Outgoing

_log = logging.getLogger(__name__)

_DELETE_ROWS: Final = 256
_FREE_PAGES: Final = 1024
_REVISIONS_MAX: Final = 200  # of one alert; an action that goes on for days has an update a minute
_INSERT = (
    f"INSERT OR IGNORE INTO alert ({', '.join(COLUMNS)}, changed, payload)"
    f" VALUES ({', '.join(f':{name}' for name in COLUMNS)}, :changed, :payload)"
)
_SET = ", ".join(
    f"{name} = :{name}" for name in COLUMNS if name not in ("id", "time", "kind", "severity")
)
_UPDATE = (
    f"UPDATE alert SET {_SET}, changed = :changed, payload = :payload,"
    " updates = updates + 1 WHERE seq = :seq"
)


class StoreWriter:
    """The one writer of a store. Safe to use from several threads.

    `max_bytes` bounds the database's pages in use, `max_age_s` the alerts' age. `open` raises
    ConfigurationError for a place that cannot be used, or is used by another sensor; everything
    raises StoreError when the disk fails: then it may be tried again.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int = 256 << 20,
        max_age_s: float = 30 * 86_400.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._max_age_s = max_age_s
        self._clock = clock
        self._lock = threading.Lock()
        self._claim: int | None = None
        self._database: sqlite3.Connection | None = None
        self._file: os.stat_result | None = None
        self._last_change = 0
        self._counts: Counter[str] = Counter(
            dict.fromkeys(("written", "updates", "evicted", "expired", "begun_anew"), 0)
        )

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open(self) -> None:
        """Claim the place and open the database; one that is broken is set aside."""
        with self._lock:
            self._connection()

    def write(self, items: Sequence[Outgoing]) -> None:
        """Write the items down, all or none. What is there already is not written again."""
        with self._lock:
            try:
                self._write(items)
            except sqlite3.OperationalError as error:
                raise StoreError(f"{self._path}: {error}") from error
            except sqlite3.DatabaseError as error:
                self._begin_anew(error)
                try:
                    self._write(items)
                except sqlite3.Error as again:
                    raise StoreError(f"{self._path}: {again}") from again

    def maintain(self) -> None:
        """Let go of what is too old, and of free pages. About once a minute."""
        with self._lock:
            try:
                with self._transaction() as database:
                    expired = self._expire(database)
                self._counts["expired"] += expired
                self._give_back(database, expired)
                database.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            except sqlite3.OperationalError as error:
                raise StoreError(f"{self._path}: {error}") from error
            except sqlite3.DatabaseError as error:
                self._begin_anew(error)

    def counters(self) -> dict[str, int]:
        """Count since the start.

        `evicted` went for want of room, `expired` of age; `begun_anew` counts databases that were
        set aside as broken, or were taken away while they were in use.
        """
        return dict(self._counts)

    def close(self) -> None:
        """Write everything down and let go of the files."""
        with self._lock:
            self._disconnect()
            if self._claim is not None:
                os.close(self._claim)
                self._claim = None

    # --- the database -------------------------------------------------------------------------------

    def _connection(self) -> sqlite3.Connection:
        if self._claim is None:
            self._claim = _claim(self._path)
        if self._database is not None and not self._is_there():
            _log.error("store: %s was taken away; a new one is begun", self._path)
            self._counts["begun_anew"] += 1
            self._disconnect()
        if self._database is None:
            try:
                self._connect()
            except (sqlite3.OperationalError, OSError) as error:
                # A full or failing disk: the file itself may be well.
                raise StoreError(f"{self._path}: cannot be used: {error}") from error
            except sqlite3.DatabaseError as error:
                self._begin_anew(error)
        assert self._database is not None  # noqa: S101 - `_connect` has set it or raised
        return self._database

    def _connect(self) -> None:
        make_private(self._path)
        self._database = connect_writing(self._path)
        try:
            self._file = os.stat(self._path)
            (changed,) = self._database.execute("SELECT max(changed) FROM alert").fetchone()
        except BaseException:
            self._disconnect()
            raise
        self._last_change = max(self._last_change, changed or 0)

    def _disconnect(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None

    def _is_there(self) -> bool:
        try:
            return self._file is not None and os.path.samestat(os.stat(self._path), self._file)
        except OSError:
            return False

    def _begin_anew(self, error: Exception) -> None:
        """Keep a database that cannot be read under another name. Raises StoreError."""
        self._disconnect()
        self._counts["begun_anew"] += 1
        try:
            set_aside(self._path, error, self._clock())
            self._connect()
        except (OSError, sqlite3.Error) as again:
            raise StoreError(f"{self._path}: cannot be begun anew: {again}") from again

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        database = self._connection()
        database.execute("BEGIN IMMEDIATE")
        try:
            yield database
            database.execute("COMMIT")
        except BaseException:
            # SQLite ends the transaction itself after some errors, such as a full disk.
            if database.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    database.execute("ROLLBACK")
            raise

    # --- rows ---------------------------------------------------------------------------------------

    def _write(self, items: Sequence[Outgoing]) -> None:
        counts: Counter[str] = Counter()
        with self._transaction() as database:
            for item in items:
                counts[self._take(database, item)] += 1
            counts["evicted"] = self._evict(database)
        self._give_back(database, counts["evicted"])
        del counts[""]
        self._counts.update(counts)

    def _take(self, database: sqlite3.Connection, item: Outgoing) -> str:
        """Insert or update; gives the counter's name, empty for what is there already."""
        document = item.document
        kind = kind_of(document)
        if kind is None:
            return ""
        target = updated_alert(document)
        if not target:
            return self._insert(database, document, kind, item.payload)
        found = database.execute(
            "SELECT seq, payload FROM alert WHERE id = ?", (target,)
        ).fetchone()
        if found is None:
            alert = as_alert(document)
            self._insert(database, alert, kind, encode(alert))
            found = database.execute(
                "SELECT seq, payload FROM alert WHERE id = ?", (target,)
            ).fetchone()
        seq, packed = found
        return self._update(database, seq, packed, document, kind)

    def _insert(
        self, database: sqlite3.Connection, document: dict[str, Any], kind: int, payload: bytes
    ) -> str:
        values = columns(document, kind, int(self._clock() * 1e6))
        values |= {"changed": self._change(), "payload": pack(payload)}
        return "written" if database.execute(_INSERT, values).rowcount else ""

    def _update(
        self,
        database: sqlite3.Connection,
        seq: int,
        packed: bytes,
        update: dict[str, Any],
        kind: int,
    ) -> str:
        change = change_of(update)
        payload = encode(change)
        digest = key(payload.decode())
        known = database.execute(
            "SELECT 1 FROM revision WHERE alert = ? AND digest = ?", (seq, digest)
        ).fetchone()
        if known is not None:
            return ""
        (last,) = database.execute(
            "SELECT coalesce(max(number), 0) FROM revision WHERE alert = ?", (seq,)
        ).fetchone()
        database.execute(
            "INSERT INTO revision VALUES (?, ?, ?, ?, ?)",
            (seq, last + 1, int(self._clock() * 1e6), digest, pack(payload)),
        )
        database.execute(
            "DELETE FROM revision WHERE alert = ? AND number <= ?", (seq, last + 1 - _REVISIONS_MAX)
        )
        alert = merged(unpack(packed), change)
        values = columns(alert, kind, 0)
        values |= {"seq": seq, "changed": self._change(), "payload": pack(encode(alert))}
        database.execute(_UPDATE, values)
        return "updates"

    def _change(self) -> int:
        """The next number of a change: the time, so that it grows over a new database, too."""
        self._last_change = max(self._last_change + 1, int(self._clock() * 1e6))
        return self._last_change

    def _evict(self, database: sqlite3.Connection) -> int:
        """Delete the oldest of the lowest severity while more pages are in use than may be."""
        evicted = 0
        while self._excess(database) > 0:
            deleted = database.execute(
                "DELETE FROM alert WHERE seq IN"
                " (SELECT seq FROM alert ORDER BY severity, seq LIMIT ?)",
                (_DELETE_ROWS,),
            ).rowcount
            evicted += deleted
            if deleted == 0:
                break
        return evicted

    def _excess(self, database: sqlite3.Connection) -> int:
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        (free,) = database.execute("PRAGMA freelist_count").fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
        return int((pages - free) * size - self._max_bytes)

    def _expire(self, database: sqlite3.Connection) -> int:
        before = int((self._clock() - self._max_age_s) * 1e6)
        expired = 0
        while deleted := database.execute(
            "DELETE FROM alert WHERE seq IN"
            " (SELECT seq FROM alert WHERE time < ? ORDER BY time LIMIT ?)",
            (before, _DELETE_ROWS),
        ).rowcount:
            expired += deleted
        return expired

    @staticmethod
    def _give_back(database: sqlite3.Connection, deleted: int) -> None:
        """Give the file system free pages back."""
        if deleted:
            # As a script: `execute` takes one step of this, and each step frees one page.
            database.executescript(f"PRAGMA incremental_vacuum({_FREE_PAGES})")


def _claim(path: Path) -> int:
    """Claim the place for this process: of two writers each would bound what the other wrote."""
    place = path.with_name(f"{path.name}.lock")
    try:
        return claim(place)
    except BlockingIOError as error:
        raise ConfigurationError(f"store.path: {path}: another sensor uses this store") from error
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise StoreError(f"{place}: {error.strerror}") from error
        raise ConfigurationError(f"store.path: {unusable(place, error)}") from error
