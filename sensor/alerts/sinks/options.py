"""What can be set of each sink: mappings from the configuration in, typed options or sinks out.

A sink is named by `type`. Secrets are never written into the configuration itself: each is a file or
an environment variable, read once when the sensor starts, and shows as `***` wherever it is printed.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec

from sensor.errors import ConfigurationError
from sensor.rules.rule import SEVERITY_NUMBER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sensor.alerts.sinks.protocol import Sink

Severity = Literal["low", "medium", "high", "critical"]

_Seconds = Annotated[float, msgspec.Meta(gt=0, le=3600)]
_Count = Annotated[int, msgspec.Meta(ge=1, le=10_000)]
_Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class SecretText(str):
    """A secret: a text that does not show when it is printed or logged as a value."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"


class Secret(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a secret is: the path of a file that holds nothing else, or a variable's name."""

    file: str | None = None
    env: str | None = None

    def read(self, key: str) -> SecretText:
        """Read it, without white space around it. Raises ConfigurationError, which names the key."""
        if (self.file is None) == (self.env is None):
            raise ConfigurationError(f"{key}: give either `file` or `env`")
        if self.env is not None:
            if not (value := os.environ.get(self.env, "").strip()):
                raise ConfigurationError(f"{key}: the variable {self.env} is not set")
            return SecretText(value)
        path = Path(str(self.file))
        try:
            value = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "is not UTF-8"
            raise ConfigurationError(f"{key}: {path}: {reason}") from error
        if not value:
            raise ConfigurationError(f"{key}: {path}: is empty")
        return SecretText(value)


class _Options(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="type"
):
    """What every sink has: a name for the log and the counters, and the least severity it wants.

    With `redact: false` it gets secrets, too.
    """

    name: _Name | None = None
    minimum_severity: Severity = "low"
    events: bool = False
    redact: bool = True

    @property
    def least(self) -> int:
        """The least severity as a number."""
        return SEVERITY_NUMBER[self.minimum_severity]


class Tls(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whom to trust and what to show: PEM files. Without `ca` the system's authorities count."""

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None


class FileOptions(_Options, frozen=True, tag="file"):
    """Lines of JSON in a file for the owner alone; turned over by size and by age in seconds."""

    path: str
    max_bytes: Annotated[int, msgspec.Meta(ge=4096)] = 64 << 20
    max_age: Annotated[float, msgspec.Meta(ge=60)] = 7 * 86_400.0
    keep: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 5


class SyslogOptions(_Options, frozen=True, tag="syslog"):
    """Syslog messages. `address` is a socket's path, or HOST:PORT for the other transports.

    `format` is rfc5424 but on a local socket, where daemons expect what the C library sends: `local`.
    """

    transport: Literal["unix", "udp", "tcp", "tls"] = "unix"
    address: str = "/dev/log"
    format: Literal["rfc5424", "local"] | None = None
    facility: Annotated[int, msgspec.Meta(ge=0, le=23)] = 16
    app_name: Annotated[str, msgspec.Meta(pattern=r"^[!-~]{1,48}$")] = "sensor"
    max_bytes: Annotated[int, msgspec.Meta(ge=1024, le=1 << 20)] | None = None
    timeout: _Seconds = 5.0
    tls: Tls = Tls()


class HttpOptions(_Options, frozen=True, tag="http"):
    """A POST for each document, or one for `batch_size` lines of JSON with `format: ndjson`.

    A webhook's address is itself a secret with many services, and so may be one here.
    """

    url: str | Secret
    format: Literal["ecs", "ndjson", "slack", "falcosidekick"] = "ecs"
    authorization: Secret | None = None
    headers: dict[str, str] = {}
    timeout: _Seconds = 10.0
    batch_size: _Count = 100
    tls: Tls = Tls()


class AlertmanagerOptions(_Options, frozen=True, tag="alertmanager"):
    """Prometheus Alertmanager. An alert there ends after `resolve_after` seconds without another."""

    url: str
    resolve_after: Annotated[float, msgspec.Meta(ge=1)] = 300.0
    labels: dict[str, str] = {}
    generator_url: str = ""
    authorization: Secret | None = None
    timeout: _Seconds = 10.0
    batch_size: _Count = 64
    tls: Tls = Tls()


class ElasticsearchOptions(_Options, frozen=True, tag="elasticsearch"):
    """Data streams of Elasticsearch: alerts, and with `events` the events, each in its own."""

    urls: Annotated[list[str], msgspec.Meta(min_length=1)]
    namespace: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9][a-z0-9_.]{0,99}$")] = "default"
    api_key: Secret | None = None
    username: str | None = None
    password: Secret | None = None
    install_templates: bool = False
    timeout: _Seconds = 30.0
    batch_size: _Count = 500
    tls: Tls = Tls()


Options = FileOptions | SyslogOptions | HttpOptions | AlertmanagerOptions | ElasticsearchOptions


def read_options(value: Any, key: str) -> Options:
    """Check one sink's mapping. Raises ConfigurationError that begins with the key."""
    try:
        return msgspec.convert(value, Options)  # type: ignore[no-any-return]
    except msgspec.ValidationError as error:
        message, _, path = str(error).partition(" - at `$")
        where = f"{key}{path.rstrip('`')}"
        raise ConfigurationError(f"{where}: {message[0].lower()}{message[1:]}") from error


def build_sinks(values: Sequence[Any], *, key: str = "sinks") -> list[Sink]:
    """Make the sinks of a configuration's list. Connects to nothing; reads secrets.

    Raises ConfigurationError with the place of the first thing that is wrong. Only what is named is
    imported.
    """
    sinks: list[Sink] = []
    for index, value in enumerate(values):
        place = f"{key}[{index}]"
        sink = build_sink(read_options(value, place), place)
        if any(each.name == sink.name for each in sinks):
            raise ConfigurationError(f"{place}: the name {sink.name} is taken; give it a `name`")
        sinks.append(sink)
    return sinks


def build_sink(options: Options, key: str) -> Sink:  # the classes are imported where they are named
    """Make one sink; `key` is its place in the configuration, for messages."""
    match options:
        case FileOptions():
            from sensor.alerts.sinks.file import FileSink  # noqa: PLC0415

            return FileSink(options)
        case SyslogOptions():
            from sensor.alerts.sinks.syslog import SyslogSink  # noqa: PLC0415

            return SyslogSink(options, key)
        case HttpOptions():
            from sensor.alerts.sinks.http import HttpSink  # noqa: PLC0415

            return HttpSink(options, key)
        case AlertmanagerOptions():
            from sensor.alerts.sinks.alertmanager import AlertmanagerSink  # noqa: PLC0415

            return AlertmanagerSink(options, key)
        case ElasticsearchOptions():
            from sensor.alerts.sinks.elasticsearch import ElasticsearchSink  # noqa: PLC0415

            return ElasticsearchSink(options, key)
