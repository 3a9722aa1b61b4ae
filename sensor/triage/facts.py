"""What is known beside the alert itself: the store, the exceptions and the rule in, `Facts` out."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sensor.alerts.exception_match import document_test
from sensor.alerts.fields import text, texts
from sensor.rules.engine import document_time_ns
from sensor.store.errors import AlertNotFoundError, StoreError
from sensor.store.filter import Filter
from sensor.triage.model import NearException

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sensor.alerts.exceptions import Exemption
    from sensor.store.records import Similar, Summary, Update
    from sensor.store.store import Store

_CONTAINER: Final = 200
_OTHERS: Final = 10
_AROUND_S: Final = 3600
_NEAR_FAILS: Final = 2
_NEAR_SHOWN: Final = 8
# The keys of an exception that are conditions, as its author wrote them.
_CONDITIONS: Final = (
    "executable", "script", "args", "command_line", "user", "image", "labels", "namespace", "container",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Others:
    """Alerts that share something with this one, newest first, without those of a list before."""

    title: str
    alerts: tuple[Summary, ...]
    more: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What could be looked up; `gaps` says what could not, and why."""

    others: tuple[Others, ...] = ()
    around: tuple[Summary, ...] = ()
    updates: tuple[Update, ...] = ()
    similar: Similar | None = None
    exceptions: tuple[NearException, ...] = ()
    false_positives: tuple[str, ...] = ()
    guide: str = ""
    gaps: tuple[str, ...] = field(default=())


def from_store(document: dict[str, Any], store: Store) -> Facts:
    """What the store knows around an alert. A store that fails half way is a gap, not an error."""
    try:
        return _from_store(document, store)
    except StoreError as error:
        return Facts(gaps=(f"The store could not be read: {error}",))


def _from_store(document: dict[str, Any], store: Store) -> Facts:
    own = text(document, "event.id")
    time_ns = document_time_ns(document) or 0
    container_id = text(document, "container.id")
    similar = store.similar(document)
    seen = {own}
    others: list[Others] = []

    def add(title: str, where: Filter, limit: int, keep: Callable[[Summary], bool]) -> None:
        found = store.alerts(where, limit=limit * 4 + 1)
        fresh = [each for each in found if each.id not in seen and keep(each)]
        seen.update(each.id for each in fresh[:limit])
        if fresh:
            more = len(fresh) > limit or len(found) > limit * 4
            others.append(Others(title=title, alerts=tuple(fresh[:limit]), more=more))

    def elsewhere(each: Summary) -> bool:
        return each.container_id != (container_id or None)

    around: list[Summary] = []
    if container_id:
        where = Filter(container=container_id, notices=False)
        add("In this container", where, _OTHERS, lambda _: True)
        around = store.alerts(
            replace(
                where,
                since=time_ns / 1e9 - _AROUND_S,
                until=time_ns / 1e9 + _AROUND_S,
                hidden=True,
            ),
            limit=_CONTAINER,
        )
    add(
        "The same action elsewhere on this node",
        Filter(action=similar.action, notices=False),
        _OTHERS,
        elsewhere,
    )
    if image := text(document, "container.image.name"):
        add(
            "In other containers of the image",
            Filter(image=image, notices=False),
            _OTHERS,
            elsewhere,
        )
    if rule := text(document, "rule.id"):
        add(
            "The same rule elsewhere on this node",
            Filter(rule=rule, notices=False),
            _OTHERS,
            elsewhere,
        )
    if user := text(document, "user.id"):
        add("By the same user", Filter(user=user, notices=False), _OTHERS, lambda _: True)
    try:
        updates = tuple(store.updates(own)) if own else ()
    except AlertNotFoundError:
        updates = ()
    return Facts(
        others=tuple(others),
        around=tuple(each for each in around if each.id != own),
        updates=updates,
        similar=similar,
    )


@dataclass(frozen=True, slots=True)
class _RuleOfAlert:
    """What an exception asks about a rule."""

    id: str
    tags: tuple[str, ...]


def near_exceptions(
    document: dict[str, Any], exemptions: Iterable[Exemption]
) -> tuple[NearException, ...]:
    """The exceptions for the alert's rule of which at most two conditions do not hold; nearest first."""
    rule: Any = _RuleOfAlert(text(document, "rule.id"), tuple(texts(document, "tags")))
    now = (document_time_ns(document) or 0) / 1e9
    found = []
    for each in exemptions:
        if not each.is_for(rule):
            continue
        holds, fails = _conditions(each, document, now)
        if holds and len(fails) <= _NEAR_FAILS:
            own = each.read.text
            found.append(
                NearException(
                    id=own.id,
                    reason=own.reason,
                    owner=own.owner,
                    expires=own.expires,
                    holds=tuple(holds),
                    fails=tuple(fails),
                )
            )
    found.sort(key=lambda near: (len(near.fails), -len(near.holds)))
    return tuple(found[:_NEAR_SHOWN])


def _conditions(
    exemption: Exemption, document: dict[str, Any], now: float
) -> tuple[list[str], list[str]]:
    """The conditions that hold and those that do not, each as `key: pattern`."""
    read = exemption.read
    holds: list[str] = []
    fails: list[str] = []

    def judge(what: str, result: bool) -> None:
        (holds if result else fails).append(what)

    none: dict[str, Any] = {key: {} if key == "labels" else [] for key in _CONDITIONS}
    for key in _CONDITIONS:
        value = getattr(read.text, key)
        if value:
            alone = msgspec.structs.replace(read.text, **none | {key: value})
            test = document_test(replace(read, text=alone, tree=None))
            judge(f"{key}: {_written(value)}", _holds(test, document))
    if read.tree is not None:
        bare = msgspec.structs.replace(read.text, **none)
        test = document_test(replace(read, text=bare))
        judge(f"condition: {read.text.condition}", _holds(test, document))
    if read.windows:
        judge("windows", any(window.holds(now) for window in read.windows))
    if exemption.expired(now):
        fails.append(f"expired on {read.text.expires}")
    return holds, fails


def _holds(test: Callable[[dict[str, Any]], bool], document: dict[str, Any]) -> bool:
    try:
        return test(document)
    except Exception:  # noqa: BLE001 - as in the sensor: an exception that raises hides nothing
        return False


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={pattern}" for key, pattern in value.items())
    return value if isinstance(value, str) else ", ".join(map(str, value))
