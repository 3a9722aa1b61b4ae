"""What systemd is told of the service: it is ready, it turns, it reloads, it ends, and how it does.

In: the socket that systemd names in the environment, and calls as things happen. Out: datagrams as
sd_notify(3) describes them. Without such a socket every call does nothing. The protocol is a few lines
of text and is promised to stay; the bindings to libsystemd bring a C library that no image of ours has.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, MutableMapping

_log = logging.getLogger(__name__)

_STATUS_EVERY_S = 10.0
_READY = "READY=1"


class Manager:
    """For one thread. Connects when it is made, as root may reach what the sensor's user may not.

    Takes systemd's variables out of the environment, so that no child speaks in our name. `watchdog_s`
    is how long systemd waits for a sign of life, None where it does not.
    """

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        self._address = _address(environ.pop("NOTIFY_SOCKET", ""))
        self.watchdog_s = _watchdog_s(
            environ.pop("WATCHDOG_USEC", ""), environ.pop("WATCHDOG_PID", "")
        )
        self._socket: socket.socket | None = None
        self._next_sign = 0.0
        self._next_status = 0.0
        self._unsent: tuple[str, ...] = ()
        if self._address:
            self._connect()

    def ready(self, status: str) -> None:
        """The service is up, or again after a reload."""
        self._send(_READY, _status(status))

    def reloading(self) -> None:
        """A reload began; `ready` ends it."""
        # With Type=notify-reload the time says that this answers the signal, and no earlier one.
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self, status: str) -> None:
        """The service ends by itself or as it was asked to."""
        self._send("STOPPING=1", _status(status))

    def turn(self, now: float, status: Callable[[], str]) -> None:
        """A sign of life, twice as often as systemd wants one, and now and then the status.

        To be called at each turn of the loop, and by nothing else: it is the loop's life.
        """
        if self._socket is None:
            return
        if self._unsent:
            self._send(*self._unsent)
        if self.watchdog_s is not None and now >= self._next_sign:
            self._next_sign = now + self.watchdog_s / 2
            self._send("WATCHDOG=1")
        if now >= self._next_status:
            self._next_status = now + _STATUS_EVERY_S
            self._send(_status(status()))

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _connect(self) -> None:
        self.close()
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            # The loop waits for nobody, systemd included: what finds no room is not sent.
            made.setblocking(False)
            made.connect(self._address)
        except OSError as exc:
            made.close()
            _log.warning("systemd cannot be told anything: NOTIFY_SOCKET: %s", exc.strerror)
            return
        self._socket = made

    def _send(self, *lines: str) -> None:
        if self._socket is None:
            return
        data = "\n".join(lines).encode("utf-8", "replace")
        self._unsent = ()
        try:
            self._socket.send(data)
        except BlockingIOError:
            # The next sign or status replaces one that is lost; nothing replaces this.
            self._unsent = lines if lines[0] == _READY else ()
        except OSError:
            # systemd has a new socket; where its name cannot be reached any more, that was all.
            self._connect()
            if self._socket is not None:
                try:
                    self._socket.send(data)
                except OSError as exc:
                    _log.warning("systemd could not be told %s: %s", lines[0], exc.strerror)


def _address(name: str) -> str:
    """The socket's name as the kernel takes it; empty for none, or for one of a kind we do not speak."""
    if name.startswith("@"):
        return f"\0{name[1:]}"
    return name if name.startswith("/") else ""


def _watchdog_s(usec: str, pid: str) -> float | None:
    if not (usec.isascii() and usec.isdigit() and int(usec)):
        return None
    if pid and pid != str(os.getpid()):
        return None  # it is meant for another process
    return int(usec) / 1e6


def _status(text: str) -> str:
    return f"STATUS={' '.join(text.split())}"
