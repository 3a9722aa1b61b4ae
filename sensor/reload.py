"""Rules and settings anew, without a restart: read beside the running ones, put in place in one step.

In: a request. Out, some turns of the loop later: an engine and a filter made of the files as they
are now, or why not, and the old ones go on. The reading happens on a thread of its own and in a
child process; only the last step is the loop's.
"""

from __future__ import annotations

import ctypes as ct
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from sensor.alerts.exceptions import Exceptions, load_exceptions
from sensor.config import Config
from sensor.config.changes import Change, change
from sensor.errors import ConfigurationError, RuleError, SensorError
from sensor.prefilter import Prefilter, build_prefilter
from sensor.rules.engine import RuleEngine
from sensor.rules.live import waits_for_failures
from sensor.rules.load import LoadResult, load_rules_in_child

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleSet:
    """The rules in force: what was loaded, ready to evaluate, and the kernel's filter for it.

    `config` is what they were loaded by.
    """

    config: Config
    loaded: LoadResult
    engine: RuleEngine
    prefilter: Prefilter
    exceptions: Exceptions


@dataclass(frozen=True, slots=True)
class Refused:
    """A reload that changed nothing, and why."""

    reason: str


def load_rule_set(
    config: Config, canary_literal: bytes, last: RuleSet | None = None
) -> LoadResult | RuleSet:
    """What the files hold now; a bare `LoadResult` where they cannot be put in force.

    That is so when no rule is left to run, or, with `strict`, when any file is broken. Otherwise a
    broken file counts as it was in `last`. Raises `SensorError` when the files could not be read at
    all.
    """
    loaded = load_rules_in_child(config.rules, builtin=config.builtin_rules)
    if last is not None and not config.strict:
        loaded = _keep_rules(loaded, last.loaded)
    wanted = config.builtin_rules or config.rules
    if loaded.errors and (config.strict or (wanted and not loaded.rules)):
        return loaded
    state = config.alerts.exceptions_state
    exceptions = load_exceptions(
        config.alerts.exceptions,
        loaded.rules,
        state_path=None if state is None else Path(state),
        in_child=True,
    )
    if exceptions.errors:
        if last is not None and not config.strict:
            exceptions, kept = _keep_exceptions(exceptions, last.exceptions)
            loaded = replace(loaded, notices=(*loaded.notices, *kept))
        loaded = replace(loaded, errors=(*loaded.errors, *exceptions.errors))
        if config.strict:
            return loaded
    failed = config.kernel.failed_execs
    if not failed:
        loaded = replace(loaded, notices=(*loaded.notices, *_waiting_for_failures(loaded)))
    rules = RuleSet(
        config=config,
        loaded=loaded,
        engine=RuleEngine(loaded.rules),
        prefilter=build_prefilter(loaded.rules, [canary_literal], failed=failed),
        exceptions=exceptions,
    )
    # Compiling leaves some megabytes free inside the C library, which keeps them for later.
    ct.CDLL(None).malloc_trim(0)
    return rules


def _waiting_for_failures(loaded: LoadResult) -> list[str]:
    """What to say of rules that can only match where execs that failed are told."""
    return [
        f"{rule.path}: the rule {rule.name!r} waits for execs that failed; they are told with "
        "kernel.failed_execs: true"
        for rule in loaded.rules
        if rule.query is not None and waits_for_failures(rule.query.ast)
    ]


def _keep_rules(loaded: LoadResult, last: LoadResult) -> LoadResult:
    """The rules of before for the files that are broken now, unless their ids are others' by now."""
    broken = _paths(loaded.errors)
    ids = {rule.id for rule in (*loaded.rules, *loaded.inactive)}
    kept = [rule for rule in last.rules if _below(rule.path, broken) and rule.id not in ids]
    return replace(
        loaded,
        rules=(*loaded.rules, *kept),
        notices=(
            *loaded.notices,
            *(f"{rule.path}: the rule {rule.name!r} stays in force as it was" for rule in kept),
        ),
    )


def _keep_exceptions(exceptions: Exceptions, last: Exceptions) -> tuple[Exceptions, list[str]]:
    """Each file that is broken now as it was before, if it was there; and what to say of that."""
    broken = _paths(exceptions.errors)
    new = [each for each in exceptions if not _below(each.read.location.path, broken)]
    ids = {each.id for each in new}
    kept = [each for each in last if _below(each.read.location.path, broken) and each.id not in ids]
    known = {each.read.location.path for each in kept}
    ids |= {each.id for each in kept}
    # Of a file that is new and broken, the entries that can be read count.
    new += [
        each
        for each in exceptions
        if _below(each.read.location.path, broken)
        and each.read.location.path not in known
        and each.id not in ids
    ]
    said = [f"{path}: the exceptions in it stay as they were" for path in sorted(map(str, known))]
    both = Exceptions([*new, *kept], errors=exceptions.errors, state_path=exceptions.state_path)
    return both, said


def _paths(errors: tuple[RuleError, ...]) -> set[PurePath]:
    return {PurePath(error.location.path) for error in errors if error.location.path}


def _below(path: str | None, roots: set[PurePath]) -> bool:
    """Whether the path is one of these, or in one: a folder that cannot be read is broken whole."""
    return path is not None and not roots.isdisjoint((PurePath(path), *PurePath(path).parents))


class Reloader:
    """One reload at a time; a request that comes meanwhile is another reload after it.

    `rules` are those in force. `reread` gives the configuration as it is now; None keeps it.
    """

    def __init__(
        self,
        rules: RuleSet,
        canary_literal: bytes,
        report: Callable[[LoadResult], None],
        say: Callable[[str], None],
        reread: Callable[[], Config] | None = None,
    ) -> None:
        self._rules = rules
        self._literal = canary_literal
        self._report = report
        self._say = say
        self._reread = reread
        self._thread: threading.Thread | None = None
        self._requested = False
        self._result: RuleSet | Refused | None = None
        self.counts: dict[str, int] = {}
        self.done = 0
        self.failed = 0
        self._note(rules.loaded)

    def request(self) -> None:
        """To be called from the signal's handler: only says that it is wanted."""
        self._requested = True

    def take(self) -> RuleSet | Refused | None:
        """To be called each turn: a rule set that is ready to be put in force, or why there is none."""
        if self._thread is not None:
            if self._thread.is_alive():
                return None
            self._thread = None
            result, self._result = self._result, None
            if isinstance(result, RuleSet):
                self._rules = result
                self.done += 1
                self._note(result.loaded)
            else:
                self.failed += 1
            return result
        if self._requested:
            self._requested = False
            self._thread = threading.Thread(target=self._load, name="reload", daemon=True)
            self._thread.start()
        return None

    @property
    def config(self) -> Config:
        """The configuration in force."""
        return self._rules.config

    @property
    def busy(self) -> bool:
        """Whether a reload is under way."""
        return self._thread is not None

    def _note(self, loaded: LoadResult) -> None:
        """Remember how many rules there are of each kind."""
        self.counts = {
            "loaded": len(loaded.rules),
            "inactive": len(loaded.inactive),
            "failed": len(loaded.errors),
        }

    def _load(self) -> None:
        self._result = Refused("an unexpected error, see the log")
        try:
            self._result = self._try()
        except SensorError as exc:
            self._result = Refused(str(exc))

    def _try(self) -> RuleSet | Refused:
        wanted = self._changed()
        loaded = load_rule_set(wanted.config, self._literal, self._rules)
        if isinstance(loaded, RuleSet):
            self._report(loaded.loaded)
            for key in wanted.changed:
                self._say(f"configuration reloaded: {key}")
            return loaded
        self._report(loaded)
        return Refused("; ".join(str(error).splitlines()[0] for error in loaded.errors[:3]))

    def _changed(self) -> Change:
        """The configuration to run on with. What the sensor's user may not read stays as it is."""
        running = self._rules.config
        if self._reread is None:
            return Change(config=running, changed=(), pending=())
        try:
            wanted = change(running, self._reread())
        except ConfigurationError as exc:
            if not isinstance(exc.__cause__, PermissionError):
                raise
            self._say(f"notice: the configuration stays as it was, rules are read again: {exc}")
            return Change(config=running, changed=(), pending=())
        for key in wanted.pending:
            self._say(f"notice: {key} has changed; that needs a restart")
        return wanted
