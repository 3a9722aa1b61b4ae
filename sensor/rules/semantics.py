"""Conditions over documents, with Elasticsearch's meaning.

In: nodes of the syntax tree. Out: closures. A *condition* is a function of a document and knows only true
and false. A *test* is the same for the raw value of one field, whichever it is: missing, one value, or an
array, of which any element may meet the test. A *formula* computes one value from one value per field;
there a missing field is None and None spreads, until the condition around it takes None for false.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, TypeAlias

from sensor.rules import ast, values
from sensor.rules.functions import FUNCTIONS, OPERATORS
from sensor.rules.patterns import compile_globs, compile_regexes, fold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from sensor.rules.ast import Scalar

Getter: TypeAlias = "Callable[[dict[str, Any]], Any]"
Test: TypeAlias = "Callable[[Any], bool]"
Formula: TypeAlias = "Callable[[tuple[Scalar, ...]], Scalar]"

# A formula over two arrays is tried for each pair of elements. Arrays come from whoever starts a process,
# so the number of pairs is bounded.
MAX_COMBINATIONS = 4096


def getter(name: str) -> Getter:
    """Make the function that finds a field in a document, under dotted or nested keys or both."""
    parts = name.split(".")
    if len(parts) == 1:
        return lambda document: document.get(name)
    splits = _splits(parts)

    def get(document: dict[str, Any]) -> Any:
        found = None
        for keys in splits:
            value: Any = document
            for depth, key in enumerate(keys):
                if type(value) is dict:
                    value = value.get(key)
                elif type(value) is list:
                    value = list(_inside(value, keys[depth:]))
                    break
                else:
                    value = None
                    break
            if value is not None:
                found = value if found is None else [found, value]
        return found

    return get


def _splits(parts: list[str]) -> list[tuple[str, ...]]:
    """All ways to write a dotted name as keys: a.b, then a → b."""
    if len(parts) == 1:
        return [(parts[0],)]
    return [
        (".".join(parts[:size]), *rest)
        for size in range(1, len(parts))
        for rest in _splits(parts[size:])
    ] + [(".".join(parts),)]


def _inside(items: list[Any], keys: Sequence[str]) -> Iterator[Any]:
    """Look into an array of objects, as an index does: each object's value counts."""
    for item in items:
        value: Any = item
        for depth, key in enumerate(keys):
            if type(value) is list:
                yield from _inside(value, keys[depth:])
                value = None
            value = value.get(key) if type(value) is dict else None
        if value is not None:
            yield value


def elements(raw: Any) -> Iterator[Scalar]:
    """Give the single values of a raw value: none for null, objects and empty arrays."""
    pending = [raw]
    while pending:
        value = pending.pop()
        if isinstance(value, str | int | float):
            yield value
        elif isinstance(value, list | tuple):
            pending.extend(reversed(value))


def texts(raw: Any) -> Iterator[str]:
    """Give the values as the text a keyword field would hold."""
    for value in elements(raw):
        text = values.text_of(value)
        if text is not None:
            yield text


def exists(raw: Any) -> bool:
    """Tell whether there is any value."""
    return isinstance(raw, str | int | float) or any(True for _ in elements(raw))


def is_true(raw: Any) -> bool:
    """Test a field that stands alone as a condition."""
    return any(value is True or value == "true" for value in elements(raw))


def string_test(matches: Callable[[str], bool]) -> Test:
    """Make the test "the text of any element matches"."""

    def test(raw: Any) -> bool:
        if raw is None:
            return False
        if type(raw) is str:
            return matches(raw)
        return any(matches(text) for text in texts(raw))

    return test


def scalar_test(matches: Callable[[Scalar], bool | None]) -> Test:
    """Make the test "any element matches" for what is not only about text."""

    def test(raw: Any) -> bool:
        return raw is not None and any(matches(value) is True for value in elements(raw))

    return test


def membership_test(wanted: Sequence[Scalar], *, insensitive: bool) -> Test:
    """Make the test "any element is one of these"."""
    if all(isinstance(value, str) for value in wanted):
        if insensitive:
            folded = frozenset(fold(value) for value in wanted if isinstance(value, str))
            return string_test(lambda text: fold(text) in folded)
        return string_test(frozenset(wanted).__contains__)
    compare = values.equal_insensitive if insensitive else values.equal
    return scalar_test(lambda value: any(compare(value, other) for other in wanted))


def compare_test(operator: str, literal: Scalar) -> Test:
    """Make the test `field operator literal` for `==` and the orders, never `!=`."""
    if literal is None:
        # Null equals nothing and orders with nothing; `== null` is not a comparison but `not exists`.
        return (lambda raw: not exists(raw)) if operator == "==" else (lambda _raw: False)
    if operator == "==":
        return membership_test([literal], insensitive=False)
    compare = values.order(operator)
    return scalar_test(lambda value: compare(value, literal))


def formula_condition(
    getters: Sequence[Getter], formula: Formula
) -> Callable[[dict[str, Any]], bool]:
    """Make the condition "true for some choice of one element per field"."""
    if not getters:
        constant = formula(()) is True
        return lambda _document: constant

    def condition(document: dict[str, Any]) -> bool:
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
            matches = pattern_match(node)

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
    if node.operator in ("==", "!=") and any(is_null(side) for side in sides):
        other = right if is_null(node.left) else left
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


def is_null(node: ast.Expression) -> bool:
    """Tell the literal null."""
    return isinstance(node, ast.Literal) and node.value is None


def pattern_match(node: ast.Like | ast.Regex) -> Callable[[str], bool]:
    """Compile the patterns of a node. Raises `ValueError` for a bad regular expression."""
    if isinstance(node, ast.Regex):
        return compile_regexes(node.patterns, insensitive=node.insensitive)
    return compile_globs(node.patterns, insensitive=node.insensitive)
