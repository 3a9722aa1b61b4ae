"""Conditions that compute: functions, arithmetic, and comparisons of their results.

In: nodes of the syntax tree. Out: *formulas*, which compute one value from one value per field. A missing
field is None there, and None spreads, until the condition around the formula takes it for false.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, TypeAlias

from sensor.rules import ast, values
from sensor.rules.fields import elements, getter
from sensor.rules.functions import FUNCTIONS, OPERATORS
from sensor.rules.patterns import Globs, Regexes

if TYPE_CHECKING:
    from collections.abc import Callable

    from sensor.rules.ast import Scalar
    from sensor.rules.fields import Document

Formula: TypeAlias = "Callable[[tuple[Scalar, ...]], Scalar]"

# A formula over two arrays is tried for each pair of elements. Arrays come from whoever starts a process,
# so the number of pairs is bounded.
MAX_COMBINATIONS = 4096


def compile_condition(node: ast.Expression) -> Callable[[Document], bool]:
    """Make the condition "true for some choice of one element per field".

    Raises `ValueError` for a bad regular expression.
    """
    match node:
        case ast.Compare(operator="==", left=left, right=right) if ast.is_null(left) or ast.is_null(
            right
        ):
            # Not about any value: true when no choice of elements gives one.
            present = ast.Compare(operator="!=", left=left, right=right)
            some = compile_condition(present)
            return lambda document: not some(document)
    names = list(dict.fromkeys(field.name for field in ast.fields_of(node)))
    formula = compile_formula(node, {name: slot for slot, name in enumerate(names)})
    if not names:
        constant = formula(()) is True
        return lambda _document: constant
    getters = [getter(name) for name in names]

    def condition(document: Document) -> bool:
        choices = [tuple(elements(get(document))) or (None,) for get in getters]
        combinations = itertools.islice(itertools.product(*choices), MAX_COMBINATIONS)
        return any(formula(chosen) is True for chosen in combinations)

    return condition


def compile_formula(node: ast.Expression, slots: dict[str, int]) -> Formula:
    """Compile an expression to a formula; `slots` says which position a field's element has."""
    match node:
        case ast.Literal(value=value):
            return lambda _chosen: value
        case ast.Field(name=name):
            slot = slots[name]
            return lambda chosen: chosen[slot]
        case ast.Call():
            return _compile_call(node, slots)
        case ast.Negate(operand=operand):
            inner = compile_formula(operand, slots)
            return lambda chosen: OPERATORS["-"](0, inner(chosen))
        case ast.Arithmetic(operator=symbol, left=left, right=right):
            first, second = compile_formula(left, slots), compile_formula(right, slots)
            operate = OPERATORS[symbol]
            return lambda chosen: operate(first(chosen), second(chosen))
        case ast.Compare():
            return _compile_comparison(node, slots)
        case ast.In(operand=operand, values=members, insensitive=insensitive):
            inner = compile_formula(operand, slots)
            others = [compile_formula(member, slots) for member in members]
            equal = values.equal_insensitive if insensitive else values.equal

            def is_member(chosen: tuple[Scalar, ...]) -> Scalar:
                value = inner(chosen)
                return None if value is None else any(equal(value, o(chosen)) for o in others)

            return is_member
        case ast.Like(operand=operand) | ast.Regex(operand=operand):
            inner = compile_formula(operand, slots)
            matches = pattern_test(node)

            def is_like(chosen: tuple[Scalar, ...]) -> Scalar:
                text = values.text_of(inner(chosen))
                return None if text is None else matches(text)

            return is_like
        case ast.Not(operand=operand):
            inner = compile_formula(operand, slots)

            def negated(chosen: tuple[Scalar, ...]) -> Scalar:
                value = inner(chosen)
                return None if value is None else value is not True

            return negated
        case ast.And(operands=operands) | ast.Or(operands=operands):
            parts = [compile_formula(operand, slots) for operand in operands]
            deciding = isinstance(node, ast.Or)

            def combined(chosen: tuple[Scalar, ...]) -> Scalar:
                results = [part(chosen) for part in parts]
                if deciding in results:
                    return deciding
                return None if None in results else not deciding

            return combined


def _compile_call(node: ast.Call, slots: dict[str, int]) -> Formula:
    function = FUNCTIONS[node.name]
    call = function.insensitive if node.insensitive else function.call
    arguments = [compile_formula(argument, slots) for argument in node.arguments]
    if call is None:
        raise AssertionError(node.name)
    return lambda chosen: call(*(argument(chosen) for argument in arguments))


def _compile_comparison(node: ast.Compare, slots: dict[str, int]) -> Formula:
    left, right = compile_formula(node.left, slots), compile_formula(node.right, slots)
    sides = (node.left, node.right)
    if node.operator in ("==", "!=") and any(ast.is_null(side) for side in sides):
        other = right if ast.is_null(node.left) else left
        wanted = node.operator == "=="
        return lambda chosen: (other(chosen) is None) is wanted
    if node.operator == "==":
        return lambda chosen: values.equal(left(chosen), right(chosen))
    if node.operator == "!=":

        def differs(chosen: tuple[Scalar, ...]) -> Scalar:
            result = values.equal(left(chosen), right(chosen))
            return None if result is None else not result

        return differs
    compare = values.order(node.operator)
    return lambda chosen: compare(left(chosen), right(chosen))


def pattern_test(node: ast.Like | ast.Regex) -> Callable[[str], bool]:
    """Compile the patterns of a node. Raises `ValueError` for a bad regular expression."""
    kind = Regexes if isinstance(node, ast.Regex) else Globs
    return kind(node.patterns, insensitive=node.insensitive).test()
