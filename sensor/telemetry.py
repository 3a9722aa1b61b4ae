"""Being watched from outside: `/metrics` for Prometheus and `/healthz/*` for probes.

In: a `State` that says what to tell. Out: HTTP on one address, on threads of its own. Only read-only
questions are answered; nothing of an alert's content is told.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from sensor import __version__
from sensor.errors import ConfigurationError, SensorError
from sensor.state import State

_log = logging.getLogger(__name__)

# A peer that connects and says nothing must not keep its thread.
_REQUEST_TIMEOUT_S: Final = 5.0


class Server:
    """Serves until it is closed. Opens its port at once: a privileged one needs root."""

    def __init__(self, listen: str, state: State) -> None:
        from prometheus_client import (  # noqa: PLC0415 - only where metrics are served
            CollectorRegistry,
            exposition,
        )

        from sensor.metrics import Collector  # noqa: PLC0415 - the same

        registry = CollectorRegistry()
        registry.register(Collector(state))

        class Handler(BaseHTTPRequestHandler):
            server_version = f"sensor/{__version__}"
            timeout = _REQUEST_TIMEOUT_S

            def do_GET(self) -> None:
                path = self.path.split("?", 1)[0]
                kind = path.removeprefix("/healthz/")
                if path == "/metrics":
                    encoder, content_type = exposition.choose_encoder(
                        self.headers.get("Accept", "")
                    )
                    self._answer(200, content_type, encoder(registry))
                elif path.startswith("/healthz/") and kind in ("startup", "live", "ready"):
                    well, facts = state.health(kind)
                    body = json.dumps(facts).encode() + b"\n"
                    self._answer(200 if well else 503, "application/json", body)
                else:
                    self._answer(404, "text/plain", b"/metrics, /healthz/{startup,live,ready}\n")

            def _answer(self, status: int, content_type: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
                _log.debug(format, *args)

        host, port = _address(listen)

        class Listener(ThreadingHTTPServer):
            address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        try:
            self._server = Listener((host, port), Handler)
        except OSError as exc:
            raise SensorError(f"metrics.listen: {listen}: {exc.strerror}") from exc
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="telemetry", daemon=True
        )

    @property
    def port(self) -> int:
        return self._server.server_port

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ConfigurationError(f"metrics.listen: {listen!r} is not HOST:PORT")
    return host.strip("[]"), int(port)
