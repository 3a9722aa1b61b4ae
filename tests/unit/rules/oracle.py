"""A second evaluator of conditions, slow and plain, to hold the compiled ones against.

It flattens the document to lists of values, turns wildcards into regular expressions, and knows the
meaning of the few regular expressions of `query_strategies.py` by heart.
"""

from __future__ import annotations

import itertools
import re

from sensor.rules import ast
from sensor.rules.functions import FUNCTIONS, OPERATORS

# As they are, then with `~`: Lucene folds single letters and no ranges.
MEANINGS = {
    "a.*": ("a.*", "[aA].*"),
    ".*aws.*": (".*aws.*", ".*[aA][wW][sS].*"),
    "[a-c]+": ("[a-c]+", "[a-c]+"),
    "(grep|sh)": ("grep|sh", "[gG][rR][eE][pP]|[sS][hH]"),
    "a?b*": ("a?b*", "[aA]?[bB]*"),
    ".*": (".*", ".*"),
    "@": (".*", ".*"),
    "#": ("(?!)", "(?!)"),
    '"a.b"': (r"a\.b", r"[aA]\.[bB]"),
    "s\\w": ("s[a-zA-Z_0-9]", "[sS][a-zA-Z_0-9]"),
    "[^a]{1,2}": ("[^a]{1,2}", "[^aA]{1,2}"),
    "a.b": ("a.b", "[aA].[bB]"),
}


def fold(text):
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in text)


def flatten(document, path=()):
    """Give (name, value) for each single value of a document."""
    if isinstance(document, dict):
        for key, value in document.items():
            yield from flatten(value, (*path, key))
    elif isinstance(document, list):
        for value in document:
            yield from flatten(value, path)
    elif document is not None:
        yield ".".join(path), document


def as_text(value):
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else str(value)


def same(left, right, *, insensitive=False):
    if left is None or right is None:
        return None
    numbers = [type(v) in (int, float) for v in (left, right)]
    if all(numbers):
        return left == right
    if as_text(left) == as_text(right):
        return True
    both = isinstance(left, str) and isinstance(right, str)
    return insensitive and both and fold(left) == fold(right)


def as_number(value):
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str):
        if not re.fullmatch(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?", value):
            return None
        return float(value) if re.search(r"[.eE]", value) else int(value)
    return value


def ordered(symbol, left, right):
    if not (isinstance(left, str) and isinstance(right, str)):
        left, right = as_number(left), as_number(right)
        if left is None or right is None:
            return None
    return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[symbol]


def glob(pattern, text, *, insensitive):
    if insensitive:
        pattern, text = fold(pattern), fold(text)
    regex = "".join({"*": ".*", "?": "."}.get(c) or re.escape(c) for c in pattern)
    return re.fullmatch(regex, text, re.DOTALL) is not None


def regex(pattern, text, *, insensitive):
    return re.fullmatch(MEANINGS[pattern][insensitive], text, re.DOTALL) is not None


def compute(node, env):
    """The value of an expression where each field has one value."""
    match node:
        case ast.Literal(value=value):
            return value
        case ast.Field(name=name):
            return env[name]
        case ast.Negate(operand=operand):
            return OPERATORS["-"](0, compute(operand, env))
        case ast.Arithmetic(operator=symbol, left=left, right=right):
            return OPERATORS[symbol](compute(left, env), compute(right, env))
        case ast.Call(name=name, arguments=arguments, insensitive=insensitive):
            function = FUNCTIONS[name]
            call = function.insensitive if insensitive else function.call
            return call(*[compute(argument, env) for argument in arguments])
        case ast.Compare(operator=symbol, left=left, right=right):
            for one, other in ((left, right), (right, left)):
                if one == ast.Literal(value=None) and symbol in ("==", "!="):
                    return (compute(other, env) is None) == (symbol == "==")
            first, second = compute(left, env), compute(right, env)
            if symbol in ("==", "!="):
                result = same(first, second)
                return result if symbol == "==" or result is None else not result
            return ordered(symbol, first, second)
        case ast.In(operand=operand, values=members, insensitive=insensitive):
            value = compute(operand, env)
            if value is None:
                return None
            results = [same(value, compute(m, env), insensitive=insensitive) for m in members]
            return True in results
        case ast.Like(operand=operand, patterns=patterns, insensitive=insensitive):
            value = compute(operand, env)
            if value is None:
                return None
            return any(glob(p, as_text(value), insensitive=insensitive) for p in patterns)
        case ast.Regex(operand=operand, patterns=patterns, insensitive=insensitive):
            value = compute(operand, env)
            if value is None:
                return None
            return any(regex(p, as_text(value), insensitive=insensitive) for p in patterns)
    raise AssertionError(node)


def holds(node, document):
    """Tell whether a condition is true of a document."""
    match node:
        case ast.Literal(value=value):
            return value is True
        case ast.Not(operand=operand):
            return not holds(operand, document)
        case ast.And(operands=operands):
            return all(holds(operand, document) for operand in operands)
        case ast.Or(operands=operands):
            return any(holds(operand, document) for operand in operands)
        case ast.Compare(operator="!=", left=left, right=right):
            return not holds(ast.Compare(operator="==", left=left, right=right), document)
    values = list(flatten(document))
    names = sorted({field.name for field in ast.fields_of(node)})
    choices = [[value for name, value in values if name == wanted] or [None] for wanted in names]
    environments = [dict(zip(names, chosen, strict=True)) for chosen in itertools.product(*choices)]
    match node:
        case ast.Field(name=name):
            return any(value is True or value == "true" for field, value in values if field == name)
        case ast.Compare(left=left, right=right):
            for one, other in ((left, right), (right, left)):
                if one == ast.Literal(value=None) and node.operator == "==":
                    return all(compute(other, env) is None for env in environments)
    return any(compute(node, env) is True for env in environments)
