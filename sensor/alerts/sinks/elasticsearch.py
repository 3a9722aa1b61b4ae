"""Documents to Elasticsearch's data streams, with its own client.

Each is created under its `event.id`: one that is there already is not written again, so that what is
sent twice after a crash is there once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sensor.alerts.escape import elide, visible
from sensor.alerts.fields import get, text
from sensor.alerts.sinks.base import ConfiguredSink
from sensor.alerts.sinks.protocol import Outcome, Outgoing, SinkError
from sensor.alerts.sinks.tls import check_files
from sensor.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sensor.alerts.sinks.options import ElasticsearchOptions

ALERTS = "sensor.alerts"
EVENTS = "cloud_defend.process"
METRICS = "sensor.heartbeat"

_CONFLICT = 409
_TRY_AGAIN = frozenset({408, 429, 502, 503, 504})
_REASON = 200
# One request: far below what a server takes by default (100 MB), far above one document.
_MAX_BYTES = 8 << 20

# Values are an attacker's: one over 32 KB in an index would have the whole document refused.
_KEYWORD = {"type": "keyword", "ignore_above": 1024}
_FLATTENED = {"type": "flattened", "ignore_above": 1024}
_LONGEST_NAME = 1024


def template(dataset: str) -> dict[str, Any]:
    """Make the index template of a data stream.

    Only what Elasticsearch would guess wrongly is said; the rest is for its own ECS mappings. Labels
    are `flattened`: as an object, `com.a` and `com.a.b` would be a conflict and the document refused.
    """
    return {
        "index_patterns": [f"logs-{dataset}-*"],
        "data_stream": {},
        # Above the built-in template for logs-*-*, which is 100.
        "priority": 200,
        "composed_of": ["ecs@mappings"],
        "ignore_missing_component_templates": ["ecs@mappings"],
        "template": {
            "mappings": {
                "date_detection": False,
                "properties": {
                    "@timestamp": {"type": "date"},
                    "message": {"type": "match_only_text"},
                    "event": {
                        "properties": {
                            "id": _KEYWORD,
                            "severity": {"type": "long"},
                            "risk_score": {"type": "float"},
                        }
                    },
                    "process": {
                        "properties": {
                            "args": _KEYWORD,
                            "command_line": {"type": "wildcard"},
                            "entity_id": _KEYWORD,
                        }
                    },
                    "container": {"properties": {"id": _KEYWORD, "labels": _FLATTENED}},
                    "sensor": _FLATTENED,
                },
            }
        },
        "_meta": {"managed_by": "sensor"},
    }


class ElasticsearchSink(ConfiguredSink):
    """Writes batches with `_bulk`. The client comes with the extra `elasticsearch`."""

    def __init__(self, options: ElasticsearchOptions, key: str) -> None:
        super().__init__(options, kind="elasticsearch", batch_size=options.batch_size)
        self._options = options
        self._installed = not options.install_templates
        self._client = _client(options, key)

    def deliver(self, batch: Sequence[Outgoing]) -> Outcome:
        """Create the documents; those that are there already count as arrived."""
        from elasticsearch import ApiError, TransportError  # noqa: PLC0415 - an extra

        if len(batch) > 1 and sum(len(item.payload) for item in batch) > _MAX_BYTES:
            return self._in_halves(batch)
        try:
            self._install()
            answer = self._client.bulk(operations=self._operations(batch))
        except ApiError as error:
            reason = f"HTTP {error.status_code}: {visible(str(error.message), _REASON)}"
            if error.status_code == 413 and len(batch) > 1:
                return self._in_halves(batch)
            if error.status_code == 413:
                return Outcome(refused=[(batch[0], reason)])
            # Also a wrong password: that is for people to mend, and the documents can wait.
            raise SinkError(reason) from error
        except TransportError as error:
            raise SinkError(type(error).__name__) from error
        refused: list[tuple[Outgoing, str]] = []
        retry: list[Outgoing] = []
        for item, action in zip(batch, answer["items"], strict=True):
            result = action["create"]
            status = result["status"]
            if 200 <= status < 300 or status == _CONFLICT:
                continue
            if status in _TRY_AGAIN:
                retry.append(item)
            else:
                why = result.get("error") or {}
                refused.append((item, visible(f"{status}: {why.get('reason', why)}", _REASON)))
        return Outcome(refused=tuple(refused), retry=tuple(retry))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _in_halves(self, batch: Sequence[Outgoing]) -> Outcome:
        middle = len(batch) // 2
        first = self.deliver(batch[:middle])
        try:
            second = self.deliver(batch[middle:])
        except SinkError as error:
            second = Outcome(retry=batch[middle:], retry_after=error.retry_after)
        return Outcome(
            refused=[*first.refused, *second.refused], retry=[*first.retry, *second.retry]
        )

    def _operations(self, batch: Sequence[Outgoing]) -> list[Any]:
        operations: list[Any] = []
        for item in batch:
            document = item.document
            dataset = ALERTS if item.is_alert else EVENTS
            if text(document, "event.kind") == "metric":
                dataset = METRICS
            stream = f"logs-{dataset}-{self._options.namespace}"
            operations.append(
                {"create": {"_index": stream, "_id": text(document, "event.id") or None}}
            )
            data_stream = {
                "type": "logs",
                "dataset": dataset,
                "namespace": self._options.namespace,
            }
            operations.append(_acceptable(document) | {"data_stream": data_stream})
        return operations

    def _install(self) -> None:
        if self._installed:
            return
        for dataset in (ALERTS, EVENTS, METRICS) if self._options.events else (ALERTS,):
            self._client.indices.put_index_template(
                name=f"logs-{dataset}", **_arguments(template(dataset))
            )
        self._installed = True


def _acceptable(document: dict[str, Any]) -> dict[str, Any]:
    """The document with labels' names that a flattened field takes: short, and without a NUL.

    Of any other the server would refuse the whole document, and `ignore_above` is for values alone.
    """
    labels = get(document, "container.labels")
    if not isinstance(labels, dict) or all(map(_is_acceptable, labels)):
        return document
    named = {
        elide(key, _LONGEST_NAME).replace("\0", "\\x00"): value for key, value in labels.items()
    }
    return document | {"container": document["container"] | {"labels": named}}


def _is_acceptable(name: str) -> bool:
    return len(name) <= _LONGEST_NAME and "\0" not in name


def _arguments(body: dict[str, Any]) -> dict[str, Any]:
    """A request's body as the client's arguments, which are the same but for a leading underscore."""
    return {key.removeprefix("_"): value for key, value in body.items()}


def _client(options: ElasticsearchOptions, key: str) -> Any:
    try:
        from elasticsearch import Elasticsearch  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ConfigurationError(
            f"{key}: the client is not installed; install the extra `elasticsearch`"
        ) from error
    check_files(options.tls, key)
    if (options.username is None) != (options.password is None):
        raise ConfigurationError(f"{key}: `username` and `password` go together")
    if options.api_key is not None and options.username is not None:
        raise ConfigurationError(f"{key}: give either `api_key` or `username`")
    arguments: dict[str, Any] = {}
    if any(url.startswith("https://") for url in options.urls):
        arguments |= {
            "ca_certs": options.tls.ca,
            "client_cert": options.tls.certificate,
            "client_key": options.tls.key,
        }
    if options.api_key is not None:
        arguments["api_key"] = options.api_key.read(f"{key}.api_key")
    elif options.username is not None and options.password is not None:
        arguments["basic_auth"] = (options.username, options.password.read(f"{key}.password"))
    try:
        return Elasticsearch(
            options.urls,
            request_timeout=options.timeout,
            # Tries again are the worker's, which knows what else is waiting.
            max_retries=0,
            **{name: value for name, value in arguments.items() if value is not None},
        )
    except ValueError as error:
        raise ConfigurationError(f"{key}.urls: {visible(str(error), _REASON)}") from error
