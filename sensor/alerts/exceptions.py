"""Exceptions at work: an alert's document and rule in, the exception that hides it out, or None.

What each one hid is counted, by rule, and kept in a small file, so that `sensor exceptions report`
can say which one never did anything. An exception that raises hides nothing.
"""

from __future__ import annotations

import logging
import os
import pickle
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from sensor.alerts.exception_match import document_test
from sensor.alerts.notice import notice, timestamp
from sensor.errors import RuleError, SensorError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sensor.alerts.exception_file import ReadException
    from sensor.rules.rule import Rule

log = logging.getLogger(__name__)

_CHILD_TIMEOUT_S = 60
_SAVE_INTERVAL = 30.0
_SAVE_SECONDS = 0.5


@dataclass(slots=True, kw_only=True)
class Tally:
    """What one exception did. Times are in seconds since the epoch; `rules` counts by rule id."""

    hidden: int = 0
    last: float | None = None
    errors: int = 0
    rules: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemption:
    """One exception, ready to be asked."""

    read: ReadException
    test: Callable[[dict[str, Any]], bool]
    tally: Tally = field(default_factory=Tally)

    @property
    def id(self) -> str:
        """The id its author gave it."""
        return self.read.text.id

    def expired(self, now: float) -> bool:
        """Whether its time is over."""
        return self.read.expires is not None and now >= self.read.expires

    def is_for(self, rule: Rule) -> bool:
        """Whether it speaks of the rule at all."""
        if self.read.rule_id is not None and self.read.rule_id != rule.id:
            return False
        rules, tags = as_list(self.read.text.rules), as_list(self.read.text.tags)
        if not rules and not tags:
            return True  # in the rule's own file
        return "all" in rules or rule.id in rules or any(tag in rule.tags for tag in tags)

    def holds(self, document: dict[str, Any], now: float) -> bool:
        """Whether it hides the document at this time, in seconds since the epoch."""
        if self.expired(now):
            return False
        windows = self.read.windows
        if windows and not any(window.holds(now) for window in windows):
            return False
        return self.test(document)


class Exceptions:
    """All exceptions of one configuration; for one thread.

    `errors` are the entries that could not be used. `state_path` is where the counts are kept; None
    keeps them in memory only. `common` is what every document of this host carries.
    """

    def __init__(
        self,
        exemptions: Sequence[Exemption] = (),
        *,
        errors: Sequence[RuleError] = (),
        state_path: Path | None = None,
        common: Mapping[str, Any] | None = None,
    ) -> None:
        self.errors = tuple(errors)
        self._all = tuple(exemptions)
        self._by_rule: dict[str, tuple[Exemption, ...]] = {}
        self.state_path = state_path
        self.common = common
        self._told: set[str] = set()
        self._changed = False
        self._next_save = 0.0
        self._saving: threading.Thread | None = None
        if state_path is not None:
            self._restore(state_path)

    def __iter__(self) -> Any:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    def find(self, document: dict[str, Any], rule: Rule, now: float) -> Exemption | None:
        """Give the exception that hides an alert on this document, and count it.

        `now` is the time of the event, in seconds since the epoch.
        """
        if not self._all:
            return None
        entries = self._by_rule.get(rule.id)
        if entries is None:
            entries = tuple(each for each in self._all if each.is_for(rule))
            self._by_rule[rule.id] = entries
        for each in entries:
            try:
                if not each.holds(document, now):
                    continue
            except Exception:  # one exception's fault must not end detection: the alert goes out
                each.tally.errors += 1
                if each.tally.errors == 1:
                    log.exception("exception=%s raised and hid nothing", each.id)
                continue
            each.tally.hidden += 1
            each.tally.last = now
            each.tally.rules[rule.id] = each.tally.rules.get(rule.id, 0) + 1
            self._changed = True
            return each
        return None

    def tick(self, now: float) -> list[dict[str, Any]]:
        """Give a notice for each exception whose time is over, once; keep the counts now and then."""
        if self._changed and now >= self._next_save:
            self._next_save = now + _SAVE_INTERVAL
            if self._saving is None or not self._saving.is_alive():
                # A disk that does not answer must not hold up detection.
                self._saving = threading.Thread(
                    target=self._write, args=(self._encoded(),), name="exceptions", daemon=True
                )
                self._saving.start()
        notices = []
        for each in self._all:
            if not each.expired(now):
                self._told.discard(each.id)
            elif each.id not in self._told:
                self._told.add(each.id)
                own = each.read.text
                notices.append(
                    notice(
                        "exception_expired",
                        f"the exception {each.id} of {own.owner!r} expired on {own.expires} and "
                        f"no longer applies: {own.reason!r}",
                        severity="low",
                        time=now,
                        details={"id": each.id, "owner": own.owner, "expires": own.expires},
                        common=self.common,
                    )
                )
        return notices

    def succeed(self, before: Exceptions) -> None:
        """Takes the place of those that were in force: counts go on, nothing is told twice."""
        self.common = before.common
        self._told |= before._told
        self._changed = True
        tallies = before.counters()
        for each in self._all:
            tally = tallies.get(each.id)
            if tally is not None and tally is not each.tally:
                each.tally.hidden, each.tally.last = tally.hidden, tally.last
                each.tally.rules = dict(tally.rules)

    def _restore(self, path: Path) -> None:
        """Go on counting where an earlier run of the sensor ended."""
        try:
            state = load_state(path)
        except FileNotFoundError:
            return
        except (OSError, SensorError) as error:
            log.warning("counts of exceptions begin anew: %s", error)
            return
        for each in self._all:
            if tally := state.get(each.id):
                each.tally.hidden, each.tally.last = tally.hidden, tally.last
                each.tally.rules.update(tally.rules)

    def counters(self) -> dict[str, Tally]:
        """What each exception did, by its id."""
        return {each.id: each.tally for each in self._all}

    def save(self) -> None:
        """Write the counts to their file, for the sensor's end. A failure is logged, not raised."""
        if self._saving is not None:
            self._saving.join(_SAVE_SECONDS)
            if self._saving.is_alive():
                log.warning("path=%s counts of exceptions not kept: no answer", self.state_path)
                return
        self._write(self._encoded())

    def _encoded(self) -> bytes:
        self._changed = False
        return msgspec.json.encode({"version": 1, "exceptions": self.counters()})

    def _write(self, state: bytes) -> None:
        if self.state_path is None:
            return
        beside = self.state_path.with_name(f".{self.state_path.name}.new")
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(state)
            beside.replace(self.state_path)
        except OSError as error:
            log.warning(
                "path=%s counts of exceptions not kept: %s", self.state_path, error.strerror
            )


def as_list(value: str | list[str]) -> list[str]:
    """One text or several, as a list."""
    return [value] if isinstance(value, str) else value


def load_exceptions(
    paths: Iterable[str | Path] = (),
    rules: Iterable[Rule] = (),
    *,
    state_path: Path | None = None,
    common: Mapping[str, Any] | None = None,
    in_child: bool = False,
) -> Exceptions:
    """Load the exceptions at the paths, and those that stand in the rules' own files.

    What is wrong with entries is in the result's `errors`. `in_child` reads them in a process that is
    gone afterwards, with the parsers it needs. Raises SensorError when that does not answer.
    """
    files = [str(path) for path in paths]
    own = [(rule.id, rule.exceptions) for rule in rules if rule.exceptions]
    read: list[ReadException | RuleError] = []
    if files or own:
        if in_child:
            read = _read_in_child(files, own)
        else:
            from sensor.alerts.exception_file import read_exceptions  # noqa: PLC0415 - parsers

            read = read_exceptions(files, own)
    exemptions: list[Exemption] = []
    errors: list[RuleError] = []
    for each in read:
        if isinstance(each, RuleError):
            errors.append(each)
            continue
        try:
            exemptions.append(Exemption(read=each, test=document_test(each)))
        except RuleError as error:  # a condition that parses and means nothing
            errors.append(error)
    return Exceptions(exemptions, errors=errors, state_path=state_path, common=common)


def _read_in_child(paths: list[str], own: list[Any]) -> list[ReadException | RuleError]:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    try:
        child = subprocess.run(
            [sys.executable, "-P", "-m", "sensor.alerts.exception_child"],
            input=pickle.dumps((paths, own)),
            capture_output=True,
            env=environment,
            timeout=_CHILD_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SensorError(
            f"the process that reads the exceptions did not answer: {error}"
        ) from error
    if child.returncode != 0:
        last = child.stderr.decode(errors="replace").strip().rsplit("\n", 1)[-1]
        raise SensorError(
            f"the process that reads the exceptions ended with {child.returncode}: {last}"
        )
    return pickle.loads(child.stdout)  # type: ignore[no-any-return]  # noqa: S301 - our own child's


class _State(msgspec.Struct):
    version: int
    exceptions: dict[str, Tally]


def load_state(path: Path) -> dict[str, Tally]:
    """Read the counts that a running sensor keeps, by the exception's id.

    Raises OSError where there is no such file, and SensorError where it is not such a file.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=_State).exceptions
    except msgspec.MsgspecError as error:
        raise SensorError(f"{path}: not the counts of exceptions: {error}") from error


def hidden_document(document: dict[str, Any], rule: Rule, exemption: Exemption) -> dict[str, Any]:
    """Make the record of what was hidden: the event itself, with the rule and the exception.

    It is no alert; `event.kind` stays `event`.
    """
    own = exemption.read.text
    result = document | rule.ecs()
    result["rule"]["exception"] = {
        "id": exemption.id,
        "reason": own.reason,
        "owner": own.owner,
        "expires": own.expires,
    }
    if exemption.tally.last is not None:
        result["rule"]["exception"]["applied"] = timestamp(exemption.tally.last)
    result["event"] = document.get("event", {}) | {
        "kind": "event",
        "risk_score": rule.risk_score,
        "reason": f"the rule matched and the exception {exemption.id} hides it",
    }
    return result
