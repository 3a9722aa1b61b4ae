"""Who may ask: every request goes through here before anything looks at it.

A page that somebody else's site shows must not read alerts: the Host has to be one of ours (an attacker's
name that points here is refused), the token or the cookie made of it has to be there, and a browser that says a
request comes from another site is refused. Nothing can be changed, so there is nothing to forge.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "SAMEORIGIN",
}
_NOTHING: Final = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_COME_IN: Final = (
    '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0;url=/">'
    '<title>Alerts</title><p><a href="/">Alerts</a>'
)
_NOT_KNOWN: Final = (
    '<!doctype html><meta charset="utf-8"><title>Not signed in</title>'
    "<h1>Not signed in</h1><p>Open the link that <code>sensor serve</code> printed when it started."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """What is let in: `hosts` as they stand in the Host header, with the port where it is not the usual."""

    token: str
    hosts: frozenset[str]
    cookie: str = "sensor-serve"
    secure: bool = False

    @property
    def session(self) -> str:
        """What the cookie holds: made of the token, and not the token."""
        return hmac.new(self.token.encode(), b"sensor serve", hashlib.sha256).hexdigest()

    def knows(self, headers: Headers) -> bool:
        """Whether a request has the token, or the cookie that came for it."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return _same(token.strip(), self.token)
        try:
            morsel = SimpleCookie(headers.get("cookie", "")).get(self.cookie)
        except CookieError:
            return False
        return morsel is not None and _same(morsel.value, self.session)


class Gate:
    """The application behind its door."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self._app = app
        self._access = access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        refusal = self._refusal(scope)

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Content-Security-Policy", _NOTHING)
            await send(message)

        await (refusal or self._app)(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if headers.get("host", "").lower() not in self._access.hosts:
            return PlainTextResponse("this name is not served here\n", status_code=421)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("read only\n", status_code=405, headers={"Allow": "GET, HEAD"})
        path = scope["path"]
        if path == "/login":
            return self._login(Request(scope))
        if headers.get("sec-fetch-site") == "cross-site" and path != "/":
            return PlainTextResponse("not for other sites\n", status_code=403)
        if not self._access.knows(headers):
            return HTMLResponse(_NOT_KNOWN, status_code=401)
        return None

    def _login(self, request: Request) -> Response:
        if not _same(request.query_params.get("token", ""), self._access.token):
            return HTMLResponse(_NOT_KNOWN, status_code=403)
        # No redirect: a cookie for this site only does not follow one that began at another.
        response = HTMLResponse(_COME_IN)
        response.set_cookie(
            self._access.cookie,
            self._access.session,
            httponly=True,
            samesite="strict",
            secure=self._access.secure,
        )
        return response


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode("utf-8", "replace"), other.encode())
