"""Alerts on standard output: one JSON line each, or a block of text for a terminal."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Literal

from sensor.alerts.sinks.protocol import DELIVERED, Outcome, Outgoing, SinkClosedError, SinkError
from sensor.alerts.terminal import render, terminal_width

if TYPE_CHECKING:
    from collections.abc import Sequence


class StdoutSink:
    """Writes to a file descriptor. A reader that does not read blocks this sink and nothing else."""

    name = "stdout"
    durable = False
    batch_size = 64

    def __init__(
        self, *, output: Literal["json", "text"] = "json", color: bool = False, fd: int = 1
    ) -> None:
        self._output = output
        self.rendered = output == "text"
        self._color = color
        self._fd = fd

    def accepts(self, severity: int, *, is_alert: bool) -> bool:  # noqa: ARG002
        """Alerts only: events would drown them."""
        return is_alert

    def deliver(self, batch: Sequence[Outgoing]) -> Outcome:
        """Write the batch whole."""
        if self._output == "json":
            data = b"".join(item.payload + b"\n" for item in batch)
        else:
            width = terminal_width()
            blocks = (render(item.submitted, color=self._color, width=width) for item in batch)
            # Whatever encoding the terminal's locale names, UTF-8 is what it is given.
            data = "".join(f"{block}\n" for block in blocks).encode("utf-8", "backslashreplace")
        self._write(data)
        return DELIVERED

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except OSError as error:
                if error.errno in (errno.EPIPE, errno.EBADF):
                    raise SinkClosedError(f"standard output is closed: {error.strerror}") from error
                if error.errno == errno.EAGAIN:
                    # Somebody made the descriptor non-blocking; wait as a blocking one would.
                    _wait_writable(self._fd)
                    continue
                if len(rest) < len(data):
                    # Part of it is out: a second try would repeat that part.
                    raise SinkClosedError(f"standard output broke: {error.strerror}") from error
                raise SinkError(f"standard output: {error.strerror}") from error

    def close(self) -> None:
        """Nothing: the descriptor is not ours."""


def _wait_writable(fd: int) -> None:
    import select  # noqa: PLC0415 - only for a descriptor that somebody else made non-blocking

    poller = select.poll()
    poller.register(fd, select.POLLOUT)
    poller.poll()
