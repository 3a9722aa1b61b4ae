"""The narrowest exception for several alerts of one action: their documents in, an entry out.

What is the same in all of them stays as `suggest` writes it; of what differs, the ends that are the same
stay with a wildcard between them. A secret is a wildcard from the beginning: no file should hold it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from sensor.alerts.fields import text, texts
from sensor.alerts.suggest import plain, suggest

_MARKS: Final = ("id", "rules", "reason", "owner", "expires")
_PATTERN_MAX: Final = 256
_ARGS_MAX: Final = 64

# An argv as it may be written down, with `cut` in place of what may not.
Redact = Callable[[Sequence[str]], Sequence[str]]


def suggest_common(
    alerts: Sequence[dict[str, Any]],
    *,
    now: float,
    days: int,
    reason: str,
    owner: str,
    redact: Redact,
    cut: str,
) -> dict[str, Any]:
    """Make the entry, as it is written in YAML; `alerts` has at least one, its example first.

    `redact` gives an argv with secrets replaced by `cut`. Raises SensorError as `suggest` does.
    """
    entries = [suggest(alert, now=now, days=days, reason=reason, owner=owner) for alert in alerts]
    argvs = [texts(alert, "process.args") for alert in alerts]
    shown = [list(redact(argv)) for argv in argvs]
    has_secret = shown != argvs
    entry: dict[str, Any] = {}
    for key, value in entries[0].items():
        others = [each.get(key) for each in entries[1:]]
        if key in _MARKS:
            entry[key] = value
        elif has_secret and key in ("command_line", "args", "condition"):
            continue
        elif all(other == value for other in others):
            entry[key] = value
        elif key == "args":
            if kept := [each for each in value if all(each in (other or ()) for other in others)]:
                entry[key] = kept
        elif key == "labels":
            common = {
                name: each
                for name, each in value.items()
                if all((other or {}).get(name) == each for other in others)
            }
            if common:
                entry[key] = common
        elif key == "image" and len({text(alert, "container.image.name") for alert in alerts}) == 1:
            entry[key] = f"{text(alerts[0], 'container.image.name')}:*"
        elif key in ("script", "executable") and all(isinstance(each, str) for each in others):
            entry[key] = _pattern([value, *map(str, others)])
    if not {"command_line", "args", "condition"} & entry.keys() and (
        command_line := _command_line(argvs, shown, cut)
    ):
        entry["command_line"] = command_line
    return entry


def _command_line(argvs: Sequence[Sequence[str]], shown: Sequence[Sequence[str]], cut: str) -> str:
    """A pattern that all the command lines match; empty where none is worth writing down."""
    if len({len(argv) for argv in argvs}) != 1 or len(argvs[0]) > _ARGS_MAX:
        return ""
    parts = []
    for column in zip(*shown, strict=True):
        whole = [plain(each).replace(cut, "*") if cut in each else plain(each) for each in column]
        parts.append(_pattern(whole))
    pattern = " ".join(parts)
    return pattern if 0 < len(pattern) <= _PATTERN_MAX and pattern.strip("*? ") else ""


def _pattern(values: Sequence[str]) -> str:
    """One pattern for all: the values' common ends around a wildcard."""
    first, last = min(values), max(values)
    if first == last:
        return first
    prefix = first[: _same(first, last)]
    rest = [value[len(prefix) :][::-1] for value in values]
    first, last = min(rest), max(rest)
    return f"{prefix}*{first[: _same(first, last)][::-1]}"


def _same(one: str, other: str) -> int:
    """How many characters are the same from the beginning."""
    return next(
        (index for index, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]),
        min(len(one), len(other)),
    )
