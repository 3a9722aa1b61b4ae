"""Children that work for the sensor at its start: how long one of them may take.

A second or two, and minutes where the machine is emulated or crowded. So the limit is on a silence without
work: however long the whole takes, a child that hangs is found out.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

SILENCE_S = 60.0
# For one that turns in circles: so many of these silences, however busy it is.
SILENCES = 15


def worked(pid: int) -> float:
    """The processor's time that a child has had, in clock ticks; 0 where that cannot be known."""
    try:
        # Its name may hold anything; the numbers follow the last bracket.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return int(fields[11]) + int(fields[12])


def answer(child: subprocess.Popen[bytes], silence_s: float = SILENCE_S) -> tuple[bytes, bytes]:
    """The child's output and errors once it has ended; its input is no pipe, which might fill.

    Raises `TimeoutError`, when it has killed it, where the child does nothing for `silence_s` seconds or
    does not end within `SILENCES` of these.
    """
    had = worked(child.pid)
    for silences in range(1, SILENCES + 1):
        try:
            return child.communicate(timeout=silence_s)
        except subprocess.TimeoutExpired:
            before, had = had, worked(child.pid)
            if had <= before:
                why = f"it did nothing for {silence_s:g} s"
                break
            why = f"it did not end within {silences * silence_s:g} s"
    child.kill()
    child.communicate()
    raise TimeoutError(why)
