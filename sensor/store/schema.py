"""The database: its tables, and how a connection is set up.

Filters compare 64-bit keys of texts rather than the texts: indexes of a million alerts stay small, and
a text of any length costs the same. Every index ends with time and severity, so that a list, newest
first, is read from the index in order.
"""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path
from typing import Final
from urllib.parse import quote

from sensor.store.errors import StoreError

SCHEMA_VERSION: Final = 1

# Times are microseconds since the epoch. `changed` grows with each change of any row, also over
# a store that was begun anew. `payload` is the document as JSON, compressed. `action` is the key of the
# exact action; `execs` how many it stands for by now; `updates` how many updates it has had.
SCHEMA: Final = f"""
CREATE TABLE alert (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    changed INTEGER NOT NULL,
    time INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    severity INTEGER NOT NULL,
    risk_score INTEGER NOT NULL,
    rule_key INTEGER,
    rule_id TEXT,
    rule_name TEXT,
    container_id TEXT,
    container_key INTEGER,
    container_name TEXT,
    image_key INTEGER,
    image TEXT,
    user_id_key INTEGER,
    user_id TEXT,
    user_name_key INTEGER,
    user_name TEXT,
    namespace TEXT,
    pod TEXT,
    command TEXT NOT NULL,
    action INTEGER,
    execs INTEGER NOT NULL DEFAULT 1,
    updates INTEGER NOT NULL DEFAULT 0,
    payload BLOB NOT NULL
);
CREATE INDEX by_time ON alert (time, severity, kind);
CREATE INDEX by_change ON alert (changed);
CREATE INDEX by_severity ON alert (severity, seq);
CREATE INDEX by_rule ON alert (rule_key, time, severity, kind);
CREATE INDEX by_container_id ON alert (container_id, time, severity, kind)
    WHERE container_id IS NOT NULL;
CREATE INDEX by_container ON alert (container_key, time, severity, kind)
    WHERE container_key IS NOT NULL;
CREATE INDEX by_image ON alert (image_key, time, severity, kind) WHERE image_key IS NOT NULL;
CREATE INDEX by_user_id ON alert (user_id_key, time, severity, kind)
    WHERE user_id_key IS NOT NULL;
CREATE INDEX by_user_name ON alert (user_name_key, time, severity, kind)
    WHERE user_name_key IS NOT NULL;
CREATE INDEX by_action ON alert (action, time, kind, execs) WHERE action IS NOT NULL;
CREATE TABLE revision (
    alert INTEGER NOT NULL REFERENCES alert (seq) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    received INTEGER NOT NULL,
    digest INTEGER NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (alert, number)
) WITHOUT ROWID;
PRAGMA user_version = {SCHEMA_VERSION};
"""

HIDDEN: Final = 0
ALERT: Final = 1
NOTICE: Final = 2


def key(text: str) -> int:
    """A text as the 64-bit number that stands for it in an index."""
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big", signed=True)


def connect_writing(path: Path) -> sqlite3.Connection:
    """A connection for the one writer; the file is there already. Raises sqlite3.Error."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            connection.executescript("PRAGMA auto_vacuum = INCREMENTAL; VACUUM;" + SCHEMA)
        elif version != SCHEMA_VERSION:
            raise sqlite3.DatabaseError("made by another version of the sensor")  # noqa: TRY301
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA cache_size = -512")
        connection.execute("PRAGMA journal_size_limit = 8388608")
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reading(path: Path) -> sqlite3.Connection:
    """A connection that can change nothing. Raises sqlite3.Error and StoreError.

    What wrote the file had fewer rights than who may read it: nothing in its schema is trusted.
    """
    uri = f"file:{quote(str(path.absolute()))}?mode=ro"
    connection = sqlite3.connect(
        uri, uri=True, isolation_level=None, check_same_thread=False, timeout=5.0
    )
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cell_size_check = ON")
        connection.execute("PRAGMA query_only = ON")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version not in (0, SCHEMA_VERSION):
            raise StoreError(  # noqa: TRY301 - closed as for any other
                f"{path}: made by another version of the sensor ({version}, not {SCHEMA_VERSION})"
            )
    except BaseException:
        connection.close()
        raise
    return connection
