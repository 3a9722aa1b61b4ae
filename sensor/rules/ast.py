"""The syntax tree of an EQL query, as plain values.

In: nothing; `parse.py` builds these. Out: frozen dataclasses that pickle, compare by meaning (where a
node stood in the text does not count) and print back to EQL (`printer.py`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

Scalar: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Anything that stands in a query. `position` is its offset in the text, in characters."""

    position: int = field(default=0, compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Literal(Node):
    """A string, number, boolean or null. A minus before a number is part of it."""

    value: Scalar


@dataclass(frozen=True, slots=True, kw_only=True)
class Field(Node):
    """A field by its dotted name; `optional` where it was written with a question mark."""

    name: str
    optional: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Call(Node):
    """A function call; `insensitive` is the `~` after the name."""

    name: str
    arguments: tuple[Expression, ...]
    insensitive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Negate(Node):
    """Minus before something that is not a number."""

    operand: Expression


@dataclass(frozen=True, slots=True, kw_only=True)
class Arithmetic(Node):
    """`operator` is one of + - * / %."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True, kw_only=True)
class Compare(Node):
    """`operator` is one of == != < <= > >=."""

    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True, slots=True, kw_only=True)
class In(Node):
    """`in` and `in~`; `not in` is a `Not` around it."""

    operand: Expression
    values: tuple[Expression, ...]
    insensitive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Like(Node):
    """`like`, `like~` and `:`, which is another spelling of `like~`."""

    operand: Expression
    patterns: tuple[str, ...]
    insensitive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Regex(Node):
    """`regex` and `regex~`."""

    operand: Expression
    patterns: tuple[str, ...]
    insensitive: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Not(Node):
    """Logical negation."""

    operand: Expression


@dataclass(frozen=True, slots=True, kw_only=True)
class And(Node):
    """At least two operands, none of which is itself an `And`."""

    operands: tuple[Expression, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Or(Node):
    """At least two operands, none of which is itself an `Or`."""

    operands: tuple[Expression, ...]


Expression: TypeAlias = (
    Literal | Field | Call | Negate | Arithmetic | Compare | In | Like | Regex | Not | And | Or
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EventFilter(Node):
    """`category where condition`; the category is None for `any`."""

    category: str | None
    condition: Expression


@dataclass(frozen=True, slots=True, kw_only=True)
class Term(Node):
    """One `[…]` of a sequence; `missing` where it is `![…]`."""

    filter: EventFilter
    by: tuple[Field, ...] = ()
    runs: int = 1
    missing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence(Node):
    """`maxspan_ns` is None where the query has no maxspan."""

    terms: tuple[Term, ...]
    by: tuple[Field, ...] = ()
    maxspan_ns: int | None = None
    until: Term | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pipe(Node):
    """`name` is head or tail."""

    name: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Query(Node):
    """A whole query. `text` is what was parsed, for messages that point into it."""

    body: EventFilter | Sequence
    pipes: tuple[Pipe, ...] = ()
    text: str = field(default="", compare=False, repr=False)


def is_null(node: Expression) -> bool:
    """Tell the literal null."""
    return isinstance(node, Literal) and node.value is None


def filters_of(tree: Query) -> Iterator[EventFilter]:
    """Give the event filter, or all those of a sequence."""
    if isinstance(tree.body, EventFilter):
        yield tree.body
        return
    for term in tree.body.terms:
        yield term.filter
    if tree.body.until:
        yield tree.body.until.filter


def fields_of(node: Node) -> Iterator[Field]:
    """Give every field below a node, from left to right, as often as it stands there."""
    if isinstance(node, Field):
        yield node
        return
    for name in node.__dataclass_fields__:
        value = getattr(node, name)
        for part in value if isinstance(value, tuple) else (value,):
            if isinstance(part, Node):
                yield from fields_of(part)
