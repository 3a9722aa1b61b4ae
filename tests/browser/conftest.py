"""One browser for all of its tests."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

# What makes alerts for the unit tests makes them here, too.
sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

from chromium import Browser, Site, missing_for_browser, remove

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(item.path).is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    reason = missing_for_browser()
    if reason is not None:
        pytest.skip(reason)
    profile = Path(tempfile.mkdtemp(prefix="sensor-test-chromium-"))
    started = Browser(profile)
    yield started
    started.close()
    remove(profile)


@pytest.fixture
def site() -> Iterator[Site]:
    with Site() as served:
        yield served
