"""What loader and sensor say to each other, on a pair of sockets that keep messages whole.

The sensor sends its request. The loader tells each stage of its work as it begins, then either an error
or the reply with the descriptors that it names, which the sensor acknowledges. All is JSON.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from sensor.child import SILENCE_S, SILENCES
from sensor.errors import ProbeError

_MESSAGE_BYTES = 1 << 16
_DESCRIPTORS_MAX = 64


def pair() -> tuple[socket.socket, socket.socket]:
    """The two ends, the sensor's and the loader's."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


def ask(
    channel: socket.socket,
    request: dict[str, Any],
    worked: Callable[[], float],
    silence_s: float = SILENCE_S,
) -> tuple[dict[str, Any], list[int]]:
    """Sends the request, and returns the reply and the descriptors in its order.

    `worked` tells how much of the processor the loader has had. Raises `ProbeError` when the loader
    tells of an error, ends without a reply, or neither says nor does anything for `silence_s` seconds.
    """
    channel.settimeout(silence_s)
    stage = "starting"
    had, silences = worked(), 0
    try:
        channel.sendall(json.dumps(request).encode())
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(channel, _MESSAGE_BYTES, _DESCRIPTORS_MAX)
            except TimeoutError:
                before, had, silences = had, worked(), silences + 1
                if had <= before:
                    raise ProbeError(
                        f"the loader hangs: it did nothing for {silence_s:g} s while {stage}"
                    ) from None
                if silences == SILENCES:
                    raise ProbeError(
                        f"the loader did not end within {silences * silence_s:g} s while {stage}"
                    ) from None
                continue
            reply: dict[str, Any] = json.loads(data) if data else {}
            if "stage" not in reply:
                break
            stage, silences = reply["stage"], 0
    except (OSError, ValueError) as exc:
        raise ProbeError(f"the loader's answer cannot be read, while {stage}: {exc}") from exc
    if "error" in reply:
        raise ProbeError(reply["error"])
    if not descriptors:
        raise ProbeError(f"the loader ended without an answer, while {stage}")
    with suppress(OSError):  # it is gone meanwhile: the descriptors are ours all the same
        channel.sendall(b"\0")
    return reply, descriptors


class Sensor:
    """The loader's end: what it tells the sensor."""

    def __init__(self, descriptor: int) -> None:
        self._channel = socket.socket(fileno=descriptor)

    def request(self) -> dict[str, Any]:
        """Waits for the request."""
        request: dict[str, Any] = json.loads(self._channel.recv(_MESSAGE_BYTES))
        return request

    def begin(self, stage: str) -> None:
        """Tells the stage that begins, in words that fit behind "while": `compiling the program`."""
        self._tell({"stage": stage})

    def fail(self, error: str) -> None:
        self._tell({"error": error})

    def hand_over(self, reply: dict[str, Any], descriptors: list[int]) -> None:
        """Returns when the sensor has them, or is gone: only then may ours be closed."""
        socket.send_fds(self._channel, [json.dumps(reply).encode()], descriptors)
        self._channel.recv(1)

    def _tell(self, message: dict[str, Any]) -> None:
        self._channel.sendall(json.dumps(message).encode())
