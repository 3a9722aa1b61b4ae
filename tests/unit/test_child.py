"""A child that works may take its time; one that hangs or turns in circles is ended."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sensor import child
from sensor.child import answer


def start(code: str) -> subprocess.Popen[bytes]:
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code], stdout=pipe, stderr=pipe)


def test_a_child_that_works_is_waited_for() -> None:
    code = (
        "import sys, time\n"
        "while time.process_time() < 2: pass\n"
        "print('x' * 300_000); sys.stderr.write('and a word')\n"
    )
    read, errors = answer(start(code), silence_s=1)
    assert (len(read), errors) == (300_001, b"and a word")


def test_one_that_hangs_is_ended() -> None:
    hanging = start("import time; time.sleep(600)")
    with pytest.raises(TimeoutError, match=r"did nothing for 1 s"):
        answer(hanging, silence_s=1)
    assert hanging.returncode == -9


def test_one_that_turns_in_circles_is_ended_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child, "SILENCES", 3)
    turning = start("while True: pass")
    with pytest.raises(TimeoutError, match=r"did not end within 1\.5 s"):
        answer(turning, silence_s=0.5)
    assert turning.returncode == -9
