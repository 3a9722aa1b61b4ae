"""Alerts in a file: one JSON line each, for the owner alone, turned over by size and age."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

from sensor.alerts.sinks.base import ConfiguredSink
from sensor.alerts.sinks.protocol import DELIVERED, Outcome, Outgoing, SinkError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sensor.alerts.sinks.options import FileOptions


class FileSink(ConfiguredSink):
    """Appends to a file. What is turned over is `path.1`, and the one before it `path.2`.

    Where somebody else turns the file over (logrotate), the new one is used from the next alert on.
    """

    def __init__(self, options: FileOptions, *, clock: Callable[[], float] = time.time) -> None:
        super().__init__(options, kind="file", batch_size=256)
        self._options = options
        self._path = Path(options.path)
        self._clock = clock
        self._descriptor: int | None = None
        self._started = 0.0

    def deliver(self, batch: Sequence[Outgoing]) -> Outcome:
        """Append the batch, in parts that each fit into a file; each part whole, or not at all."""
        done = 0
        while done < len(batch):
            part = self._fitting(batch[done:])
            try:
                self._append(b"".join(item.payload + b"\n" for item in part))
            except OSError as error:
                self.close()
                if done:
                    return Outcome(retry=batch[done:])
                raise SinkError(f"{self._path}: {error.strerror}") from error
            done += len(part)
        return DELIVERED

    def _fitting(self, batch: Sequence[Outgoing]) -> Sequence[Outgoing]:
        """As many as a file may hold; one at least."""
        size = 0
        for number, item in enumerate(batch):
            size += len(item.payload) + 1
            if number and size > self._options.max_bytes:
                return batch[:number]
        return batch

    def _append(self, data: bytes) -> None:
        descriptor = self._open(len(data))
        size = os.fstat(descriptor).st_size
        try:
            self._write(descriptor, data)
        except OSError:
            # A full disk takes part of a line; a second try must not follow that part.
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, size)
            raise

    def trouble(self) -> str | None:
        """A folder in which this user can make and rename no file, or a file it may not write to."""
        folder = self._path.parent
        if not folder.is_dir():
            return f"{folder}: there is no such folder"
        if not os.access(folder, os.W_OK | os.X_OK, effective_ids=True):
            return f"{folder}: this user may not write there: chown it to the sensor's user"
        if self._path.exists() and not os.access(self._path, os.W_OK, effective_ids=True):
            return f"{self._path}: this user may not write to it: chown it to the sensor's user"
        return None

    def close(self) -> None:
        """Let go of the file."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self, more: int) -> int:
        """Give the descriptor to append to, with room for so many bytes."""
        if self._descriptor is not None and not self._is_ours(self._descriptor):
            self.close()
        if self._descriptor is None:
            self._descriptor = self._create()
        status = os.fstat(self._descriptor)
        too_large = status.st_size and status.st_size + more > self._options.max_bytes
        too_old = status.st_size and self._clock() - self._started > self._options.max_age
        if too_large or too_old:
            self.close()
            self._turn_over()
            self._descriptor = self._create()
        return self._descriptor

    def _create(self) -> int:
        flags = (
            os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        )
        descriptor = os.open(self._path, flags, 0o600)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise OSError(0, "is no regular file")
        # The age of what is in it already: the last change is the latest it can have begun.
        self._started = status.st_mtime if status.st_size else self._clock()
        return descriptor

    def _is_ours(self, descriptor: int) -> bool:
        """Whether the path still names the file that is open."""
        try:
            there = os.stat(self._path, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(there, os.fstat(descriptor))

    def _turn_over(self) -> None:
        keep = self._options.keep
        if keep == 0:
            self._path.unlink()
            return
        for number in range(keep - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                self._numbered(number).rename(self._numbered(number + 1))
        self._path.rename(self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")

    @staticmethod
    def _write(descriptor: int, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
