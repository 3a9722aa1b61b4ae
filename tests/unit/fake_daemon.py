"""A daemon on a unix socket that answers as badly as a test wants."""

from __future__ import annotations

import socketserver
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

Answer = Callable[[BaseHTTPRequestHandler], None]


class _Answering:
    """`answers` maps the beginning of a path (without its API version) to what is done for it."""

    daemon_threads = True

    def prepare(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.headers: list[Any] = []
        self.release = threading.Event()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that give up are what the tests are about."""


class Daemon(_Answering, socketserver.ThreadingUnixStreamServer):
    """A daemon on a unix socket."""

    def __init__(self, path: Path) -> None:
        self.prepare()
        self.path = str(path)
        super().__init__(self.path, _Handler)


class TcpDaemon(_Answering, socketserver.ThreadingTCPServer):
    """A server on a free port of the loopback."""

    def __init__(self) -> None:
        self.prepare()
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Daemon | TcpDaemon

    def do_GET(self) -> None:
        path = self.path
        if path.startswith("/v1."):
            path = path[path.index("/", 1) :]
        self.server.asked.append(path)
        self.server.headers.append(self.headers)
        for prefix, answer in self.server.answers.items():
            if path.startswith(prefix):
                answer(self)
                return
        self.send_error(404)

    def address_string(self) -> str:
        return "client"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


def body(text: bytes, status: int = 200) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)

    return answer


def chunks(*parts: bytes, then: Callable[[], Any] | None = None) -> Answer:
    """Answer in chunks, then end, or call `then` first (to hang)."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        for part in parts:
            handler.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        handler.wfile.flush()
        if then is not None:
            then()
        handler.wfile.write(b"0\r\n\r\n")

    return answer


def raw(text: bytes) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(text)
        handler.close_connection = True

    return answer
