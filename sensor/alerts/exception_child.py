"""The child of `load_exceptions`: reads and parses exceptions, and is gone with its parsers.

In on stdin and out on stdout: pickles, between this process and its parent alone.
"""

from __future__ import annotations

import pickle
import sys

from sensor.alerts.exception_file import read_exceptions


def main() -> None:
    paths, own = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 - from our own parent
    sys.stdout.buffer.write(pickle.dumps(read_exceptions(paths, own), pickle.HIGHEST_PROTOCOL))


if __name__ == "__main__":
    main()
