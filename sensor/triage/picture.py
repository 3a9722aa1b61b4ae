"""The tree, the timeline and the hours as geometry: a report in, coordinates in CSS pixels out.

The template draws what is computed here; nothing here is markup, and all texts are bounded and escaped
for the eye, not for HTML.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sensor.triage.words import clock, command, offset, span, value

if TYPE_CHECKING:
    from sensor.triage.model import History, Moment, Node

_ROW: Final = 30
_INDENT: Final = 22
_BOUNDARY: Final = 20
_LEFT: Final = 14
_CHARACTER: Final = 7.9  # of the 13 px monospaced font, rounded up
_ARGS_LIMIT: Final = 200
_OUTSIDE_LIMIT: Final = 64
_GAP_S: Final = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeRow:
    """A process: its dot's place, the elbow from its parent, and what stands beside it."""

    x: int
    y: int
    path: str
    name: str
    args: str
    about: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TreePicture:
    """`boundary` is where the container begins, or None where that is not known."""

    width: int
    height: int
    rows: tuple[TreeRow, ...]
    boundary: int | None
    boundary_x: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeRow:
    """A moment, or a gap between two (`kind` is then `gap`)."""

    y: int
    kind: str
    clock: str
    offset: str
    text: str
    about: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimePicture:
    """Rows, with a rail from the first to the last."""

    width: int
    height: int
    rows: tuple[TimeRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One hour of the day: its bar from `y` down, `height` high."""

    x: int
    y: float
    height: float
    hour: int
    count: int


def tree_picture(nodes: tuple[Node, ...]) -> TreePicture:
    """Place the nodes, one a row, each indented below its parent."""
    rows: list[TreeRow] = []
    widest = 0.0
    boundary, boundary_x = None, 0
    top = _ROW // 2 + 4
    for index, node in enumerate(nodes):
        if boundary is None and node.place == "inside" and _is_outside(nodes, node):
            boundary = top + index * _ROW - _ROW // 2 + 3
            boundary_x = _LEFT + node.depth * _INDENT + 14
        shift = _BOUNDARY if boundary is not None else 0
        x, y = _LEFT + node.depth * _INDENT, top + index * _ROW + shift
        path = ""
        if node.parent is not None:
            above = rows[node.parent]
            path = f"M{above.x} {above.y + 6} V{y} H{x - 6}"
        name = value(node.name, 48)
        limit = _OUTSIDE_LIMIT if node.place == "outside" else _ARGS_LIMIT
        args = command(node.args[1:], limit, truncated=node.args_truncated)
        about = "  ".join(
            part
            for part in (
                f"pid {node.pid}",
                _user(node.user),
                " · ".join(node.marks),
            )
            if part
        )
        kind = "match" if node.is_match else "chain" if node.is_chain else "beside"
        rows.append(
            TreeRow(
                x=x,
                y=y,
                path=path,
                name=name,
                args=args,
                about=about,
                kind=f"{kind} {node.place}",
            )
        )
        widest = max(widest, x + 16 + _columns(f"{name} {args}   {about}") * _CHARACTER + 16)
    return TreePicture(
        width=int(widest),
        height=len(rows) * _ROW + 8 + (_BOUNDARY if boundary is not None else 0),
        rows=tuple(rows),
        boundary=boundary,
        boundary_x=boundary_x,
    )


def time_picture(moments: tuple[Moment, ...], match_time: float) -> TimePicture:
    """Place the moments, one a row, oldest on top, with a mark where much time passed between two."""
    rows: list[TimeRow] = []
    widest = 0.0
    y = 18
    before: float | None = None
    for moment in moments:
        if before is not None and moment.time - before > _GAP_S:
            passed = f"{span(moment.time - before)} without a record"
            rows.append(TimeRow(y=y, kind="gap", clock="", offset="", text=passed, about=""))
            y += 26
        before = moment.time
        what = (
            command(moment.args, _ARGS_LIMIT, truncated=moment.args_truncated)
            if moment.args
            else value(moment.text, _ARGS_LIMIT)
        )
        about = "  ".join(
            part
            for part in (
                f"pid {moment.pid}" if moment.pid else "",
                _user(moment.user),
            )
            if part
        )
        rows.append(
            TimeRow(
                y=y,
                kind=moment.kind,
                clock=clock(moment.time),
                offset=offset(moment.time - match_time),
                text=what,
                about=about,
            )
        )
        widest = max(widest, 212 + _columns(f"{what}   {about}") * _CHARACTER + 16)
        y += 26
    return TimePicture(width=int(widest), height=y - 4, rows=tuple(rows))


def hour_bars(history: History) -> tuple[Bar, ...]:
    """Twenty-four bars, the highest 44 pixels."""
    most = max(history.hours, default=0) or 1
    bars = []
    for hour, count in enumerate(history.hours[:24]):
        height = max(44 * count / most, 3) if count else 1.5
        bars.append(
            Bar(
                x=hour * 16,
                y=round(46 - height, 1),
                height=round(height, 1),
                hour=hour,
                count=count,
            )
        )
    return tuple(bars)


def _is_outside(nodes: tuple[Node, ...], node: Node) -> bool:
    return node.parent is not None and nodes[node.parent].place == "outside"


def _user(user: str) -> str:
    return f"uid {user}" if user.isdecimal() else value(user, 24)


def _columns(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text)
