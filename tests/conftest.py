"""What every test run shares: a test that did not run is never quiet about it.

On a developer's machine a test that cannot run here is skipped and listed, with its reason, at the end
of the run. Where `CI` is set, a `live` test that cannot run fails: a green run there means that the
kernel and the container engine were really tested.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

IN_CI = bool(os.environ.get("CI"))

not_run: pytest.StashKey[list[tuple[str, str]]] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[not_run] = []


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and call.excinfo is not None:
        reason = str(call.excinfo.value)
        item.config.stash[not_run].append((item.nodeid, reason))
        if IN_CI and item.get_closest_marker("live") is not None:
            report.outcome = "failed"
            report.longrepr = f"a live test must run where CI is set, but: {reason}"
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    skipped = config.stash[not_run]
    if not skipped:
        return
    terminalreporter.section(f"{len(skipped)} TESTS DID NOT RUN", sep="!", red=True, bold=True)
    for reason, count in Counter(reason for _, reason in skipped).most_common():
        terminalreporter.line(f"{count:4}  {reason}", red=True)
