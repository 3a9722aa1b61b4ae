"""As much of Elasticsearch as the sink and the official client need, over HTTP on loopback.

It keeps documents by id in data streams, refuses a `create` of an id that is there, refuses a data
stream without a template, and maps fields as Elasticsearch does where labels matter: with dynamic
mapping a field is a text or an object, never both; a `flattened` one takes anything below it. It knows
no search but the one for everything.
"""

from __future__ import annotations

import json
import threading
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

_LONGEST_TERM = 32_766


class ElasticServer:
    """One node, until `close`. `down` answers everything with 503; `unsure` takes and says 503."""

    def __init__(self) -> None:
        self.templates: dict[str, dict[str, Any]] = {}
        self.streams: dict[str, dict[str, dict[str, Any]]] = {}
        self.kinds: dict[str, dict[str, str]] = {}
        self.down = False
        self.unsure = False
        self.lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.01,), daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def ids(self, stream: str) -> list[str]:
        return list(self.streams.get(stream, {}))

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        path = path.partition("?")[0]
        if self.down:
            return 503, _error("unavailable", "no master")
        if path == "/_bulk":
            lines = [json.loads(line) for line in body.splitlines()]
            with self.lock:
                results = [
                    self._create(action["create"], document)
                    for action, document in zip(lines[::2], lines[1::2], strict=True)
                ]
            if self.unsure:
                return 503, _error("unavailable", "it was written, and nobody is told")
            wrong = any("error" in each for each in results)
            return 200, {"took": 1, "errors": wrong, "items": [{"create": r} for r in results]}
        if method == "PUT" and path.startswith("/_index_template/"):
            self.templates[path.rpartition("/")[2]] = json.loads(body)
            return 200, {"acknowledged": True}
        if path.endswith("/_search"):
            stream = path.strip("/").partition("/")[0]
            hits = [
                {"_index": stream, "_id": key, "_source": source}
                for key, source in self.streams.get(stream, {}).items()
            ]
            total = {"value": len(hits), "relation": "eq"}
            return 200, {"took": 1, "timed_out": False, "hits": {"total": total, "hits": hits}}
        if path == "/":
            return 200, {"version": {"number": "8.10.0"}, "tagline": "You Know, for Search"}
        return 404, _error("not_found", path)

    def _create(self, action: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
        stream, key = action["_index"], action["_id"]
        result = {"_index": stream, "_id": key}
        properties = self._properties(stream)
        if properties is None:
            reason = f"no index template for the data stream [{stream}]"
            return result | {"status": 404, **_error("index_not_found_exception", reason)}
        documents = self.streams.setdefault(stream, {})
        if key in documents:
            return result | {"status": 409, **_error("version_conflict_engine_exception", "there")}
        try:
            _learn(self.kinds.setdefault(stream, {}), list(_mapped(document, properties)))
        except ValueError as error:
            return result | {"status": 400, **_error("document_parsing_exception", str(error))}
        documents[key] = document
        return result | {"status": 201, "result": "created"}

    def _properties(self, stream: str) -> dict[str, Any] | None:
        for template in self.templates.values():
            if any(fnmatchcase(stream, each) for each in template["index_patterns"]):
                found: dict[str, Any] = template["template"]["mappings"]["properties"]
                return found
        return None


def _learn(kinds: dict[str, str], fields: list[tuple[str, str]]) -> None:
    """Add the fields to what is known of a stream; ValueError where one is another kind there."""
    new: dict[str, str] = {}
    for field, kind in fields:
        before = new.setdefault(field, kinds.get(field, kind))
        if before != kind:
            raise ValueError(f"[{field}] is {before}, and here {kind}")
    kinds |= new


def _mapped(value: Any, properties: dict[str, Any], field: str = "") -> Any:
    """Each field with `object` or `value`; ValueError for a term that is too long for the index."""
    if isinstance(value, list):
        for each in value:
            yield from _mapped(each, properties, field)
        return
    mapping = properties if not field else _mapping(properties, field)
    if isinstance(value, dict):
        if field:
            if mapping.get("type") == "flattened":
                if any("\0" in key or len(key.encode()) > _LONGEST_TERM for key in _keys(value)):
                    raise ValueError("a key of a [flattened] field is too long or has a NUL in it")
                _check(field, mapping, longest=max(map(len, _texts(value)), default=0))
                return
            yield field, "object"
        for key, each in value.items():
            yield from _mapped(each, properties, f"{field}.{key}" if field else key)
        return
    if value is not None:
        # A dot in a name is an object, as it is for Elasticsearch.
        above = field
        while "." in above:
            above = above.rpartition(".")[0]
            yield above, "object"
        yield field, "value"
        if isinstance(value, str):
            _check(field, mapping, longest=len(value.encode()))


def _keys(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [*value, *(key for each in value.values() for key in _keys(each))]
    if isinstance(value, list):
        return [key for each in value for key in _keys(each)]
    return []


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for each in value.values() for text in _texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    return [value] if isinstance(value, str) else []


def _check(what: str, mapping: dict[str, Any], *, longest: int) -> None:
    bounded = mapping.get("type") not in ("keyword", "flattened") or "ignore_above" in mapping
    if longest > _LONGEST_TERM and not bounded:
        raise ValueError(f"immense term in {what[:100]}")


def _mapping(properties: dict[str, Any], field: str) -> dict[str, Any]:
    mapping: dict[str, Any] = {"properties": properties}
    for name in field.split("."):
        mapping = mapping.get("properties", {}).get(name, {})
    return mapping


def _error(kind: str, reason: str) -> dict[str, Any]:
    return {"error": {"type": kind, "reason": reason}}


def _handler(server: ElasticServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, content = server.answer(self.command, self.path, body)
            data = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("X-Elastic-Product", "Elasticsearch")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_HEAD = handle_any  # noqa: N815 - http.server's names

        def log_message(self, *_: Any) -> None:
            pass

    return Handler
