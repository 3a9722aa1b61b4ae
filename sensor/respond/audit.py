"""The record of responses: one JSON line each, appended and synced before the next thing happens.

It answers who did what to which container, when and with what result, and holds what an undo needs.
"""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sensor.alerts.encode import encode
from sensor.errors import ConfigurationError
from sensor.respond.control import UNDONE_BY, Action, Network

if TYPE_CHECKING:
    from collections.abc import Iterator

_UNSET: Final = 0xFFFFFFFF  # a loginuid that was never set
_BLOCK: Final = 1 << 20
# How far an action came: `response.stage`.
BEGUN: Final = "begun"
DONE: Final = "done"
FAILED: Final = "failed"
REFUSED: Final = "refused"
UNNEEDED: Final = "unneeded"
DRY_RUN: Final = "dry_run"


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who responds. `login` is the user who logged in, whatever they became with sudo since."""

    login: str | None
    effective: str

    @classmethod
    def current(cls, *, proc_root: Path = Path("/proc")) -> Actor:
        """The user of this process, and the one who logged in (audit's loginuid, else sudo's word)."""
        try:
            uid = int((proc_root / "self" / "loginuid").read_text())
        except (OSError, ValueError):
            uid = _UNSET
        login = _user(uid) if uid != _UNSET else os.environ.get("SUDO_USER")
        return cls(login=login, effective=_user(os.geteuid()))

    def fields(self) -> dict[str, Any]:
        """As ECS has it."""
        user = {"name": self.login or self.effective}
        return user | {"effective": {"name": self.effective}} if self.login else user


class Audit:
    """The file of records, for its owner alone.

    Raises ConfigurationError where it cannot be written: nothing is done that is not recorded.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def check(self) -> None:
        """Whether a record could be written now; makes the file, and its folder."""
        try:
            self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            os.close(self._open(os.O_WRONLY | os.O_APPEND | os.O_CREAT))
        except OSError as error:
            raise ConfigurationError(f"respond.audit: {self._path}: {error.strerror}") from error

    def append(self, record: dict[str, Any]) -> None:
        """Write one record, and wait until it is on the disk."""
        data = encode(record) + b"\n"
        try:
            descriptor = self._open(os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            try:
                while data:
                    data = data[os.write(descriptor, data) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise ConfigurationError(f"respond.audit: {self._path}: {error.strerror}") from error

    def to_undo(self, container_id: str) -> tuple[Action, tuple[Network, ...]] | None:
        """The last action on the container that can be undone and was not, with its networks."""
        for record in self._backwards():
            response = record.get("response")
            if (
                not isinstance(response, dict)
                or record.get("container", {}).get("id") != container_id
            ):
                continue
            action, stage = response.get("action"), response.get("stage")
            if action in UNDONE_BY.values() and stage == DONE:
                return None
            # Also what was begun and then failed, or was cut off: part of it may have been done.
            if action in UNDONE_BY and stage == BEGUN:
                networks = msgspec.convert(response.get("networks") or [], tuple[Network, ...])
                return Action(action), networks
        return None

    def _backwards(self) -> Iterator[dict[str, Any]]:
        try:
            descriptor = self._open(os.O_RDONLY)
        except FileNotFoundError:
            return
        except OSError as error:
            raise ConfigurationError(f"respond.audit: {self._path}: {error.strerror}") from error
        with os.fdopen(descriptor, "rb") as file:
            end, rest = file.seek(0, os.SEEK_END), b""
            while end:
                start = max(0, end - _BLOCK)
                file.seek(start)
                head, *lines = (file.read(end - start) + rest).split(b"\n")
                for line in reversed(lines):
                    yield from _decoded(line)
                end, rest = start, head
            yield from _decoded(rest)

    def _open(self, flags: int) -> int:
        """Open the file; where it is made, it belongs to its folder's owner.

        The sensor's user and root share it. In a folder of that user root follows no link, and waits
        for no pipe.
        """
        flags |= os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(self._path, flags, 0o600)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            os.close(descriptor)
            raise OSError(0, "is no regular file of its own")
        if os.geteuid() == 0 and not status.st_size:
            folder = self._path.parent.stat()
            os.fchown(descriptor, folder.st_uid, folder.st_gid)
        return descriptor


def _decoded(line: bytes) -> Iterator[dict[str, Any]]:
    """The record; nothing for a line that a full disk cut off."""
    try:
        yield msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        return


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
