"""Real receivers, from Debian's packages, each started for a test on loopback and ended after it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from receivers import Alertmanager, Rsyslog, until

from sensor.alerts.alert import alert_document
from sensor.rules.rule import Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

RULE = Rule(
    id="keys-searched",
    name="Keys searched",
    query_text="process where true",
    path="rule.yml",
    format="yaml",
    severity="high",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "live/sinks" in str(item.path):
            item.add_marker(pytest.mark.live)


@pytest.fixture(scope="session")
def eventually() -> Callable[..., Any]:
    return until


@pytest.fixture(scope="session")
def alert() -> Callable[..., dict[str, Any]]:
    def make(number: int, *args: str, **changes: Any) -> dict[str, Any]:
        argv = list(args or ("grep", "-r", "aws_secret_access_key", "/srv"))
        document = {
            "@timestamp": "2026-08-21T12:00:00.123456Z",
            "event": {"id": "x", "kind": "event", "action": "exec", "module": "cloud_defend"},
            "host": {"hostname": "node-1", "boot": {"id": "boot"}},
            "process": {
                "pid": number,
                "entity_id": f"p{number}",
                "name": "grep",
                "executable": "/usr/bin/grep",
                "args": argv,
                "command_line": " ".join(argv),
            },
            "user": {"id": "0", "name": "root"},
            "container": {"id": "5f2b0c3c9f0d" * 5, "name": "web"},
        }
        return alert_document((document | changes,), RULE)

    return make


@pytest.fixture
def alertmanager(tmp_path: Path) -> Iterator[Alertmanager]:
    daemon = Alertmanager(tmp_path)
    daemon.start()
    yield daemon
    daemon.stop()


@pytest.fixture
def rsyslog(tmp_path: Path) -> Iterator[Rsyslog]:
    """It is not started yet."""
    daemon = Rsyslog(tmp_path)
    yield daemon
    daemon.stop()
