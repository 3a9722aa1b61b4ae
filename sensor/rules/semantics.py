"""Conditions on one field, with Elasticsearch's meaning.

In: nodes of the syntax tree. Out: tests of the raw value of a field, whichever it is: missing, one value,
or an array, of which any element may meet the test. A test knows only true and false: of a missing field
every test is false but `== null`, and so `not` and `!=` make it true.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from sensor.rules import ast, values
from sensor.rules.fields import elements, exists, parts, texts
from sensor.rules.patterns import Globs, Regexes, fold

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sensor.rules.ast import Scalar
    from sensor.rules.fields import Haystack

Test: TypeAlias = "Callable[[Any], bool]"


class View(enum.Enum):
    """What of a field a test looks at: its raw value, its haystack, or that in lower case."""

    RAW = enum.auto()
    TEXTS = enum.auto()
    FOLDED = enum.auto()


@dataclass(frozen=True, slots=True)
class FieldTest:
    """A condition on one field.

    With `needles` it is the same as that one of them is in the haystack.
    """

    field: str
    view: View
    test: Test
    needles: tuple[str, ...] | None = None


def field_test(node: ast.Expression) -> FieldTest | None:
    """Give the test of a node that is about one field and literals; None for all other nodes.

    Raises `ValueError` for a bad regular expression.
    """
    match node:
        case ast.Field(name=name):
            return FieldTest(name, View.RAW, is_true)
        case ast.Compare(left=ast.Field(name=name), right=ast.Literal(value=value)):
            return compare_test(name, node.operator, value)
        case ast.Compare(left=ast.Literal(value=value), right=ast.Field(name=name)):
            return compare_test(name, _FLIPPED[node.operator], value)
        case ast.In(operand=ast.Field(name=name), values=members):
            wanted = [member.value for member in members if isinstance(member, ast.Literal)]
            if len(wanted) < len(members):
                return None
            return membership_test(name, wanted, insensitive=node.insensitive)
        case ast.Like(operand=ast.Field(name=name)):
            return _like_test(name, node)
        case ast.Regex(operand=ast.Field(name=name)):
            regexes = Regexes(node.patterns, insensitive=node.insensitive)
            return FieldTest(name, View.TEXTS, regex_search(regexes))
        case _:
            return None


# So many whole texts or fewer are looked for one by one in a haystack.
_FEW = 2
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


def is_true(raw: Any) -> bool:
    """Test a field that stands alone as a condition."""
    return any(value is True or value == "true" for value in elements(raw))


def length_test(least: int) -> Test:
    """Make the test "any text has so many characters or more"."""

    def test(raw: Any) -> bool:
        if type(raw) is str:
            return len(raw) >= least
        return raw is not None and any(len(text) >= least for text in texts(raw))

    return test


def string_test(wanted: frozenset[str]) -> Test:
    """Make the test "any text is one of these"."""

    def test(raw: Any) -> bool:
        if type(raw) is str:
            return raw in wanted
        if raw is None:
            return False
        if type(raw) is list:
            try:
                if not wanted.isdisjoint(raw):
                    return True
            except TypeError:
                pass
            for value in raw:
                if type(value) is not str:
                    break
            else:
                return False
        return any(text in wanted for text in texts(raw))

    return test


def scalar_test(matches: Callable[[Scalar], bool | None]) -> Test:
    """Make the test "any element matches" for what is not only about text."""

    def test(raw: Any) -> bool:
        return raw is not None and any(matches(value) is True for value in elements(raw))

    return test


def membership_test(field: str, wanted: Sequence[Scalar], *, insensitive: bool) -> FieldTest:
    """Make the condition "any element is one of these"."""
    strings = frozenset(value for value in wanted if isinstance(value, str))
    if len(strings) < len(set(wanted)):
        compare = values.equal_insensitive if insensitive else values.equal
        return FieldTest(
            field,
            View.RAW,
            scalar_test(lambda value: any(compare(value, other) for other in wanted)),
        )
    if not insensitive:
        return string_membership(field, strings)
    lower = frozenset(fold(value) for value in strings)
    return FieldTest(field, View.FOLDED, whole_search(lower))


def whole_search(wanted: frozenset[str]) -> Test:
    """Make the test "any text is one of these", for a haystack."""

    def test(found: Haystack) -> bool:
        return not wanted.isdisjoint(parts(found))

    return test


def boolean_test(wanted: bool, otherwise: Test) -> Test:
    """Make the test "any element is this boolean"; `otherwise` is the same for odd documents."""

    def test(raw: Any) -> bool:
        if raw is None or raw is True or raw is False:
            return raw is wanted
        return otherwise(raw)

    return test


def string_membership(field: str, wanted: frozenset[str]) -> FieldTest:
    """Make the condition "any text is one of these", in the way that is faster for the field."""
    if len(wanted) <= _FEW and field.rpartition(".")[2] == "args":
        # An array, whose haystack is there anyway: nearly every rule looks for something in it.
        globs = Globs((), insensitive=False, exact=wanted)
        needles = globs.needles()
        if needles is not None:
            return FieldTest(field, View.TEXTS, glob_search(globs), needles)
    return FieldTest(field, View.RAW, string_test(wanted))


def _like_test(field: str, node: ast.Like) -> FieldTest:
    globs = Globs(node.patterns, insensitive=node.insensitive)
    if globs.shortest is not None and all(not pattern.strip("*?") for pattern in node.patterns):
        return FieldTest(field, View.RAW, length_test(globs.shortest))
    view = View.FOLDED if node.insensitive else View.TEXTS
    if len(globs.exact) > _FEW and len(globs.exact) == len(set(node.patterns)):
        return FieldTest(field, view, whole_search(globs.exact))
    simple = not globs.general and globs.shortest is None
    return FieldTest(field, view, glob_search(globs), globs.needles() if simple else None)


def glob_search(globs: Globs) -> Callable[[Haystack], bool]:
    """Make the test "any text matches", for a haystack, folded where the patterns are."""
    needles, general, shortest = globs.needles(), globs.general_with_pieces(), globs.shortest
    if needles is None or general is None:
        test = globs.test()
        return lambda found: any(map(test, parts(found)))

    def search(found: Haystack) -> bool:
        for needle in needles:
            if needle in found:
                return True
        for piece, glob in general:
            if piece in found and any(map(glob, parts(found))):
                return True
        return shortest is not None and any(len(text) >= shortest for text in parts(found))

    return search


def regex_search(regexes: Regexes) -> Callable[[Haystack], bool]:
    """Make the test "any text matches", for a haystack."""
    test, needs = regexes.test(), regexes.needs

    def search(found: Haystack) -> bool:
        for strings in needs:
            if not any(string in found for string in strings):
                return False
        return any(map(test, parts(found)))

    return search


def compare_test(field: str, operator: str, literal: Scalar) -> FieldTest:
    """Make the condition `field operator literal` for `==` and the orders, never `!=`."""
    if literal is None:
        # Null equals nothing and orders with nothing; `== null` is not a comparison but `not exists`.
        missing = operator == "=="
        return FieldTest(field, View.RAW, lambda raw: missing and not exists(raw))
    if operator == "==":
        if isinstance(literal, str):
            return string_membership(field, frozenset([literal]))
        return FieldTest(field, View.RAW, scalar_test(lambda value: values.equal(value, literal)))
    compare = values.order(operator)
    return FieldTest(field, View.RAW, scalar_test(lambda value: compare(value, literal)))
