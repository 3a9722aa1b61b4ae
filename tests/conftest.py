"""What every test run shares: a test that did not run is never quiet about it.

On a developer's machine a test that cannot run here is skipped and listed, with its reason, at the end
of the run. Where `CI` is set, a `live` or `browser` test that cannot run fails: a green run there means
that the kernel, the container engine and the pages were really tested.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

# How long an example takes says something about the machine's load, and nothing about the code.
hypothesis.settings.register_profile("no-deadline", deadline=None)
hypothesis.settings.load_profile("no-deadline")

# A shell's background job has SIGINT ignored, and so has all that it starts: none of the commands that are
# tested would hear Ctrl-C. What is handled here has its default again in a child.
signal.signal(signal.SIGINT, signal.default_int_handler)

IN_CI = bool(os.environ.get("CI"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if (
        IN_CI
        and report.skipped
        and call.excinfo is not None
        and not hasattr(report, "wasxfail")
        and any(map(item.get_closest_marker, ("live", "browser")))
        and item.get_closest_marker("shared") is None
    ):
        report.outcome = "failed"
        report.longrepr = f"this test must run where CI is set, but: {call.excinfo.value}"
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    # Modules that skip themselves are among these, beside single tests.
    skipped = terminalreporter.stats.get("skipped", [])
    if not skipped:
        return
    terminalreporter.section(f"{len(skipped)} DID NOT RUN", sep="!", red=True, bold=True)
    for reason, count in Counter(_reason(report) for report in skipped).most_common():
        terminalreporter.line(f"{count:4}  {reason}", red=True)


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    where = report.longrepr
    return where[2].removeprefix("Skipped: ") if isinstance(where, tuple) else str(where)
