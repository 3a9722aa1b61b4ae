r"""Documents as bytes: a nested dict in, one line of JSON out, always valid UTF-8.

Nothing a process can put into its argv makes this raise or breaks the line: a byte that was not UTF-8
is written as a visible `\xNN`, and characters that steer a terminal or turn the reading direction
around are written as JSON escapes, which mean the same to a JSON reader and nothing to a terminal.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

_encoder = msgspec.json.Encoder()

# UTF-8 of what JSON lets through and a terminal or a careless reader acts upon: DEL, the C1
# controls (among them the one-byte CSI), and Unicode's invisible and bidirectional format
# characters. JSON has them in strings only, so each can be replaced where it stands.
_STEERING = re.compile(
    rb"\x7f|\xc2[\x80-\x9f\xad]|\xd8\x9c|\xe1\xa0\x8e"
    rb"|\xe2\x80[\x8b-\x8f\xa8-\xae]|\xe2\x81[\xa0-\xaf]|\xef\xbb\xbf|\xef\xbf[\xb9-\xbb]"
    rb"|\xf3\xa0[\x80\x81][\x80-\xbf]"
)

_SURROGATES = {
    code: f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"
    for code in range(0xD800, 0xE000)
}


def encode(document: dict[str, Any]) -> bytes:
    """The document as one line of JSON, without a line break at its end."""
    try:
        line = _encoder.encode(document)
    except UnicodeEncodeError:
        line = _encoder.encode(well_formed(document))
    # One look over the bytes in C; almost every document is plain ASCII.
    if line.isascii() and b"\x7f" not in line:
        return line
    return _STEERING.sub(_json_escape, line)


def well_formed(value: Any) -> Any:
    """The value with lone surrogates in its texts and keys as visible escapes.

    The value itself is not changed.
    """
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.translate(_SURROGATES)
        return value
    if isinstance(value, dict):
        return {well_formed(key): well_formed(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [well_formed(each) for each in value]
    return value


def _json_escape(match: re.Match[bytes]) -> bytes:
    units = match[0].decode().encode("utf-16-be").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)).encode()
