"""Alerts over syslog: RFC 5424 messages over UDP, TCP (RFC 6587), TLS (RFC 5425) or a local socket.

On a local socket the older form is sent by default, which is what the C library sends: rsyslog and
journald read RFC 5424 there only when they are told to, and otherwise take the header for text. The message is the document as JSON behind the cookie `@cee:`, which rsyslog and syslog-ng read fields
from. A document that is too long for the transport is sent in a short form.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sensor.alerts.encode import encode
from sensor.alerts.fields import severity_word, text
from sensor.alerts.sinks.base import ConfiguredSink
from sensor.alerts.sinks.compact import compact
from sensor.alerts.sinks.protocol import DELIVERED, Outcome, Outgoing, SinkError
from sensor.errors import ConfigurationError

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from sensor.alerts.sinks.options import SyslogOptions

_SEVERITIES = {"low": 5, "medium": 4, "high": 3, "critical": 2}  # notice, warning, error, critical
_DEBUG = 7
# What a receiver takes without having been told otherwise: rsyslog cuts at 8 KiB, and a datagram
# should not have to be put together from many packets.
_MAX_BYTES = {"unix": 8000, "udp": 2000, "tcp": 8000, "tls": 8000}
_DEFAULT_PORTS = {"udp": 514, "tcp": 601, "tls": 6514}
_MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
_NOT_PRINTABLE = re.compile(r"[^!-~]")


class SyslogSink(ConfiguredSink):
    """One connection, opened when it is needed. UDP cannot say whether anything arrived."""

    def __init__(self, options: SyslogOptions, key: str) -> None:
        super().__init__(options, kind="syslog", batch_size=64)
        self._options = options
        self._max_bytes = options.max_bytes or _MAX_BYTES[options.transport]
        self._hostname = _printable(socket.gethostname(), 255)
        local_by_default = "local" if options.transport == "unix" else "rfc5424"
        self._local = (options.format or local_by_default) == "local"
        self._socket: socket.socket | None = None
        self._stream = options.transport in ("tcp", "tls")
        if options.transport != "unix":
            self._address = _split(options.address, _DEFAULT_PORTS[options.transport], key)
        self._tls: ssl.SSLContext | None = None
        if options.transport == "tls":
            from sensor.alerts.sinks.tls import client_context  # noqa: PLC0415

            self._tls = client_context(options.tls, key)

    def deliver(self, batch: Sequence[Outgoing]) -> Outcome:
        """Send the batch, in order. What was sent before an error may arrive twice."""
        try:
            connection = self._socket or self._connect()
            self._socket = connection
            if self._stream:
                self._raise_if_closed(connection)
                connection.sendall(b"".join(self._frame(self.message(item)) for item in batch))
            else:
                for item in batch:
                    connection.send(self.message(item))
        except OSError as error:
            self.close()
            raise SinkError(f"{self._options.address}: {error.strerror or error}") from error
        return DELIVERED

    def message(self, item: Outgoing) -> bytes:
        """Make one message, in at most as many bytes as the transport takes."""
        document = item.document
        severity = _SEVERITIES[severity_word(document)] if item.is_alert else _DEBUG
        priority = self._options.facility * 8 + severity
        time_ = text(document, "@timestamp")
        if self._local:
            header = f"<{priority}>{_local_time(time_)} {self._options.app_name}[{os.getpid()}]: "
        else:
            kind = "alert" if item.is_alert else "event"
            header = (
                f"<{priority}>1 {_printable(time_, 32)} {self._hostname} "
                f"{self._options.app_name} {os.getpid()} {kind} - "
            )
        body = item.payload
        if len(header) + len(body) + 6 > self._max_bytes:
            for limit in (128, 32, 8):
                body = encode(compact(document, limit))
                if len(header) + len(body) + 6 <= self._max_bytes:
                    break
        return header.encode() + b"@cee: " + body

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None

    @staticmethod
    def _frame(message: bytes) -> bytes:
        """Count the octets before the message, so that nothing in it can end it."""
        return b"%d %s" % (len(message), message)

    def _connect(self) -> socket.socket:
        timeout = self._options.timeout
        if self._options.transport == "unix":
            return _connect_unix(self._options.address, timeout)
        if self._options.transport == "udp":
            return _connect_udp(self._address, timeout)
        connection = socket.create_connection(self._address, timeout)
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            if self._tls is not None:
                return self._tls.wrap_socket(connection, server_hostname=self._address[0])
        except BaseException:
            connection.close()
            raise
        return connection

    def _raise_if_closed(self, connection: socket.socket) -> None:
        """Find out that the receiver went away, before what is sent is lost in a buffer.

        A receiver of syslog never sends anything: what can be read is the end.
        """
        connection.setblocking(False)
        try:
            closed = not connection.recv(1)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            # TLS says in a way of its own that there is nothing to read.
            if type(error).__name__ in ("SSLWantReadError", "SSLWantWriteError"):
                return
            raise
        finally:
            connection.settimeout(self._options.timeout)
        if closed:
            raise ConnectionResetError("closed by the receiver")


def _connect_unix(path: str, timeout: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        connection.settimeout(timeout)
        connection.connect(path)
    except BaseException:
        connection.close()
        raise
    return connection


def _connect_udp(address: tuple[str, int], timeout: float) -> socket.socket:
    family, kind, protocol, _, target = socket.getaddrinfo(*address, type=socket.SOCK_DGRAM)[0]
    connection = socket.socket(family, kind, protocol)
    try:
        connection.settimeout(timeout)
        connection.connect(target)
    except BaseException:
        connection.close()
        raise
    return connection


def _split(address: str, default_port: int, key: str) -> tuple[str, int]:
    """Read HOST, HOST:PORT or [ADDRESS]:PORT."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.%\w]+)\]|([^:\[\]]+))(?::(\d{1,5}))?", address)
    port = int(match[3] or default_port) if match else 0
    if match is None or not 0 < port < 65_536:
        raise ConfigurationError(f"{key}.address: not like HOST:PORT: {address!r}")
    return match[1] or match[2], port


def _local_time(value: str) -> str:
    """A time as `Aug 21 12:00:00`, in the zone of this machine and in English."""
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        moment = datetime.now(UTC)
    local = moment.astimezone()
    return f"{_MONTHS[local.month - 1]} {local.day:2} {local:%H:%M:%S}"


def _printable(value: str, limit: int) -> str:
    """A field of the header: printable ASCII without blanks, or `-` for none."""
    return _NOT_PRINTABLE.sub("_", value)[:limit] or "-"
