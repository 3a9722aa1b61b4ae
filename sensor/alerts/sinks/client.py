"""HTTP for the sinks that speak it: a body in, the receiver's word on it out.

Nothing that is logged holds more of an address than its host: the rest may be a secret.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import requests
import requests.adapters

from sensor import __version__
from sensor.alerts.escape import visible
from sensor.alerts.sinks.protocol import SinkError
from sensor.alerts.sinks.tls import check_files
from sensor.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sensor.alerts.sinks.options import Tls

_ANSWER_BYTES = 64 << 10
_REASON_CHARACTERS = 200
# What a receiver says when it cannot just now, beside all from 500 on.
_TRY_AGAIN = frozenset({408, 425, 429})


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What the receiver said: `ok`, or refused for good with a `reason` fit for the log."""

    ok: bool
    reason: str = ""


class HttpClient:
    """Posts to one address, over one connection that is kept. For one thread."""

    def __init__(
        self,
        url: str,
        *,
        key: str,
        timeout: float,
        tls: Tls,
        headers: Mapping[str, str] | None = None,
        authorization: str | None = None,
    ) -> None:
        self._url = url
        try:
            parts = urlsplit(url)
            self.where = f"{parts.scheme}://{parts.hostname}"
            self.where += f":{parts.port}" if parts.port else ""
        except ValueError:
            parts = urlsplit("")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigurationError(
                f"{key}.url: not an address that begins with http:// or https://"
            )
        check_files(tls, key)
        self._timeout = timeout
        self._session = requests.Session()
        # Any callable: otherwise a ~/.netrc would put its own word in place of ours.
        self._session.auth = _as_it_is
        self._session.verify = tls.ca or True
        if tls.certificate is not None:
            self._session.cert = (tls.certificate, tls.key) if tls.key else tls.certificate
        self._session.headers.update({"User-Agent": f"sensor/{__version__}"} | dict(headers or {}))
        if authorization is not None:
            self._session.headers["Authorization"] = authorization

    def post(self, body: bytes, content_type: str) -> Answer:
        """Post the body. Raises SinkError where it makes sense to try again."""
        try:
            with self._session.post(
                self._url,
                data=body,
                headers={"Content-Type": content_type},
                timeout=self._timeout,
                allow_redirects=False,
                stream=True,
            ) as response:
                text = response.raw.read(_ANSWER_BYTES, decode_content=True)
        except requests.Timeout as error:
            raise SinkError(f"{self.where}: no answer within {self._timeout:g} s") from error
        except (requests.RequestException, OSError) as error:
            raise SinkError(f"{self.where}: {_reason(error)}") from error
        except Exception as error:
            # urllib3 raises its own while the answer is read.
            raise SinkError(f"{self.where}: {_reason(error)}") from error
        status = response.status_code
        if 200 <= status < 300:
            return Answer(ok=True)
        said = visible(text.decode("utf-8", "replace"), _REASON_CHARACTERS)
        reason = f"{self.where}: HTTP {status}: {said}"
        if status >= 500 or status in _TRY_AGAIN:
            raise SinkError(reason, retry_after=_retry_after(response))
        return Answer(ok=False, reason=reason)

    def close(self) -> None:
        """Close the connection."""
        self._session.close()


def _as_it_is(request: Any) -> Any:
    return request


def _retry_after(response: requests.Response) -> float | None:
    value = response.headers.get("Retry-After", "")
    return float(value) if value.isascii() and value.isdigit() and len(value) < 7 else None


def _reason(error: BaseException) -> str:
    """The system's or TLS's own words: those of the layers above name the whole address."""
    cause: BaseException | None = error
    for _ in range(10):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"its certificate is not accepted: {cause.verify_message}"
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        if cause is None:
            break
        inner = cause.args[0] if cause.args and isinstance(cause.args[0], Exception) else None
        cause = getattr(inner, "reason", None) or inner or cause.__cause__ or cause.__context__
    return type(error).__name__
