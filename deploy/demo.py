"""`make demo`: the sensor at work within a minute.

Starts the sensor, runs a harmless search in a container, shows the alert and ends. The container is one
of the Docker daemon that answers here, else of a daemon of the demo's own where dockerd is installed, else
a process in a cgroup of its own with a name as Docker gives it. Needs root. Exit code: 0 if the alert came.
"""

from __future__ import annotations

import argparse
import os
import secrets
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import docker
from docker.errors import DockerException

REPOSITORY = Path(__file__).parents[1]
# The demo's engine and image are those of the live tests.
sys.path.insert(0, str(REPOSITORY / "tests/live"))

import images  # noqa: E402
from cgroup_of_its_own import CgroupOfItsOwn  # noqa: E402
from docker_engine import DockerEngine, missing_for_engine  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Search = Callable[[list[str]], object]

SENSOR = Path(sys.executable).parent / "sensor"
READY_SECONDS = 30
ALERT_SECONDS = 10


def say(text: str) -> None:
    print(f"\n--- {text}", flush=True)  # noqa: T201 - this is what a demo is for


@contextmanager
def container() -> Iterator[tuple[str, str | None, Search]]:
    """Yield the container in words, the address of its engine, and how to run a command in it."""
    try:
        client = docker.from_env()
        client.ping()
    except DockerException:
        pass
    else:
        with in_docker(client) as run:
            yield "the Docker daemon of this machine", None, run
        return
    if missing_for_engine() is None:
        with DockerEngine() as engine, in_docker(engine.client()) as run:
            yield "a Docker daemon of the demo's own", engine.host, run
        return
    with CgroupOfItsOwn(b"docker/" + secrets.token_hex(32).encode()) as cgroup:
        yield "a cgroup as Docker makes them (no engine is installed here)", None, cgroup.run


@contextmanager
def in_docker(client: docker.DockerClient) -> Iterator[Search]:
    with ExitStack() as stack:  # whatever fails on the way, nothing of it stays behind
        stack.callback(client.close)
        images.import_image(client, images.DEBIAN, images.debian_tree({}))
        stack.callback(client.images.remove, images.DEBIAN)
        web = client.containers.create(
            images.DEBIAN,
            ["sleep", "1000000"],
            name=f"web-{secrets.token_hex(3)}",
            labels={"com.example.service": "checkout"},
        )
        stack.callback(web.remove, force=True)
        web.start()
        yield web.exec_run


class Reader:
    """Passes a stream's lines on as they come, and says when one with `text` has."""

    def __init__(self, stream: IO[str], out: IO[str], text: str) -> None:
        self._stream, self._out, self._text = stream, out, text
        self._changed = threading.Event()  # it was seen, or nothing more comes
        self.seen = False
        self._thread = threading.Thread(target=self._pass_on)
        self._thread.start()

    def _pass_on(self) -> None:
        try:
            for line in self._stream:
                self._out.write(line)
                self._out.flush()
                if self._text in line:
                    self.seen = True
                    self._changed.set()
        finally:
            self._changed.set()

    def wait(self, seconds: float) -> bool:
        """Whether the line comes within these seconds; returns at once when the stream ends."""
        self._changed.wait(seconds)
        return self.seen

    def join(self) -> None:
        self._thread.join()


def main() -> int:
    marker = f"demo-{secrets.token_hex(4)}"
    command = ["grep", "-r", "aws_secret_access_key", f"/srv/{marker}"]
    with container() as (where, host, run):
        say(f"starting the sensor; the container is in {where}")
        environment = {"DOCKER_HOST": host} if host else {}
        if sys.stdout.isatty():
            # The sensor writes into a pipe, and what comes out of it goes to this terminal.
            environment["FORCE_COLOR"] = "1"
        sensor = subprocess.Popen(
            [SENSOR, "run", "--output", "text"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="backslashreplace",
            env=os.environ | environment,
        )
        assert sensor.stdout is not None  # noqa: S101 - a pipe was asked for
        assert sensor.stderr is not None  # noqa: S101 - likewise
        alerts = Reader(sensor.stdout, sys.stdout, marker)
        messages = Reader(sensor.stderr, sys.stderr, "sensor ready")
        try:
            if messages.wait(READY_SECONDS):
                say(f"in the container: {' '.join(command)}")
                run(command)
                alerts.wait(ALERT_SECONDS)
        finally:
            sensor.send_signal(signal.SIGINT)
            sensor.wait()
            alerts.join()
            messages.join()
    if not alerts.seen:
        say("no alert came. `sensor doctor` may say why.")
        return 1
    say("that was the alert. Start the sensor yourself with: sudo make run")
    return 0


if __name__ == "__main__":
    # It takes no arguments: one that is given is refused, and --help is answered.
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__, formatter_class=form)
    parser.parse_args()
    sys.exit(main())
