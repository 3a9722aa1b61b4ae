"""Dropping privileges: from root to a user that can do nothing, for good.

In: the user's name and the sockets it must still be able to open. Out: what is left, read back from
the kernel. Raises `PrivilegeError` when anything is left that should be gone.
"""

from __future__ import annotations

import ctypes as ct
import os
import pwd
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sensor.errors import ConfigurationError, PrivilegeError

_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapAmb")


@dataclass(frozen=True, slots=True, kw_only=True)
class Privileges:
    """What a process has, as /proc/PID/status says. `capabilities` maps sets to their bits."""

    uid: int
    groups: tuple[int, ...]
    capabilities: dict[str, int]

    @property
    def are_none(self) -> bool:
        return self.uid != 0 and not any(self.capabilities.values())


def current(status: Path = Path("/proc/self/status")) -> Privileges:
    lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return Privileges(
        uid=int(lines["Uid"].split()[1]),
        groups=tuple(int(group) for group in lines["Groups"].split()),
        capabilities={name: int(lines[name], 16) for name in _CAPABILITY_SETS},
    )


def drop(user: str, sockets: Iterable[str] = ()) -> Privileges:
    """Become `user`, keeping only the groups that may open the sockets.

    Must run before any thread starts: capabilities belong to threads.
    """
    try:
        entry = pwd.getpwnam(user)
    except KeyError as exc:
        raise ConfigurationError(f"user: there is no user named {user!r}") from exc
    if entry.pw_uid == 0:
        raise PrivilegeError(f"user {user!r} is root: name another, or say --keep-privileges")
    groups = sorted({group for path in sockets if (group := _group(path)) is not None})
    libc = ct.CDLL(None, use_errno=True)
    try:
        # The bounding set first: it takes the capability that goes next.
        capability = 0
        while libc.prctl(_PR_CAPBSET_READ, capability, 0, 0, 0) >= 0:
            libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
            capability += 1
        os.setgroups(groups)
        os.setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid)
        os.setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid)
    except OSError as exc:
        raise PrivilegeError(
            f"privileges cannot be dropped ({exc.strerror}): start as root with CAP_SETUID and "
            "CAP_SETGID, or say --keep-privileges"
        ) from exc
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise PrivilegeError("the kernel refuses no_new_privs")
    left = current()
    if not left.are_none:
        raise PrivilegeError(f"privileges are left after dropping them: {left}")
    return left


def _group(path: str) -> int | None:
    """The group that may write to a socket; None where it is open to all, or only to its owner."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_gid if status.st_mode & 0o020 else None
