"""Where the command begins: the three standard streams in order, Ctrl-C at any moment, then the rest.

It imports next to nothing, so that an interrupt while the rest is imported is met here.
"""

from __future__ import annotations

import os
import signal
import sys
from io import TextIOWrapper

INTERRUPTED = 128 + signal.SIGINT
_STDOUT, _STDERR = 1, 2


def main() -> None:
    """Run the command and exit with its code."""
    try:
        _prepare_streams()
        from sensor.cli.main import main as command  # noqa: PLC0415 - see above

        command()
    except KeyboardInterrupt:
        end_interrupted()


def end_interrupted() -> None:
    """Exit as one who was told to, with the code that shells give; a second Ctrl-C ends it at once."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(INTERRUPTED)


def _prepare_streams() -> None:
    """Whatever was closed leads nowhere, and what the locale cannot write is escaped.

    A closed standard output would be the next file to be opened, and alerts would go into that.
    """
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
    if sys.stdout is None:
        sys.stdout = os.fdopen(_STDOUT, "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(_STDERR, "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
