"""Conditions written as Python source.

In: boolean expressions of checked trees. Out: one Python function over a document. `and`, `or` and `not`
become Python's own, each field is looked up once and each test that stands in several places runs once.
Measured on 32 rules, that takes two thirds of the time of nested closures, and it lets all rules share one
function. Nothing of a query's text gets into the source, only names made here.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from sensor.rules import ast, fields, formula, order, semantics
from sensor.rules.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


def event_condition(event: ast.EventFilter) -> ast.Expression:
    """Give the condition of an event filter with its category as one part more."""
    if event.category is None:
        return event.condition
    name, value = ast.Field(name="event.category"), ast.Literal(value=event.category)
    category = ast.Compare(operator="==", left=name, right=value)
    if isinstance(event.condition, ast.And):
        return ast.And(operands=(category, *event.condition.operands))
    return ast.And(operands=(category, event.condition))


# So many searches or fewer are written out, more are left to a function.
_INLINE = 60


def _leaves(node: ast.Expression) -> Iterator[ast.Expression]:
    match node:
        case ast.And(operands=operands) | ast.Or(operands=operands):
            for operand in operands:
                yield from _leaves(operand)
        case ast.Not(operand=operand):
            yield from _leaves(operand)
        case ast.Compare(operator="!=", left=left, right=right):
            yield ast.Compare(operator="==", left=left, right=right)
        case _:
            yield node


class Writer:
    """Writes conditions as Python expressions over the document `d`, then the function around them.

    `names` are the objects the source refers to: tests, and functions that find fields. Results are kept
    in local variables: raw values in r0, r1, ..., haystacks in t0, ..., those in lower case in f0, ...,
    outcomes of tests in o0, ...
    """

    def __init__(self, conditions: Iterable[ast.Expression]) -> None:
        self.names: dict[str, Any] = {"haystack": fields.haystack, "folded": fields.folded}
        self._uses = Counter(leaf for condition in conditions for leaf in _leaves(condition))
        self._slots: dict[str, int] = {}
        self._leaves: dict[ast.Expression, str] = {}
        self._needles: dict[str, str] = {}
        self._variables: dict[str, None] = {}

    def function(self, body: str) -> Callable[[dict[str, Any]], Any]:
        """Compile a function of the document, of one or more lines."""
        # An ellipsis stands for what was not looked up yet: no test is ever asked about one.
        unset = [" = ".join([*self._variables, "..."])] if self._variables else []
        lines = [*unset, *body.splitlines()]
        source = "def written(d):\n" + "".join(f"    {line}\n" for line in lines)
        namespace = dict(self.names)
        exec(compile(source, "<queries>", "exec"), namespace)  # noqa: S102 (see the module's docstring)
        written: Callable[[dict[str, Any]], Any] = namespace["written"]
        return written

    def condition(self, node: ast.Expression) -> str:
        """Write a condition. Raises `Refused` for a bad regular expression."""
        match node:
            case ast.Literal(value=value):
                return str(value is True)
            case ast.And(operands=operands):
                return f"({' and '.join(map(self.condition, order.ordered_for_and(operands)))})"
            case ast.Or(operands=operands):
                return f"({' or '.join(map(self.condition, order.ordered_for_or(operands)))})"
            case ast.Not(operand=operand):
                return f"(not {self.condition(operand)})"
            case ast.Compare(operator="!=", left=left, right=right):
                # Two-valued: != is not ==, on a missing field too.
                equal = ast.Compare(operator="==", left=left, right=right, position=node.position)
                return f"(not {self.condition(equal)})"
            case _:
                return self.leaf(node)

    def value(self, field: str, view: semantics.View = semantics.View.RAW) -> tuple[str, str]:
        """Write what gives a field in the view a test wants, and the variable that keeps it."""
        slot = self._slots.setdefault(field, len(self._slots))
        self.names.setdefault(f"get{slot}", fields.getter(field))
        variable = f"r{slot}"
        found = self._kept(variable, f"get{slot}(d)")
        if view is not semantics.View.RAW:
            variable = f"t{slot}"
            found = self._kept(variable, f"haystack({found})")
        if view is semantics.View.FOLDED:
            variable = f"f{slot}"
            found = self._kept(variable, f"folded({found})")
        return found, variable

    def leaf(self, node: ast.Expression) -> str:
        """Write a condition that is not made of others."""
        # Nodes are equal where their meaning is, so what many rules ask for is asked once.
        if node not in self._leaves:
            try:
                found = semantics.field_test(node)
                test = found.test if found else formula.compile_condition(node)
            except ValueError as error:
                raise Refused(str(error), node.position) from error
            number = len(self._leaves)
            where, variable = self.value(found.field, found.view) if found else ("d", "d")
            if found and found.needles is not None and len(found.needles) <= _INLINE:
                # The first search finds the haystack, the others have it.
                first, *others = map(self._needle, found.needles)
                searches = [f"{first} in {where}", *(f"{other} in {variable}" for other in others)]
                expression = " or ".join(searches)
            else:
                self.names[f"test{number}"] = test
                expression = f"test{number}({where})"
            # An outcome is kept only where it is wanted again.
            once = self._uses[node] == 1
            self._leaves[node] = f"({expression})" if once else self._kept(f"o{number}", expression)
        return self._leaves[node]

    def _needle(self, needle: str) -> str:
        name = self._needles.setdefault(needle, f"needle{len(self._needles)}")
        self.names[name] = needle
        return name

    def _kept(self, variable: str, expression: str) -> str:
        self._variables[variable] = None
        return f"({variable} if {variable} is not ... else ({variable} := {expression}))"
