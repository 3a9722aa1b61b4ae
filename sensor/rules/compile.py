"""From the syntax tree to something that can be asked about documents.

In: an `ast.Query` (or the text of one). Out: a `Query`. What means nothing, such as an unknown function or
a number as a condition, raises `RuleSyntaxError` that points at the place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from sensor.rules import ast, checks, semantics
from sensor.rules.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from sensor.rules.schema import Schema
    from sensor.rules.sequence import SequenceState

Condition: TypeAlias = "Callable[[dict[str, Any]], bool]"

_CATEGORY = semantics.getter("event.category")


class Query:
    """A compiled query.

    `fields` are the names it reads, `categories` the event categories it takes (`any` for all).
    `warnings` are for the rule's author. `inactive_reason` says why it can never fire on live events;
    with `replay_only` it still may on recorded ones. `pipes` are head and tail, for replay.
    """

    __slots__ = (
        "_plan",
        "ast",
        "categories",
        "fields",
        "inactive_reason",
        "is_sequence",
        "matches",
        "pipes",
        "replay_only",
        "warnings",
    )

    def __init__(self, tree: ast.Query, *, findings: checks.Findings) -> None:
        self.ast = tree
        self.pipes = tree.pipes
        self.fields = findings.fields
        self.categories = findings.categories
        self.warnings = findings.warnings
        self.inactive_reason = findings.inactive_reason
        self.replay_only = findings.replay_only
        self.is_sequence = isinstance(tree.body, ast.Sequence)
        # `matches(document) -> bool`, for single events; a sequence needs a state and raises TypeError.
        self.matches: Condition
        if isinstance(tree.body, ast.Sequence):
            from sensor.rules.sequence import Plan  # noqa: PLC0415 (few rules are sequences)

            self._plan: Plan | None = Plan(tree.body, compile_filter)
            self.matches = _no_single_match
        else:
            self._plan = None
            self.matches = compile_filter(tree.body)

    def new_state(self, *, max_keys: int = 1024, max_open: int = 4096) -> SequenceState:
        """Make an empty state for a sequence: at most so many keys and so many open sequences."""
        from sensor.rules.sequence import SequenceState  # noqa: PLC0415 (few rules are sequences)

        if self._plan is None:
            raise TypeError("not a sequence: ask matches()")
        return SequenceState(self._plan, max_keys=max_keys, max_open=max_open)


def _no_single_match(_document: dict[str, Any]) -> bool:
    raise TypeError("a sequence: feed its documents to new_state()")


def compile_query(
    text: str, *, schema: Schema | None = None, path: str | None = None, first_line: int = 1
) -> Query:
    """Parse, check and compile. Raises `RuleSyntaxError`.

    Without a schema any field may be named. `path` and `first_line` say where the text stands in the
    user's file, for messages.
    """
    from sensor.rules.parse import parse_query  # noqa: PLC0415 (loads Lark)

    tree = parse_query(text, path=path, first_line=first_line)
    return compile_ast(tree, schema=schema, path=path, first_line=first_line)


def compile_ast(
    tree: ast.Query, *, schema: Schema | None = None, path: str | None = None, first_line: int = 1
) -> Query:
    """Check and compile a tree, without the parser. Raises `RuleSyntaxError`."""
    try:
        findings = checks.check(tree, schema)
        return Query(tree, findings=findings)
    except Refused as refused:
        raise refused.at(tree.text, path=path, first_line=first_line) from None


def compile_filter(event: ast.EventFilter) -> Condition:
    """Compile `category where condition`."""
    condition = compile_condition(event.condition)
    if event.category is None:
        return condition
    is_category = semantics.membership_test([event.category], insensitive=False)
    return lambda document: is_category(_CATEGORY(document)) and condition(document)


def compile_condition(node: ast.Expression) -> Condition:
    """Compile a boolean expression that was checked."""
    match node:
        case ast.Literal(value=value):
            constant = value is True
            return lambda _document: constant
        case ast.And(operands=operands):
            return _all([compile_condition(operand) for operand in operands])
        case ast.Or(operands=operands):
            return _any([compile_condition(operand) for operand in operands])
        case ast.Not(operand=operand):
            return _negate(compile_condition(operand))
        case ast.Compare(operator="!=", left=left, right=right):
            # Two-valued: != is not ==, on a missing field too.
            equal = ast.Compare(operator="==", left=left, right=right, position=node.position)
            return _negate(compile_condition(equal))
        case ast.Compare(operator="==", left=left, right=right) if semantics.is_null(left):
            return _is_missing(right)
        case ast.Compare(operator="==", left=left, right=right) if semantics.is_null(right):
            return _is_missing(left)
        case _:
            return _compile_leaf(node)


def _all(conditions: list[Condition]) -> Condition:
    def condition(document: dict[str, Any]) -> bool:
        for part in conditions:  # noqa: SIM110 (a generator costs more than the conditions)
            if not part(document):
                return False
        return True

    return condition


def _any(conditions: list[Condition]) -> Condition:
    def condition(document: dict[str, Any]) -> bool:
        for part in conditions:  # noqa: SIM110 (as above)
            if part(document):
                return True
        return False

    return condition


def _negate(condition: Condition) -> Condition:
    return lambda document: not condition(document)


_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "=="}


def field_test(node: ast.Expression) -> tuple[ast.Field, semantics.Test] | None:
    """Give the test of a node that is about one field and literals; None for all other nodes."""
    match node:
        case ast.Field():
            return node, semantics.is_true
        case ast.Compare(
            operator=symbol, left=ast.Field() as field, right=ast.Literal(value=value)
        ):
            return field, semantics.compare_test(symbol, value)
        case ast.Compare(
            operator=symbol, left=ast.Literal(value=value), right=ast.Field() as field
        ):
            return field, semantics.compare_test(_FLIPPED[symbol], value)
        case ast.In(operand=ast.Field() as field, values=members, insensitive=insensitive):
            literals = [member.value for member in members if isinstance(member, ast.Literal)]
            if len(literals) < len(members):
                return None
            return field, semantics.membership_test(literals, insensitive=insensitive)
        case ast.Like(operand=ast.Field() as field) | ast.Regex(operand=ast.Field() as field):
            return field, semantics.string_test(_patterns(node))
        case _:
            return None


def _patterns(node: ast.Like | ast.Regex) -> Callable[[str], bool]:
    try:
        return semantics.pattern_match(node)
    except ValueError as error:
        raise Refused(str(error), node.position) from error


def _compile_leaf(node: ast.Expression) -> Condition:
    found = field_test(node)
    if found is not None:
        field, test = found
        get = semantics.getter(field.name)
        return lambda document: test(get(document))
    return _formula(node, node)


def _is_missing(node: ast.Expression) -> Condition:
    if isinstance(node, ast.Field):
        get, exists = semantics.getter(node.name), semantics.exists
        return lambda document: not exists(get(document))
    present = ast.Compare(
        operator="!=", left=node, right=ast.Literal(value=None), position=node.position
    )
    return _negate(_formula(present, node))


def _formula(node: ast.Expression, source: ast.Expression) -> Condition:
    names = list(dict.fromkeys(field.name for field in checks.fields_of(source)))
    slots = {name: slot for slot, name in enumerate(names)}
    try:
        formula = semantics.compile_formula(node, slots)
    except ValueError as error:
        raise Refused(str(error), source.position) from error
    return semantics.formula_condition([semantics.getter(name) for name in names], formula)
