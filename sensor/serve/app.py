"""The pages of `sensor serve`: a list of alerts that is live, and a report behind each. Nothing can be changed."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Final

import msgspec
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from sensor.alerts.encode import encode
from sensor.alerts.escape import visible
from sensor.errors import SensorError
from sensor.serve.access import Access, Gate
from sensor.serve.desk import filter_of
from sensor.serve.stream import Streams
from sensor.store.errors import AlertNotFoundError, StoreError
from sensor.triage import html, markdown

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp

    from sensor.serve.desk import Desk

_LIST_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_FILES: Final = {
    "/": ("index.html", "text/html"),
    "/app.js": ("app.js", "text/javascript"),
    "/app.css": ("app.css", "text/css"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_PAGE: Final = 200


def make_app(desk: Desk, access: Access) -> ASGIApp:
    """The application, guarded."""
    streams = Streams(desk)

    def file(request: Request) -> Response:
        name, kind = _FILES[request.url.path]
        body = (files("sensor.serve") / "page" / name).read_bytes()
        return Response(body, media_type=kind, headers={"Content-Security-Policy": _LIST_POLICY})

    def alerts(request: Request) -> Response:
        query = request.query_params
        try:
            page = desk.page(filter_of(query), before=query.get("before"), limit=_PAGE)
        except StoreError as error:
            return _failed(error)
        return _json(page)

    def rules(_: Request) -> Response:
        try:
            return _json({"rules": desk.rules()})
        except StoreError as error:
            return _failed(error)

    def report(request: Request) -> Response:
        identifier = request.path_params["identifier"]
        try:
            found = desk.report(identifier)
        except SensorError as error:
            status = 404 if isinstance(error, AlertNotFoundError) else 503
            if not isinstance(error, StoreError):
                status = 422  # a word of the sensor's own
            return HTMLResponse(
                html.message(str(error)), status_code=status, headers=_report_policy()
            )
        form = request.query_params.get("format")
        if form == "json":
            body = encode(msgspec.to_builtins(found))
            return _attachment(body, "application/json", f"{identifier}.json")
        if form == "markdown":
            body = markdown.render(found).encode("utf-8", "backslashreplace")
            return _attachment(body, "text/markdown", f"{identifier}.md")
        page = html.render(found, alert_link="/alert/")
        return HTMLResponse(page, headers=_report_policy())

    async def stream(request: Request) -> Response:
        if streams.is_full:
            return PlainTextResponse("too many readers\n", status_code=503)
        query = request.query_params
        last = request.headers.get("last-event-id") or query.get("after") or "0"
        change = int(last) if last.isascii() and last.isdecimal() and len(last) < 19 else 0
        return StreamingResponse(
            streams.events(filter_of(query), change), media_type="text/event-stream"
        )

    routes = [
        *(Route(path, file) for path in _FILES),
        Route("/api/alerts", alerts),
        Route("/api/rules", rules),
        Route("/api/stream", stream),
        Route("/alert/{identifier:str}", report),
    ]
    return Gate(Starlette(routes=routes), access)


def _report_policy() -> dict[str, str]:
    return {"Content-Security-Policy": f"{html.policy()}; frame-ancestors 'self'"}


def _json(value: object) -> Response:
    return Response(msgspec.json.encode(value), media_type="application/json")


def _failed(error: StoreError) -> Response:
    status = 410 if isinstance(error, AlertNotFoundError) else 503
    body = msgspec.json.encode({"error": visible(str(error), 1024)})
    return Response(body, media_type="application/json", status_code=status)


def _attachment(body: bytes, kind: str, name: str) -> Response:
    plain = "".join(each for each in name if each.isascii() and (each.isalnum() or each in ".-"))
    return Response(
        body,
        media_type=kind,
        headers={"Content-Disposition": f'attachment; filename="{plain[-80:]}"'},
    )
