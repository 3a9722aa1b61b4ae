"""The command as a process: interrupts at any moment, streams that are closed, full, or not UTF-8."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMAND = "from sensor.cli.entry import main; main()"
INTERRUPTED_AT_AN_IMPORT = """
import sys
class Finder:
    def find_spec(self, name, *_):
        if name == "click":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Finder())
"""
RULE = "name: Ein größeres … Ding\nid: an-id\nquery: process where true\n"


def run(
    *arguments: str | Path,
    code: str = COMMAND,
    shell: str = 'exec "$@"',
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run the command below a shell, which may close or redirect its streams."""
    command = ["sh", "-c", shell, "sh", sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        env={**os.environ, **(environment or {})},
    )


def test_an_interrupt_while_it_is_imported_is_no_traceback() -> None:
    done = run("rules", "list", code=INTERRUPTED_AT_AN_IMPORT + COMMAND)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_an_interrupt_while_it_works_is_no_traceback(tmp_path: Path) -> None:
    rule = tmp_path / "rule.yml"
    rule.write_text(RULE)
    # More than a buffer of its output holds, and then nothing: it waits for the next line.
    document: dict[str, Any] = {
        "event": {"category": ["process"]},
        "process": {"args": ["x" * 1000]},
    }
    line = json.dumps(document).encode() + b"\n"
    arguments = ["replay", "-", "--no-builtin", "--rules", str(rule)]
    with subprocess.Popen(
        [sys.executable, "-c", COMMAND, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(line * 50)
        process.stdin.flush()
        assert process.stdout.readline().startswith(b"{")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 130
    assert b"Traceback" not in said


def test_a_closed_standard_output_leads_nowhere(tmp_path: Path) -> None:
    done = run("rules", "list", shell='exec "$@" >&-')
    assert (done.returncode, done.stderr) == (0, b"")
    done = run("rules", "list", shell='exec "$@" 2>&-')
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 3)


def test_no_file_becomes_standard_output() -> None:
    opens = (
        "from sensor.cli.entry import _prepare_streams; _prepare_streams()\n"
        "import os, sys; sys.exit(os.open('/dev/null', os.O_RDONLY))"
    )
    assert run(code=opens, shell='exec "$@" <&- >&- 2>&-').returncode == 3


@pytest.mark.parametrize("command", [["fields"], ["fields", "--markdown"], ["rules", "list"]])
def test_a_full_disk_is_said_in_one_line(command: list[str]) -> None:
    done = run(*command, shell='exec "$@" >/dev/full')
    assert done.returncode == 1
    assert done.stderr == b"error: output: No space left on device\n"


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("utf-8", "größeres … Ding".encode()), ("latin-1", b"gr\xf6\xdferes \\u2026 Ding")],
)
def test_what_the_locale_cannot_write_is_escaped(
    tmp_path: Path, encoding: str, shown: bytes
) -> None:
    rule = tmp_path / "rule.yml"
    rule.write_text(RULE)
    done = run("rules", "list", rule, environment={"PYTHONIOENCODING": encoding})
    assert (done.returncode, done.stderr) == (0, b"")
    assert shown in done.stdout
