"""Documents and rules as the alert stage gets them."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from sensor.alerts.alert import alert_document
from sensor.alerts.encode import encode
from sensor.alerts.sinks.protocol import Outgoing
from sensor.rules.rule import Rule, Tactic, Technique, Threat

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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


HOSTILE = "a\nb\r\x00\x1b[2J\x9b\u202e{{ .Labels }} ${env:HOME} %s <!channel> @here `x` </script>]> \udcff"


@pytest.fixture
def hostile(alert) -> dict[str, Any]:
    """An alert in which whatever an attacker can choose is as bad as it can be."""
    document = alert(
        "grep",
        HOSTILE,
        container={
            "id": HOSTILE,
            "name": HOSTILE,
            "image": {"name": HOSTILE, "tag": [HOSTILE]},
            "labels": {HOSTILE: "x" * (1 << 20)},
        },
        user={"id": HOSTILE, "name": HOSTILE},
        orchestrator={"namespace": HOSTILE, "resource": {"name": HOSTILE}},
    )
    document["process"] = document["process"] | {
        "executable": HOSTILE,
        "working_directory": HOSTILE,
        "name": HOSTILE,
    }
    return document


@pytest.fixture(scope="session")
def outgoing() -> Callable[..., Outgoing]:
    """A document as the dispatcher hands it to a sink."""

    def make(document: dict[str, Any]) -> Outgoing:
        event = document["event"]
        return Outgoing(
            payload=encode(document),
            severity=event.get("severity", 0),
            is_alert=event.get("kind") == "alert",
        )

    return make


class WebServer:
    """An HTTP server that keeps what it gets; `answers` are (status, headers, body), then 200."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], bytes]] = []
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.requests.append((self.path, dict(self.headers), body))
                default = (200, {}, b"ok")
                status, headers, answer = outer.answers.pop(0) if outer.answers else default
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_POST = do_PUT = do_GET = do_HEAD = handle_any  # noqa: N815 - http.server's names

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def bodies(self) -> list[Any]:
        return [json.loads(body) for _, _, body in self.requests]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def web() -> Iterator[WebServer]:
    server = WebServer()
    yield server
    server.close()
