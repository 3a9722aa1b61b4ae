"""The argument ALERT of commands: an id, `last`, a file's name or `-` in, the alert's document out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from sensor.errors import SensorError

if TYPE_CHECKING:
    from sensor.store.store import Store

_MAX_BYTES = 64 << 20


def document_in_store(store: Store, reference: str) -> dict[str, Any]:
    """The alert with this id, or whose id alone begins so; `last` is a rule's newest."""
    return store.alert(store.newest().id if reference == "last" else reference)


def document_in_file(reference: str) -> dict[str, Any] | None:
    """The document in a file or on standard input; None for what is no file's name."""
    if reference == "-":
        data, name = sys.stdin.buffer.read(_MAX_BYTES + 1), "standard input"
    elif "/" in reference or "." in reference or Path(reference).is_file():
        name = reference
        try:
            with Path(reference).open("rb") as stream:
                data = stream.read(_MAX_BYTES + 1)
        except OSError as error:
            raise SensorError(f"{reference}: {error.strerror}") from error
    else:
        return None
    if len(data) > _MAX_BYTES:
        raise SensorError(f"{name}: larger than {_MAX_BYTES >> 20} MiB")
    try:
        found = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        found = _first_line(data, name)
    if isinstance(found, list) and len(found) == 1:
        found = found[0]
    if not isinstance(found, dict):
        raise SensorError(f"{name}: not an alert: one JSON object is expected")
    return found


def _first_line(data: bytes, name: str) -> Any:
    """Of JSON lines, as the sensor writes them, the only one."""
    lines = [line for line in data.splitlines() if line.strip()]
    if len(lines) > 1:
        try:
            msgspec.json.decode(lines[0])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        else:
            raise SensorError(f"{name}: {len(lines)} documents; give one alert")
    raise SensorError(f"{name}: not JSON")
