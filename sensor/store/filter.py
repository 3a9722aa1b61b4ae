"""Which alerts are wanted: a filter in, conditions of SQL out, led by the rarest of them.

SQLite cannot know that a container has three alerts and a rule a million; the first few of each are
counted instead, which costs less than a millisecond.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sensor.store.schema import ALERT, HIDDEN, NOTICE, key

if TYPE_CHECKING:
    from collections.abc import Callable

    _Query = Callable[[str, tuple[Any, ...]], list[tuple[Any, ...]]]

_HEXADECIMAL = re.compile(r"[0-9a-f]{4,64}", re.ASCII)
_PROBED: Final = 5000


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """All that are given must hold. Times are in seconds since the epoch, `until` is exclusive.

    `rule` is a rule's id. `container` is a name, or an id or its beginning. `image` is a name, with or
    without its tag. `user` is a name or a number. `action` is `Summary.action`.
    """

    rule: str | None = None
    container: str | None = None
    image: str | None = None
    user: str | None = None
    action: int | None = None
    since: float | None = None
    until: float | None = None
    minimum_severity: int = 0
    alerts: bool = True
    notices: bool = True
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class _Condition:
    """`pattern` has `{}` before each name of a column."""

    pattern: str
    values: tuple[Any, ...]

    @property
    def sql(self) -> str:
        return self.pattern.format("", "")

    @property
    def unindexed(self) -> str:
        """A plus sign keeps the index of a column out of the plan."""
        return self.pattern.format("+", "+")


def conditions(where: Filter, query: _Query) -> tuple[str, tuple[Any, ...]]:
    """A WHERE clause and its values. `query` runs the probes."""
    wanted: list[_Condition] = []
    if where.rule is not None:
        wanted.append(_equal("rule_key", key(where.rule)))
    if where.container is not None:
        wanted.append(_container(where.container, query))
    if where.user is not None:
        column = "user_id_key" if where.user.isdecimal() else "user_name_key"
        wanted.append(_equal(column, key(where.user)))
    rest: list[tuple[str, tuple[Any, ...]]] = []
    if where.image is not None:
        name, tag = _image(where.image)
        wanted.append(_equal("image_key", key(name)))
        if tag:
            rest.append(("image = ?", (where.image,)))
    if where.action is not None:
        wanted.append(_equal("action", where.action))
    if len(wanted) > 1:
        wanted.sort(key=lambda each: _probe(each, query))
        rest += [(each.unindexed, each.values) for each in wanted[1:]]
    parts = [(each.sql, each.values) for each in wanted[:1]] + rest
    if where.since is not None:
        parts.append(("time >= ?", (int(where.since * 1e6),)))
    if where.until is not None:
        parts.append(("time < ?", (int(where.until * 1e6),)))
    if where.minimum_severity:
        parts.append(("severity >= ?", (where.minimum_severity,)))
    kinds = [
        kind
        for kind, is_wanted in (
            (ALERT, where.alerts),
            (NOTICE, where.notices),
            (HIDDEN, where.hidden),
        )
        if is_wanted
    ]
    parts.append((f"+kind IN ({', '.join(map(str, kinds)) or 'NULL'})", ()))
    clause = " WHERE " + " AND ".join(sql for sql, _ in parts)
    return clause, tuple(value for _, values in parts for value in values)


def _equal(column: str, value: Any) -> _Condition:
    return _Condition(f"{{}}{column} = ?", (value,))


def _container(text: str, query: _Query) -> _Condition:
    """A name first; else, of what looks like one, an id or its beginning."""
    by_name = _equal("container_key", key(text))
    if not _HEXADECIMAL.fullmatch(text) or _probe(by_name, query):
        return by_name
    end = f"{text}g"
    rows = query(
        "SELECT min(container_id), max(container_id) FROM alert"
        " WHERE container_id >= ? AND container_id < ?",
        (text, end),
    )
    first, last = rows[0]
    if first is not None and first == last:
        return _equal("container_id", first)
    return _Condition("{}container_id >= ? AND {}container_id < ?", (text, end))


def _image(text: str) -> tuple[str, str]:
    """Name and tag; a colon before a slash is a registry's port."""
    name, _, tag = text.rpartition(":")
    return (text, "") if not name or "/" in tag else (name, tag)


def _probe(condition: _Condition, query: _Query) -> int:
    """How many rows satisfy it, up to a bound."""
    sql = f"SELECT count(*) FROM (SELECT 1 FROM alert WHERE {condition.sql} LIMIT {_PROBED})"
    return int(query(sql, condition.values)[0][0])
