"""Documents and rules as the alert stage gets them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from sensor.alerts.alert import alert_document
from sensor.rules.rule import Rule, Tactic, Technique, Threat

if TYPE_CHECKING:
    from collections.abc import Callable

BOOT_ID = "815a760f-8153-49e1-9d0b-da0d3b2a468c"
CONTAINER_ID = "5f2b0c3c9f0d4c7e8a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f6071"


def make_document(
    *args: str,
    entity_id: str = "p1",
    parent: str = "shell",
    ancestors: tuple[str, ...] = (),
    timestamp: str = "2026-08-21T12:00:00.123456Z",
    container: dict[str, Any] | None = None,
    **overrides: Any,
) -> dict[str, Any]:
    argv = list(args or ("grep", "-r", "aws_secret_access_key", "/srv"))
    document: dict[str, Any] = {
        "@timestamp": timestamp,
        "ecs": {"version": "8.10.0"},
        "event": {
            "id": f"event-{entity_id}-{timestamp}",
            "kind": "event",
            "category": ["process"],
            "type": ["start"],
            "action": "exec",
            "module": "cloud_defend",
            "dataset": "cloud_defend.process",
        },
        "host": {"hostname": "node-1", "boot": {"id": BOOT_ID}, "os": {"type": "linux"}},
        "process": {
            "pid": 4321,
            "entity_id": entity_id,
            "name": argv[0].rpartition("/")[2] if argv else "",
            "executable": "/usr/bin/grep",
            "args": argv,
            "args_count": len(argv),
            "command_line": " ".join(argv),
            "working_directory": "/",
            "interactive": True,
            "parent": {
                "pid": 4300,
                "entity_id": parent,
                "name": "bash",
                "executable": "/bin/bash",
                "args": ["bash"],
            },
        },
        "user": {"id": "0", "name": "root"},
        "container": {
            "id": CONTAINER_ID,
            "name": "web",
            "runtime": "docker",
            "image": {"name": "nginx", "tag": ["1.27"]},
            "labels": {"com.example.team": "shop"},
            "security_context": {"privileged": False},
        }
        if container is None
        else container,
        "sensor": {"ancestor_entity_ids": [parent, *ancestors]},
    }
    return document | overrides


def make_rule(**changes: Any) -> Rule:
    return Rule(
        **{
            "id": "aws-credentials-search",
            "name": "AWS Credentials Searched For Inside A Container",
            "query_text": "process where true",
            "path": "rule.yml",
            "format": "yaml",
            "tags": ("Domain: Container",),
            "threat": (
                Threat(
                    tactic=Tactic(id="TA0006", name="Credential Access"),
                    technique=(Technique(id="T1552", name="Unsecured Credentials"),),
                ),
            ),
            **changes,
        }
    )


@pytest.fixture(scope="session")
def document() -> Callable[..., dict[str, Any]]:
    return make_document


@pytest.fixture(scope="session")
def rule() -> Callable[..., Rule]:
    return make_rule


@pytest.fixture(scope="session")
def alert() -> Callable[..., dict[str, Any]]:
    """Alert documents, such as those that a rule makes of one exec."""

    def make(*args: str, rule: Rule | None = None, **changes: Any) -> dict[str, Any]:
        return alert_document((make_document(*args, **changes),), rule or make_rule())

    return make
