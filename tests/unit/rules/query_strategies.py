"""Hypothesis strategies for queries, as trees, and for documents that they may match."""

from __future__ import annotations

import itertools

from hypothesis import strategies as st

from sensor.rules import ast
from sensor.rules.functions import ANY, BOOLEAN, FUNCTIONS, NUMBER, STRING

FIELDS = [
    "process.name",
    "process.args",
    "process.command_line",
    "process.parent.name",
    "process.parent.args",
    "process.entry_leader.entry_meta.type",
    "container.id",
    "event.category",
    "event.action",
    "user.id",
    "process.args_count",
    "process.interactive",
    "a",
    "a.b",
]
WORDS = [
    "grep",
    "GREP",
    "sh",
    "-c",
    "aws",
    "exec",
    "process",
    "",
    "0",
    "1",
    "true",
    "a\0b",
    "10.0.0.1",
]

# A small alphabet, so that patterns and texts meet: letters of both cases, wildcards, separators, a NUL,
# the Kelvin sign (which only Unicode folds to k) and half a character.
texts = st.text("aAbkK*? /.-é\0\u212a\udcff", max_size=6) | st.sampled_from(WORDS)
patterns = texts | st.sampled_from(["*", "?*", "*a*", "a*b", "*grep", "s?", "*aws*", "-*c", "?b*a"])
regexes = st.sampled_from(
    [
        "a.*",
        ".*aws.*",
        "[a-c]+",
        "(grep|sh)",
        "a?b*",
        ".*",
        "@",
        "#",
        '"a.b"',
        "s\\w",
        "[^a]{1,2}",
        "a.b",
    ]
)
numbers = st.integers(-3, 20) | st.sampled_from([0.5, 1.0, -1.5, 1e16, 2.0**40])
scalars = texts | numbers | st.booleans() | st.none()
names = st.sampled_from(FIELDS) | st.lists(
    st.text("ab `.", min_size=1, max_size=3), min_size=1, max_size=3
).map(".".join)

fields = st.builds(ast.Field, name=st.sampled_from(FIELDS), optional=st.booleans())
odd_fields = st.builds(ast.Field, name=names, optional=st.booleans())
literals = st.builds(ast.Literal, value=scalars)
strings = st.builds(ast.Literal, value=texts)


numeric = st.builds(ast.Literal, value=numbers)


def calls(returned, operands):
    """Calls of the functions that return a type, of operands by type."""
    return st.sampled_from(
        sorted(name for name, function in FUNCTIONS.items() if function.returns == returned)
    ).flatmap(lambda name: _call(name, FUNCTIONS[name], operands))


def _call(name, function, operands):
    first = function.parameters[: len(function.parameters) - function.optional]
    arguments = [operands[kind] for kind in first]
    if name == "cidrMatch":
        arguments[1] = st.just(ast.Literal(value="10.0.0.0/8"))
    flags = st.booleans() if function.insensitive else st.just(value=False)
    return st.builds(
        ast.Call, name=st.just(name), arguments=st.tuples(*arguments), insensitive=flags
    )


def _negations(operands):
    return operands.filter(lambda node: not isinstance(node, ast.Literal)).map(
        lambda node: ast.Negate(operand=node)
    )


_simple = {STRING: fields | strings, NUMBER: fields | numeric, ANY: fields | literals}
_simple[BOOLEAN] = fields
string_values = fields | calls(STRING, _simple)
number_values = (
    calls(NUMBER, _simple)
    | _negations(fields)
    | st.builds(
        ast.Arithmetic,
        operator=st.sampled_from("+-*/%"),
        left=fields | numeric | calls(NUMBER, _simple),
        right=numeric | fields,
    )
)
operators = st.sampled_from(["==", "!=", "<", "<=", ">", ">="])
equality = st.sampled_from(["==", "!="])


def leaves(operands=fields):
    """Conditions on one operand, which is a field or a string."""
    flags = st.booleans()
    ordered = strings | numeric
    return (
        st.builds(ast.Compare, operator=equality, left=operands, right=literals)
        | st.builds(ast.Compare, operator=operators, left=operands, right=ordered)
        | st.builds(ast.Compare, operator=operators, left=ordered, right=operands)
        | st.builds(
            ast.In,
            operand=operands,
            values=st.lists(literals, min_size=1, max_size=4).map(tuple),
            insensitive=flags,
        )
        | st.builds(
            ast.Like,
            operand=operands,
            patterns=st.lists(patterns, min_size=1, max_size=4).map(tuple),
            insensitive=flags,
        )
        | st.builds(
            ast.Regex,
            operand=operands,
            patterns=st.lists(regexes, min_size=1, max_size=2).map(tuple),
            insensitive=flags,
        )
        | st.builds(
            ast.Call,
            name=st.sampled_from(["startsWith", "endsWith", "stringContains"]),
            arguments=st.tuples(operands, strings),
            insensitive=flags,
        )
    )


def _flat(kind):
    def build(operands):
        flat = []
        for operand in operands:
            flat.extend(operand.operands if isinstance(operand, kind) else [operand])
        return kind(operands=tuple(flat))

    return build


def computed():
    """Conditions on numbers, and on the outcome of conditions."""
    flags = st.booleans()
    plain = leaves()
    return (
        st.builds(ast.Compare, operator=operators, left=number_values, right=numeric)
        | st.builds(
            ast.Compare,
            operator=equality,
            left=number_values,
            right=st.just(ast.Literal(value=None)),
        )
        | st.builds(
            ast.In, operand=number_values, values=st.tuples(numeric, literals), insensitive=flags
        )
        | calls(BOOLEAN, _simple)
        | st.builds(ast.Compare, operator=equality, left=plain, right=literals)
    )


def conditions(leaf=None, max_leaves=5):
    """Conditions; by default of leaves over fields, some computed values, and bare fields."""
    fields_only = leaves()
    if leaf is None:
        leaf = st.one_of(
            fields_only,
            fields_only,
            leaves(string_values),
            computed(),
            odd_fields,
            st.builds(ast.Literal, value=st.booleans()),
        )
    return st.recursive(
        leaf,
        lambda inner: (
            st.lists(inner, min_size=2, max_size=3).map(_flat(ast.And))
            | st.lists(inner, min_size=2, max_size=3).map(_flat(ast.Or))
            | inner.map(lambda node: ast.Not(operand=node))
        ),
        max_leaves=max_leaves,
    )


def event_filters(condition):
    categories = st.sampled_from([None, "process", "file", "two words", "any", "in"])
    return st.builds(ast.EventFilter, category=categories, condition=condition)


def _sequences(condition, keys):
    by = st.tuples(*[fields] * keys)
    filters = event_filters(condition)
    present = st.builds(ast.Term, filter=filters, by=by, runs=st.integers(1, 3)).map(lambda t: [t])
    missing = st.just([]) | st.builds(
        ast.Term, filter=filters, by=by, missing=st.just(value=True)
    ).map(lambda t: [t])
    terms = st.tuples(missing, present, missing, present, missing)
    return st.builds(
        ast.Sequence,
        terms=terms.map(lambda parts: tuple(itertools.chain(*parts))),
        by=st.just(()) | st.tuples(fields),
        maxspan_ns=st.sampled_from([1_000_000, 250_000_000, 3_600_000_000_000]),
        until=st.none() | st.builds(ast.Term, filter=filters, by=by),
    )


def queries(condition=None):
    """Queries of one event, and some sequences."""
    condition = CONDITIONS if condition is None else condition
    single = event_filters(condition)
    sequence = _sequences(condition, 0) | _sequences(condition, 1)
    pipe = st.builds(ast.Pipe, name=st.sampled_from(["head", "tail"]), count=st.integers(0, 9))
    return st.builds(
        ast.Query,
        body=st.integers(0, 3).flatmap(lambda n: single if n else sequence),
        pipes=st.lists(pipe, max_size=1).map(tuple),
    )


CONDITIONS = conditions(max_leaves=3)
QUERIES = queries()

_elements = texts | numbers | st.booleans()
_raw = (
    _elements
    | st.none()
    | st.lists(texts, max_size=4)
    | st.lists(_elements | st.none() | st.lists(texts, max_size=2) | st.just({"x": 1}), max_size=4)
)


@st.composite
def _documents(draw):
    """Documents of any shape: nested and dotted keys mixed, arrays of objects, odd values."""
    document = {}
    for name in draw(st.lists(st.sampled_from(FIELDS), max_size=6, unique=True)):
        parts = name.split(".")
        cuts = draw(st.lists(st.booleans(), min_size=len(parts) - 1, max_size=len(parts) - 1))
        keys = [parts[0]]
        for part, dotted in zip(parts[1:], cuts, strict=True):
            if dotted and draw(st.booleans()):
                keys[-1] += f".{part}"
            else:
                keys.append(part)
        place = document
        for key in keys[:-1]:
            inner = place.setdefault(key, {})
            place = inner if isinstance(inner, dict) else {}
        value = draw(_raw)
        if len(keys) > 1 and draw(st.integers(0, 9)) == 0:
            value = [value]
        place[keys[-1]] = value
    return document


DOCUMENTS = _documents()
