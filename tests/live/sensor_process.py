"""`sensor run` as a child process of a test: its alerts, its messages, its end, each awaited as events."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self, TypeVar

from patience import patient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

Alert = dict[str, Any]
Found = TypeVar("Found")

REPOSITORY = Path(__file__).parents[2]
SENSOR = Path(sys.executable).parent / "sensor"

READY = "sensor ready"
READY_SECONDS = patient(30)
ALERT_SECONDS = patient(15)
STOP_SECONDS = patient(10)


def is_late(alert: Alert) -> bool:
    """Whether an alert is sent again, with what an engine told after it had left."""
    return str(alert["event"]["id"]).endswith("-0")


def has_argument(alert: Alert, text: str) -> bool:
    """Whether some argument of the alert's process contains `text`."""
    # The sensor's own words are of no process.
    return any(text in argument for argument in alert.get("process", {}).get("args") or ())


class Sensor:
    """One running sensor. Use it as a context manager; `start` returns when it is ready.

    `prefix` is a command to start it under (`setpriv …`, `unshare …`).
    """

    def __init__(
        self,
        *arguments: str | Path,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.command = [*prefix, str(SENSOR), "run", "--output", "json", *map(str, arguments)]
        self._environment = environment or {}
        self._process: subprocess.Popen[bytes] | None = None
        self._changed = threading.Condition()
        self._alerts: list[Alert] = []
        self._lines: list[str] = []
        self._malformed: list[bytes] = []
        self._open_streams = 0
        self._readers: list[threading.Thread] = []

    # --- start and end ------------------------------------------------------------------------------

    def spawn(self) -> Self:
        """Start it and return at once."""
        self._process = subprocess.Popen(
            self.command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | self._environment,
            cwd=REPOSITORY,
        )
        for stream, handle in (
            (self._process.stdout, self._on_alert),
            (self._process.stderr, self._on_line),
        ):
            assert stream is not None
            self._open_streams += 1
            reader = threading.Thread(target=self._read, args=(stream, handle), daemon=True)
            self._readers.append(reader)
            reader.start()
        return self

    def start(self) -> Self:
        self.spawn()
        try:
            self.wait_for_line(READY, READY_SECONDS)
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ask it to end; returns the exit code, after all it wrote has been read."""
        self.process.send_signal(number)
        return self.wait(STOP_SECONDS)

    def wait(self, timeout: float) -> int:
        """Wait for its end; returns the exit code, after all it wrote has been read."""
        try:
            code = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the sensor did not end in {timeout} s\n{self.stderr}") from None
        for reader in self._readers:
            reader.join()
        return code

    def kill(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for reader in self._readers:
            reader.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()

    # --- what it said -------------------------------------------------------------------------------

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "the sensor was not started"
        return self._process

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alerts(self) -> list[Alert]:
        """All alerts so far, in the order they came."""
        with self._changed:
            return list(self._alerts)

    @property
    def stderr(self) -> str:
        with self._changed:
            return "\n".join(self._lines)

    def alerts_with(self, marker: str) -> list[Alert]:
        """The alerts so far in which some argument contains `marker`.

        One that was sent again when its container was known counts once, as it was then.
        """
        found = [alert for alert in self.alerts if has_argument(alert, marker)]
        late = {alert["sensor"]["update_of"]: alert for alert in found if is_late(alert)}
        return [late.get(alert["event"]["id"], alert) for alert in found if not is_late(alert)]

    def wait_for_alert(
        self, predicate: Callable[[Alert], bool], timeout: float = ALERT_SECONDS
    ) -> Alert:
        """The first alert, past or to come, that satisfies `predicate`."""
        return self._await(
            lambda: next((alert for alert in self._alerts if predicate(alert)), None),
            timeout,
            "no such alert came",
        )

    def wait_for_argument(self, marker: str, timeout: float = ALERT_SECONDS) -> Alert:
        """The first alert in which some argument contains `marker`."""
        return self.wait_for_alert(lambda alert: has_argument(alert, marker), timeout)

    def wait_for_line(self, text: str, timeout: float = READY_SECONDS, after: int = 0) -> str:
        """The first line of stderr, past or to come, that contains `text`, `after` others that do."""
        return self._await(
            lambda: next(iter([line for line in self._lines if text in line][after:]), None),
            timeout,
            f"no line with {text!r} came",
        )

    def _await(self, find: Callable[[], Found | None], timeout: float, otherwise: str) -> Found:
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                found = find()
                if found is not None:
                    return found
                left = deadline - time.monotonic()
                if left <= 0 or self._open_streams == 0 or self._malformed:
                    break
                self._changed.wait(left)
            messages = "\n".join(self._lines)
        assert not self._malformed, f"stdout is not JSON in UTF-8: {self._malformed}"
        raise AssertionError(
            f"{otherwise}; {len(self._alerts)} alerts before; the sensor said:\n{messages}"
        )

    # --- reader threads -----------------------------------------------------------------------------

    def _read(self, stream: IO[bytes], handle: Callable[[bytes], None]) -> None:
        for line in stream:
            with self._changed:
                handle(line)
                self._changed.notify_all()
        with self._changed:
            self._open_streams -= 1
            self._changed.notify_all()

    def _on_alert(self, line: bytes) -> None:
        try:
            self._alerts.append(json.loads(line.decode("utf-8")))
        except ValueError:
            self._malformed.append(line)

    def _on_line(self, line: bytes) -> None:
        self._lines.append(line.decode("utf-8", "backslashreplace").rstrip("\n"))
