"""The way out, as the configuration says: sinks before privileges are dropped, spool and store after.

Sinks read their secrets when they are made, which may need root. Spool and store open their files
again and again, so they must be made by the user that will go on.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sensor.alerts.dispatch import Dispatcher
from sensor.alerts.redaction.document import Redactor
from sensor.alerts.redaction.patterns import RedactionRule
from sensor.alerts.sinks.base import ConfiguredSink
from sensor.alerts.sinks.protocol import Sink
from sensor.alerts.sinks.stdout import StdoutSink
from sensor.alerts.terminal import wants_color
from sensor.alerts.worker import BacklogError
from sensor.config import Config, Redaction
from sensor.containers.source import Source
from sensor.errors import ConfigurationError

_log = logging.getLogger(__name__)

STORE = "store"  # as sinks in the log and the counters
RESPOND = "respond"


def make_sinks(config: Config) -> list[Sink]:
    """Standard output, unless the configuration leaves it out, and the configured ones.

    Raises `ConfigurationError` naming the key.
    """
    if config.redaction.rules or config.redaction.without:
        redactor_of(config.redaction).check()
    sinks: list[Sink] = []
    if config.stdout:
        output = config.output or ("text" if sys.stdout.isatty() else "json")
        sinks.append(StdoutSink(output=output, color=wants_color()))
    if config.sinks:
        from sensor.alerts.sinks.options import build_sinks  # noqa: PLC0415 - brings its clients

        sinks += build_sinks(config.sinks, key="sinks")
    if config.store.path is None and not sinks:
        raise ConfigurationError("sinks: with `stdout: false` at least one sink is needed")
    for name, taken in ((STORE, config.store.path), (RESPOND, config.respond.automatic.rules)):
        if taken and any(sink.name == name for sink in sinks):
            raise ConfigurationError(f"sinks: the name {name} is taken; give it another `name`")
    return sinks


def make_dispatcher(
    config: Config,
    sinks: Sequence[Sink],
    common: Mapping[str, Any],
    sources: Sequence[Source] = (),
) -> Dispatcher:
    """The dispatcher, with the store, and with a spool where one is configured and a sink can use it.

    `sources` are the engines that the automatic response may act through.

    A disk that fails is said and done without: detection must not depend on it. A directory that is
    misconfigured, or in use by another sensor, is a `ConfigurationError`.
    """
    if config.store.path is not None:
        from sensor.store.sink import StoreSink  # noqa: PLC0415 - brings sqlite3

        store = StoreSink(
            Path(config.store.path),
            name=STORE,
            max_bytes=config.store.max_bytes,
            max_age_s=config.store.max_age_s,
        )
        sinks = [*sinks, store]
    for sink in sinks:
        if isinstance(sink, ConfiguredSink) and (trouble := sink.trouble()):
            _log.error("sink=%s gets no alert yet: %s", sink.name, trouble)
    if config.respond.automatic.rules:
        from sensor.respond.sink import RespondSink  # noqa: PLC0415 - brings the engines' clients

        respond = RespondSink(config.respond, sources, name=RESPOND)
        respond.check()
        sinks = [*sinks, respond]
    durable = [sink for sink in sinks if sink.durable]
    redactor = redactor_of(config.redaction) if config.redaction.enabled else None
    if config.spool.directory is None or not durable:
        return Dispatcher(sinks, common=common, redactor=redactor)
    from sensor.alerts.spool import Spool  # noqa: PLC0415 - brings sqlite3

    try:
        spool = Spool(
            Path(config.spool.directory),
            durable,
            max_bytes=config.spool.max_bytes,
            max_age=config.spool.max_age_s,
        )
    except BacklogError as exc:
        _log.error("the spool cannot be used, sinks that are down will lose alerts: %s", exc)
        return Dispatcher(sinks, common=common, redactor=redactor)
    return Dispatcher(sinks, spool=spool, common=common, redactor=redactor)


def redactor_of(settings: Redaction) -> Redactor:
    """What takes secrets out of documents, as it is configured, whether it is enabled or not."""
    return Redactor(
        rules=(RedactionRule(rule.kind, rule.pattern) for rule in settings.rules),
        without=settings.without,
        keep=settings.keep,
    )
