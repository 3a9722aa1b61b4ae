"""What the sensor makes of what the loader says, over real sockets with real descriptors."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from sensor.errors import ProbeError
from sensor.kernel import handover


def asked(
    loader: Callable[[handover.Sensor], None],
    silence_s: float = 60,
    worked: Callable[[], float] = lambda: 0,
) -> dict[str, Any]:
    """What `ask` returns when this is how the loader talks, without the descriptors."""
    ours, theirs = handover.pair()

    def talk() -> None:
        sensor = handover.Sensor(os.dup(theirs.fileno()))
        theirs.close()
        with suppress(BrokenPipeError, ValueError):  # the sensor gave up
            loader(sensor)

    with ours:
        thread = threading.Thread(target=talk)
        thread.start()
        try:
            reply, descriptors = handover.ask(ours, {"cpus": 2}, worked, silence_s)
            assert [os.read(descriptor, 9) for descriptor in descriptors] == [b"handed"]
            for descriptor in descriptors:
                os.close(descriptor)
        finally:
            ours.close()
            thread.join()
    return reply


def hand_a_pipe_over(sensor: handover.Sensor) -> None:
    reading, writing = os.pipe()
    os.write(writing, b"handed")
    sensor.hand_over({"descriptors": ["pipe"]}, [reading])
    os.close(reading)
    os.close(writing)


def test_stages_then_the_reply() -> None:
    def loader(sensor: handover.Sensor) -> None:
        assert sensor.request() == {"cpus": 2}
        sensor.begin("compiling")
        sensor.begin("loading")
        hand_a_pipe_over(sensor)

    assert asked(loader) == {"descriptors": ["pipe"]}


def test_the_limit_is_on_silence_and_not_on_the_whole() -> None:
    never = threading.Event()
    silence_s = 1.0

    def loader(sensor: handover.Sensor) -> None:
        sensor.request()
        for stage in range(6):
            never.wait(silence_s / 4)  # in all longer than the limit
            sensor.begin(f"stage {stage}")
        hand_a_pipe_over(sensor)

    assert asked(loader, silence_s=silence_s) == {"descriptors": ["pipe"]}


def test_a_loader_that_hangs_is_told_with_what_it_was_at() -> None:
    def loader(sensor: handover.Sensor) -> None:
        sensor.request()
        sensor.begin("compiling the program")
        sensor.request()  # there is no second one: it returns when the sensor is gone

    with pytest.raises(ProbeError, match=r"did nothing for 0\.2 s while compiling the program"):
        asked(loader, silence_s=0.2)


def test_a_loader_that_is_silent_but_at_work_is_let_work() -> None:
    had = iter([0.0, 1.0, 2.0, 3.0])
    seen = threading.Event()

    def worked() -> float:
        if (now := next(had)) == 3:
            seen.set()
        return now

    def loader(sensor: handover.Sensor) -> None:
        sensor.request()
        sensor.begin("compiling the program")
        seen.wait()
        hand_a_pipe_over(sensor)

    assert asked(loader, silence_s=0.2, worked=worked) == {"descriptors": ["pipe"]}


def test_a_loader_that_turns_in_circles_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "SILENCES", 3)

    def loader(sensor: handover.Sensor) -> None:
        sensor.request()
        sensor.begin("compiling the program")
        sensor.request()  # as above

    with pytest.raises(ProbeError, match=r"did not end within 0\.3 s while compiling the program"):
        asked(loader, silence_s=0.1, worked=time.monotonic)


def test_an_error_is_passed_on() -> None:
    def loader(sensor: handover.Sensor) -> None:
        sensor.request()
        sensor.fail("BCC is missing")

    with pytest.raises(ProbeError, match=r"^BCC is missing$"):
        asked(loader)


def test_a_loader_that_dies_is_told_with_what_it_was_at() -> None:
    def loader(sensor: handover.Sensor) -> None:
        sensor.request()
        sensor.begin("loading on_exec into the kernel")

    with pytest.raises(ProbeError, match="ended without an answer, while loading on_exec"):
        asked(loader)
