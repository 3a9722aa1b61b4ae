"""The process tree of an alert: its document in, nodes from the outermost ancestor to the match out.

The chain comes from `sensor.ancestors`; an alert without it gives what its parent and leaders tell. What
else the container ran just before hangs on the node that started it.
"""

from __future__ import annotations

from typing import Any, Final

from sensor.alerts.fields import get, number, text, texts
from sensor.triage.model import Node, Place

_CHAIN: Final = 16
_NODES: Final = 48
_RELATIVES: Final = {
    "entry_leader": "entry",
    "session_leader": "session leader",
    "group_leader": "group leader",
}


def process_tree(document: dict[str, Any]) -> tuple[tuple[Node, ...], int]:
    """The nodes in the order in which they are drawn, and how many found no room."""
    chain = _chain(document)
    children: dict[int, list[dict[str, Any]]] = {}
    left_out = 0
    pids = {number(process, "pid") for process in chain}
    known = set(pids)
    budget = _NODES - len(chain)
    for recent in recent_execs(document):
        pid, ppid = number(recent, "process.pid"), number(recent, "process.parent.pid")
        if pid in pids or ppid not in known:
            continue
        if budget == 0:
            left_out += 1
            continue
        budget -= 1
        known.add(pid)
        children.setdefault(ppid, []).append(recent)
    nodes: list[Node] = []
    marks = _marks(document)
    _place_chain(document, chain, children, marks, nodes)
    return tuple(nodes), left_out


def recent_execs(document: dict[str, Any]) -> list[dict[str, Any]]:
    """`sensor.recent_activity` as far as it has the right shape."""
    recent = get(document, "sensor.recent_activity")
    if not isinstance(recent, list):
        return []
    return [each for each in recent if isinstance(each, dict) and number(each, "process.pid")]


def _place_chain(
    document: dict[str, Any],
    chain: list[dict[str, Any]],
    children: dict[int, list[dict[str, Any]]],
    marks: dict[str, list[str]],
    nodes: list[Node],
) -> None:
    """Write the chain down; what else a node started comes before the node that leads to the match."""
    parent: int | None = None
    for depth, process in enumerate(chain):
        is_match = depth == len(chain) - 1
        own_marks = list(marks.get(text(process, "entity_id"), ()))
        nodes.append(
            Node(
                parent=parent,
                depth=depth,
                pid=number(process, "pid"),
                name=_name(process),
                args=tuple(texts(process, "args")),
                args_truncated=get(process, "args_truncated") is True,
                user=text(process, "user.id"),
                place="inside" if is_match and text(document, "container.id") else _place(process),
                is_chain=True,
                is_match=is_match,
                marks=tuple(own_marks),
            )
        )
        parent = len(nodes) - 1
        _place_children(children, number(process, "pid"), parent, depth + 1, nodes)


def _place_children(
    children: dict[int, list[dict[str, Any]]],
    pid: int,
    parent: int,
    depth: int,
    nodes: list[Node],
) -> None:
    pending = [(each, parent, depth) for each in reversed(children.pop(pid, ()))]
    while pending:
        recent, parent, depth = pending.pop()
        own = number(recent, "process.pid")
        args = tuple(texts(recent, "process.args"))
        nodes.append(
            Node(
                parent=parent,
                depth=depth,
                pid=own,
                name=args[0].rpartition("/")[2] if args else "?",
                args=args,
                args_truncated=get(recent, "args_truncated") is True,
                user=text(recent, "process.user.id"),
                place="inside",
                is_chain=False,
                is_match=False,
                marks=(),
            )
        )
        below = reversed(children.pop(own, ()))
        pending.extend((each, len(nodes) - 1, depth + 1) for each in below)


def _chain(document: dict[str, Any]) -> list[dict[str, Any]]:
    """The match's ancestors, outermost first, and the match."""
    process = get(document, "process")
    own: dict[str, Any] = process if isinstance(process, dict) else {}
    ancestors = get(document, "sensor.ancestors")
    if isinstance(ancestors, list):
        found = [each for each in ancestors[:_CHAIN] if isinstance(each, dict)]
    else:
        found = _relatives(own)
    return [*reversed(found), own]


def _relatives(process: dict[str, Any]) -> list[dict[str, Any]]:
    """Parent and leaders, nearest first, each once."""
    seen = {text(process, "entity_id")}
    found = []
    for name in ("parent", *reversed(_RELATIVES)):
        relative = process.get(name)
        if isinstance(relative, dict) and text(relative, "entity_id") not in seen:
            seen.add(text(relative, "entity_id"))
            found.append(relative)
    return found


def _marks(document: dict[str, Any]) -> dict[str, list[str]]:
    marks: dict[str, list[str]] = {}
    for name, word in _RELATIVES.items():
        if entity_id := text(document, f"process.{name}.entity_id"):
            marks.setdefault(entity_id, []).append(word)
    return marks


def _place(process: dict[str, Any]) -> Place:
    inside = get(process, "in_container")
    if inside is None:
        return "unknown"
    return "inside" if inside is True else "outside"


def _name(process: dict[str, Any]) -> str:
    return text(process, "name") or text(process, "executable").rpartition("/")[2] or "?"
