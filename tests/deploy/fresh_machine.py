"""A bare machine and a clean clone: `make run` and `make test` bring all that they need.

usage: fresh_machine.py [--only run|test] [--log FILE] [--write] [-- PYTEST-ARGUMENTS]

Makes a minimal Debian 12 with make and git and nothing else, clones what is committed here into it as a
user's checkout, and runs in it, as root, what the README says: `make run`, until the sensor has seen itself
and has alerted on an exec in a container's cgroup; then `make test`. Says what was pulled in; --write puts
the list into docs/operations.md. The root shares this machine's kernel, processes, cgroups and network.

Exit code: 0 both worked; 1 one did not; 2 the command line is wrong.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import suppress
from pathlib import Path

from bare_root import BareRoot

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests/live"))

from cgroup_of_its_own import CgroupOfItsOwn  # noqa: E402

DOCUMENT = REPOSITORY / "docs/operations.md"
MARKS = ("<!-- fresh machine: begin -->\n", "<!-- fresh machine: end -->\n")
CHECKOUT = "/home/dev/sensor"
WIDTH = 118
ALERT_SECONDS = 20


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


class Machine(BareRoot):
    """The bare machine with the clone, and what was in it before each step."""

    def __init__(self, log: Path) -> None:
        super().__init__("make", "git")
        self._log = log.open("w")

    def clone(self) -> None:
        bundle = self.path / "srv/sensor.bundle"
        subprocess.run(
            ["git", "-C", REPOSITORY, "bundle", "create", "--quiet", bundle, "HEAD"], check=True
        )
        bundle.chmod(0o644)
        script = f"""
            useradd --create-home dev
            runuser -u dev -- git clone --quiet /srv/sensor.bundle {CHECKOUT}
        """
        done = self.run("sh", "-ec", script)
        if done.returncode != 0:
            raise SystemExit(done.stdout)

    def make(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start make in the clone, as `sudo make` would."""
        return subprocess.Popen(
            self.command("make", "-C", CHECKOUT, *arguments),
            env=self.environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
        )

    def note(self, line: str) -> None:
        self._log.write(line)
        self._log.flush()

    def python_packages(self) -> dict[str, str]:
        pip = (f"{CHECKOUT}/.venv/bin/pip", "list", "--local", "--format=json")
        listed = self.run(*pip, "--disable-pip-version-check", "--no-color")
        if listed.returncode != 0:
            return {}
        return {each["name"]: each["version"] for each in json.loads(listed.stdout.splitlines()[0])}

    def megabytes(self) -> int:
        du = subprocess.run(
            ["du", "-xsm", self.path], capture_output=True, text=True, check=True
        ).stdout
        return int(du.split()[0])


def run_sensor(machine: Machine) -> bool:
    """`make run`: ready, an alert, and a clean end."""
    marker = f"fresh-{secrets.token_hex(6)}"
    container = secrets.token_hex(32)
    alerted = ready = False
    started = time.monotonic()
    process = machine.make("run", "ARGS=--output json")
    patience = threading.Timer(ALERT_SECONDS, end, (process,))
    assert process.stdout is not None
    for line in process.stdout:
        machine.note(line)
        if line.startswith("installing Debian packages"):
            say(f"  {line.rstrip()}")
        elif "sensor ready" in line:
            ready = True
            say(f"  after {time.monotonic() - started:.0f} s: {line.rstrip()}")
            with CgroupOfItsOwn(b"docker/" + container.encode()) as cgroup:
                cgroup.run(["grep", "aws_secret_access_key", marker])
            # Should no alert come, the end does.
            patience.start()
        elif marker in line and line.startswith("{"):
            alert = json.loads(line)
            alerted = alert["container"]["id"] == container
            say(f"  alert: {alert['rule']['name']}, container {container[:12]}")
            end(process)
        elif "sensor ended" in line:
            say(f"  {line.rstrip()}")
    patience.cancel()
    code = process.wait()
    worked = ready and alerted and code == 0
    say(f"  make run: {'ok' if worked else 'FAILED'}, exit code {code}")
    return worked


def end(process: subprocess.Popen[str]) -> None:
    """End the sensor that make started, as Ctrl-C does, but not make itself, whose exit code is wanted."""
    pid = process.pid
    with suppress(FileNotFoundError, ProcessLookupError):  # it has ended already
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            os.kill(int(child), signal.SIGINT)


def run_tests(machine: Machine, arguments: list[str]) -> bool:
    """`make test`, with CI set: what cannot run there fails."""
    started = time.monotonic()
    given = [f"ARGS={' '.join(arguments)}"] if arguments else []
    process = machine.make("test", *given, CI="true")
    assert process.stdout is not None
    for line in process.stdout:
        machine.note(line)
        if re.match(r"installing Debian|tests/|FAILED|ERROR|=====|!!!!!", line):
            say(f"  {line.rstrip()}")
    code = process.wait()
    said = "ok" if code == 0 else f"FAILED, exit code {code}"
    say(f"  make test: {said} after {time.monotonic() - started:.0f} s")
    return code == 0


def pulled(before: dict[str, str], after: dict[str, str]) -> str:
    return ", ".join(sorted(set(after) - set(before)))


def written(text: str, lists: str) -> str:
    """The document with another list between its marks."""
    begin, rest = text.split(MARKS[0])
    _, end = rest.split(MARKS[1])
    return f"{begin}{MARKS[0]}{lists}{MARKS[1]}{end}"


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=("run", "test"), help="one of the two")
    parser.add_argument(
        "--log", type=Path, default=Path("/tmp/sensor-fresh.log"), help="all output (%(default)s)"
    )
    parser.add_argument("--write", action="store_true", help=f"put the list into {DOCUMENT.name}")
    parser.add_argument("arguments", nargs="*", help="for pytest, after --")
    return parser.parse_args()


def main() -> int:
    options = parse()
    # What is started in the background ignores it, and so would everything that it starts.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    say(f"a minimal Debian with make and git; all output goes to {options.log}")
    worked = True
    paragraphs = []
    with Machine(options.log) as machine:
        machine.clone()
        for target in ("run", "test"):
            if options.only not in (None, target):
                continue
            packages, python, size = (
                machine.packages(),
                machine.python_packages(),
                machine.megabytes(),
            )
            say(f"make {target}")
            worked &= (
                run_sensor(machine) if target == "run" else run_tests(machine, options.arguments)
            )
            paragraphs.append(
                f"`make {target}`, {machine.megabytes() - size} MB. "
                f"Debian: {pulled(packages, machine.packages())}. "
                f"PyPI: {pulled(python, machine.python_packages())}."
            )
    lists = "\n".join(
        f"{textwrap.fill(each, WIDTH, break_on_hyphens=False)}\n" for each in paragraphs
    )
    say(f"\n{lists}")
    if options.write:
        DOCUMENT.write_text(written(DOCUMENT.read_text(), lists))
    return 0 if worked else 1


if __name__ == "__main__":
    sys.exit(main())
