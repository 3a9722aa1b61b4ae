"""What store and spool share of a SQLite file's life: its place is claimed, it is made, and set aside."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import pwd
import shlex
from pathlib import Path

_log = logging.getLogger(__name__)

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


def claim(place: Path) -> int:
    """Lock a file for this process, and return the descriptor that holds the lock.

    Raises BlockingIOError where another process has it, another OSError where it cannot be had.
    """
    descriptor = os.open(place, _FLAGS, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def make_private(path: Path) -> None:
    """Make the file, if there is none, for its owner alone: SQLite gives its own the same rights."""
    descriptor = os.open(path, _FLAGS, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
    finally:
        os.close(descriptor)


def set_aside(path: Path, error: Exception, now: float) -> None:
    """Keep a database that cannot be read as `NAME.broken-SECONDS`, and log that. Raises OSError."""
    aside = path.with_name(f"{path.name}.broken-{int(now)}")
    _log.error("%s is broken (%s); kept as %s", path, error, aside)
    # The log first: with another database it would be taken for that one's.
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    path.rename(aside)


def unusable(place: Path, error: OSError) -> str:
    """Say why a place cannot be used, and what there is to do where its folder is the reason."""
    folder, user = place.parent, _name(os.geteuid())
    advice = ""
    if error.errno == errno.ENOENT and not folder.exists():
        made = shlex.join(["install", "-d", "-o", user, "-m", "0700", str(folder)])
        advice = f"; make the folder for the sensor's user: {made}"
    elif error.errno in (errno.EACCES, errno.EPERM):
        try:
            advice = f"; {folder} belongs to {_name(folder.stat().st_uid)}, not to {user}"
        except OSError:
            advice = f"; {user} may not go into {folder}"
    return f"{place}: cannot be used: {error.strerror}{advice}"


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
