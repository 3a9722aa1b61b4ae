"""Rules anew, without a restart: read beside the running ones, put in place in one step.

In: a request. Out, some turns of the loop later: an engine and a filter made of the files as they
are now, or None with the reasons said, and the old ones go on. The reading happens on a thread of
its own and in a child process; only the last step is the loop's.
"""

from __future__ import annotations

import ctypes as ct
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

from sensor.alerts.exceptions import Exceptions, load_exceptions
from sensor.config import Config
from sensor.errors import SensorError
from sensor.prefilter import Prefilter, build_prefilter
from sensor.rules.engine import RuleEngine
from sensor.rules.load import LoadResult, load_rules_in_child

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """The rules in force: what was loaded, ready to evaluate, and the kernel's filter for it."""

    loaded: LoadResult
    engine: RuleEngine
    prefilter: Prefilter
    exceptions: Exceptions


def load_rule_set(config: Config, canary_literal: bytes) -> LoadResult | RuleSet:
    """What the files hold now; a bare `LoadResult` where they cannot be put in force.

    That is so when no rule is left to run, or, with `strict`, when any file is broken. Raises
    `SensorError` when the files could not be read at all.
    """
    loaded = load_rules_in_child(config.rules, builtin=config.builtin_rules)
    wanted = config.builtin_rules or config.rules
    if loaded.errors and (config.strict or (wanted and not loaded.rules)):
        return loaded
    exceptions = load_exceptions(config.alerts.exceptions, loaded.rules, in_child=True)
    if exceptions.errors:
        loaded = replace(loaded, errors=(*loaded.errors, *exceptions.errors))
        if config.strict:
            return loaded
    rules = RuleSet(
        loaded=loaded,
        engine=RuleEngine(loaded.rules),
        prefilter=build_prefilter(loaded.rules, [canary_literal]),
        exceptions=exceptions,
    )
    # Compiling leaves some megabytes free inside the C library, which keeps them for later.
    ct.CDLL(None).malloc_trim(0)
    return rules


class Reloader:
    """One reload at a time; a request that comes meanwhile is another reload after it."""

    def __init__(
        self, config: Config, canary_literal: bytes, report: Callable[[LoadResult], None]
    ) -> None:
        self._config = config
        self._literal = canary_literal
        self._report = report
        self._thread: threading.Thread | None = None
        self._requested = False
        self._result: RuleSet | None = None
        self.counts: dict[str, int] = {}
        self.done = 0
        self.failed = 0

    def request(self) -> None:
        """To be called from the signal's handler: only says that it is wanted."""
        self._requested = True

    def note(self, loaded: LoadResult) -> None:
        """Remember how many rules there are of each kind."""
        self.counts = {
            "loaded": len(loaded.rules),
            "inactive": len(loaded.inactive),
            "failed": len(loaded.errors),
        }

    def take(self) -> RuleSet | None:
        """To be called each turn: a rule set that is ready to be put in force."""
        if self._thread is not None:
            if self._thread.is_alive():
                return None
            self._thread = None
            result, self._result = self._result, None
            return result
        if self._requested:
            self._requested = False
            self._thread = threading.Thread(target=self._load, name="reload", daemon=True)
            self._thread.start()
        return None

    def _load(self) -> None:
        try:
            loaded = load_rule_set(self._config, self._literal)
        except SensorError as exc:
            self.failed += 1
            _log.error("the rules could not be reloaded, the old ones stay in force: %s", exc)
            return
        if isinstance(loaded, RuleSet):
            self._report(loaded.loaded)
            self.note(loaded.loaded)
            self._result = loaded
            self.done += 1
        else:
            self._report(loaded)
            self.failed += 1
            _log.error("the rules cannot be used as they are now, the old ones stay in force")
