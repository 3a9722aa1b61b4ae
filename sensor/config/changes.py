"""What a reload may change: two configurations in, the one to run on with out, and what differed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec

from sensor.config.merge import keys
from sensor.config.schema import Config, Section

_S = TypeVar("_S", bound=Section)

# Keys that are put in force while the sensor runs. The others need what it gave up at its start.
LIVE = frozenset(
    {
        "rules",
        "builtin_rules",
        "strict",
        "canary_interval_s",
        "heartbeat_interval_s",
        "containers.cluster_name",
        "containers.wait_ms",
        "alerts.limit",
        "alerts.max_alerts",
        "alerts.interval_s",
        "alerts.reserve",
        "alerts.limits",
        "alerts.collapse_window_s",
        "alerts.exceptions",
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """`config` has the new values of keys that can change, `changed`; `pending` need a restart."""

    config: Config
    changed: tuple[str, ...]
    pending: tuple[str, ...]


def change(running: Config, wanted: Config) -> Change:
    """What comes of wanting another configuration than the running one."""
    differing = [".".join(path) for path, _ in keys() if _at(running, path) != _at(wanted, path)]
    return Change(
        config=_take(running, wanted, ""),
        changed=tuple(key for key in differing if key in LIVE),
        pending=tuple(key for key in differing if key not in LIVE),
    )


def _at(config: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        config = getattr(config, name)
    return config


def _take(running: _S, wanted: _S, above: str) -> _S:
    """The running section with the new values of what can change."""
    values: dict[str, Any] = {}
    for name in running.__struct_fields__:
        now, new = getattr(running, name), getattr(wanted, name)
        if isinstance(now, Section):
            values[name] = _take(now, new, f"{above}{name}.")
        elif f"{above}{name}" in LIVE:
            values[name] = new
    return msgspec.structs.replace(running, **values)
