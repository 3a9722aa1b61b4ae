"""In which order the parts of a condition are evaluated.

In: the operands of an `and` or an `or`. Out: the same operands, those first that are likely to settle the
matter for little. Conditions have no effects and never fail, so the order changes nothing but the time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from sensor.rules import ast

if TYPE_CHECKING:
    from collections.abc import Iterable

# Fields that have the value rules ask for in nearly every event.
_SETTLED = ("event.", "host.", "data_stream.")
_LIKELY = 0.97
# Nearly every rule asks for these, so they were found already.
_AT_HAND = ("process.name", "process.args")


def ordered_for_and(operands: Iterable[ast.Expression]) -> list[ast.Expression]:
    """What is cheap and mostly false comes first."""
    return sorted(operands, key=lambda node: _cost(node) / (1.001 - _chance(node)))


def ordered_for_or(operands: Iterable[ast.Expression]) -> list[ast.Expression]:
    """What is cheap and mostly true comes first."""
    return sorted(operands, key=lambda node: _cost(node) / (0.001 + _chance(node)))


def _cost(node: ast.Expression) -> float:
    """Estimate the time, one being that of finding a field and comparing it."""
    match node:
        case ast.And(operands=operands) | ast.Or(operands=operands):
            return sum(map(_cost, operands)) * 0.7
        case ast.Not(operand=operand):
            return _cost(operand)
        case ast.Compare(left=ast.Field(name=name)) | ast.In(operand=ast.Field(name=name)):
            return 0.3 if name in _AT_HAND else 1
        case ast.Like(operand=ast.Field(), patterns=patterns):
            several = sum("*" in pattern.strip("*") for pattern in patterns)
            return 1.5 + len(patterns) / 10 + several / 3
        case ast.Regex(operand=ast.Field(), patterns=patterns):
            return 10 + 2 * len(patterns)
        case ast.Field() | ast.Literal():
            return 0.8
        case _:
            return 20


def _chance(node: ast.Expression) -> float:
    """Estimate how often a condition is true."""
    match node:
        case ast.And(operands=operands):
            return math.prod(map(_chance, operands))
        case ast.Or(operands=operands):
            return 1 - math.prod(1 - _chance(operand) for operand in operands)
        case ast.Not(operand=operand):
            return 1 - _chance(operand)
        case ast.Compare(operator="!=", left=left, right=right):
            return 1 - _chance(ast.Compare(operator="==", left=left, right=right))
        case ast.Compare(operator="==", right=ast.Literal(value=None)):
            return 0.1
        case ast.Compare(left=ast.Field(name=name)) | ast.In(operand=ast.Field(name=name)):
            return _LIKELY if name.startswith(_SETTLED) else 0.05
        case ast.Like(operand=ast.Field(name=name), patterns=patterns):
            if all(not pattern.strip("*?") for pattern in patterns):
                return 0.9
            return _LIKELY if name.startswith(_SETTLED) else 0.1
        case _:
            return 0.2
