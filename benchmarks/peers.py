"""The tools that peers_benchmark.py compares, each started, awaited and asked what it lost."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Self

from loads import Sensor, bpf_time

START_S = 30
SETTLE_S = 20
ONE_LINER = "tracepoint:syscalls:sys_enter_execve { join(args->argv); }"
RULE = ("always,exit", "-F", "arch=b64", "-S", "execve", "-k", "exec-benchmark")
AUDITD = """\
log_file = {directory}/audit.log
log_format = RAW
flush = INCREMENTAL_ASYNC
freq = 50
max_log_file = 100000
max_log_file_action = IGNORE
space_left = 75
space_left_action = IGNORE
admin_space_left = 50
admin_space_left_action = IGNORE
disk_full_action = IGNORE
disk_error_action = IGNORE
"""


class UnableError(Exception):
    """The tool cannot run here; the message says why."""


class Tool:
    """One that is started when it is made, and writes what it sees into `log`."""

    name = ""
    # What an argument of the storm is preceded by in the log, once for each exec.
    before = b" "

    def __init__(self, directory: Path) -> None:
        self.log = directory / "log"
        self.process = self._start(directory)

    def _start(self, directory: Path) -> subprocess.Popen[bytes]:
        raise NotImplementedError

    @property
    def pid(self) -> int:
        return self.process.pid

    def settle(self) -> None:
        """Waits until it writes no more: it may be behind."""
        size, deadline = -1, time.monotonic() + SETTLE_S
        while size != (size := self.log.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.5)

    def lost(self, tag: bytes, total: int) -> int:
        """How many of `total` execs are not in the log; ends the tool, which may keep some back."""
        self.end()
        mark = self.before + tag + b"."
        with self.log.open("rb") as lines:
            return total - sum(mark in line for line in lines)

    def end(self) -> None:
        """Safe to call twice."""
        if self.process.poll() is None:
            # Some write what they hold back when they are interrupted, and only then.
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.terminate()
                self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


class OurSensor(Tool):
    """The sensor with its built-in rules: it tells of alerts alone, so it is asked what it lost."""

    name = "the sensor"

    def __init__(self, directory: Path) -> None:  # noqa: ARG002 - it leaves no log
        self.sensor = Sensor()
        self.process = self.sensor.process  # type: ignore[assignment]
        self.said: str | None = None

    def settle(self) -> None:
        """Nothing of the storm reaches it."""

    def lost(self, tag: bytes, total: int) -> int:  # noqa: ARG002 - it counts by itself
        self.end()
        assert self.said is not None
        return sum(map(int, re.findall(r"=(\d+)", self.said.partition("losses: ")[2])))

    def end(self) -> None:
        if self.said is None:
            self.said = self.sensor.stop()


class Tracer(Tool):
    """A tool that prints a line for each exec; it is ready when its program has run."""

    package = ""
    commands: tuple[tuple[str, ...], ...] = ()

    def _start(self, directory: Path) -> subprocess.Popen[bytes]:
        command = next((c for c in self.commands if shutil.which(c[0])), None)
        if command is None:
            raise UnableError(f"{self.commands[0][0]} is not installed (Debian: {self.package})")
        with self.log.open("wb") as log, (directory / "errors").open("wb") as errors:
            process = subprocess.Popen(command, stdout=log, stderr=errors)
        deadline = time.monotonic() + START_S
        while process.poll() is None and time.monotonic() < deadline:
            subprocess.run(["true"], check=True)
            with suppress(OSError):
                if bpf_time(process.pid):
                    return process
            time.sleep(0.1)
        process.terminate()
        process.wait()
        lines = [
            line
            for file in (self.log, directory / "errors")
            for line in file.read_text(errors="replace").splitlines()
        ]
        known = [line for line in lines if "kernel headers" in line]
        raise UnableError((known or lines or ["its program did not run"])[-1])


class Bpftrace(Tracer):
    name = "bpftrace, a line that prints argv"
    package = "bpftrace"
    commands = (("bpftrace", "-e", ONE_LINER),)


class Bcc(Tracer):
    name = "bcc's execsnoop"
    package = "bpfcc-tools"
    commands = (("execsnoop-bpfcc",),)


class LibbpfTools(Tracer):
    name = "libbpf-tools' execsnoop"
    package = "libbpf-tools"
    commands = (("/usr/sbin/execsnoop",),)


class Audit(Tool):
    """The kernel's audit with a rule for execve, and its daemon, which writes its log to disk."""

    name = "audit, a rule for execve"
    before = b'a1="'

    def _start(self, directory: Path) -> subprocess.Popen[bytes]:
        for program in ("auditd", "auditctl"):
            if shutil.which(program) is None:
                raise UnableError(f"{program} is not installed (Debian: auditd)")
        self.before_us = status()
        if self.before_us is None:
            raise UnableError("the kernel has no audit, or not for us")
        if self.before_us["pid"] != "0":
            raise UnableError(f"process {self.before_us['pid']} is the machine's own auditd")
        self.log = directory / "audit.log"
        configuration = directory / "auditd.conf"
        configuration.write_text(AUDITD.format(directory=directory))
        configuration.chmod(0o640)
        process = subprocess.Popen(
            ["auditd", "-n", "-c", str(directory)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + START_S
        while (status() or {}).get("pid") != str(process.pid):
            if process.poll() is not None or time.monotonic() > deadline:
                process.kill()
                process.wait()
                raise UnableError("auditd did not start")
            time.sleep(0.05)
        # As Debian's own /etc/audit/audit.rules has them.
        control("-b", "8192", "--backlog_wait_time", "60000")
        control("-a", *RULE)
        return process

    def end(self) -> None:
        if self.process.poll() is not None:
            return
        control("-d", *RULE)
        self.process.terminate()
        self.process.wait()
        assert self.before_us is not None
        control("-b", self.before_us["backlog_limit"])
        control("--backlog_wait_time", self.before_us["backlog_wait_time"])
        control("-e", self.before_us["enabled"])


def control(*arguments: str) -> None:
    subprocess.run(["auditctl", *arguments], check=True, capture_output=True)


def status() -> dict[str, str] | None:
    """The state of the kernel's audit, by auditctl's words; None where it has none."""
    done = subprocess.run(["auditctl", "-s"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return None
    pairs: list[list[str]] = [line.split(None, 1) for line in done.stdout.splitlines()]
    return {pair[0]: pair[1] for pair in pairs if len(pair) == 2}


TOOLS: tuple[type[Tool], ...] = (OurSensor, Bpftrace, Bcc, LibbpfTools, Audit)
