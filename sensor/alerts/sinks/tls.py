"""TLS for the sinks: options in, a context or the arguments of an HTTP client out."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from sensor.errors import ConfigurationError

if TYPE_CHECKING:
    from sensor.alerts.sinks.options import Tls


def client_context(options: Tls, key: str) -> ssl.SSLContext:
    """Make a context that checks the receiver's name. Raises ConfigurationError for its files."""
    check_files(options, key)
    try:
        context = ssl.create_default_context(cafile=options.ca)
        if options.certificate is not None:
            context.load_cert_chain(options.certificate, options.key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"{key}.tls: not usable PEM files: {error}") from error
    return context


def check_files(options: Tls, key: str) -> None:
    """Raise ConfigurationError where a file that is named cannot be read."""
    if options.key is not None and options.certificate is None:
        raise ConfigurationError(f"{key}.tls.key: needs a `certificate`")
    for name, path in (
        ("ca", options.ca),
        ("certificate", options.certificate),
        ("key", options.key),
    ):
        if path is None:
            continue
        try:
            with Path(path).open("rb"):
                pass
        except OSError as error:
            raise ConfigurationError(f"{key}.tls.{name}: {path}: {error.strerror}") from error
