"""From the text of a query to its syntax tree.

In: text as a user wrote it, hostile or not. Out: an `ast.Query`, or `RuleSyntaxError` with line, column
and the offending line with a caret. Lark is imported on first use only, so that a process which gets its
trees ready-made (they pickle) never carries the parser.
"""

from __future__ import annotations

import functools
from importlib import resources
from typing import TYPE_CHECKING, Any

from sensor.rules import ast
from sensor.rules.errors import Refused, syntax_error
from sensor.rules.printer import KEYWORDS
from sensor.rules.tree import TreeBuilder

if TYPE_CHECKING:
    from collections.abc import Iterator

    import lark

# Elastic's longest rule has 13,000 characters. The bounds keep the recursive stages (compile, print,
# pickle) far from Python's recursion limit and a load far from seconds.
MAX_CHARACTERS = 100_000
MAX_DEPTH = 60


def parse_query(text: str, *, path: str | None = None, first_line: int = 1) -> ast.Query:
    """Parse one query. Raises `RuleSyntaxError` and nothing else."""
    if len(text) > MAX_CHARACTERS:
        raise syntax_error(
            f"the query is longer than {MAX_CHARACTERS} characters",
            text,
            MAX_CHARACTERS,
            path=path,
            first_line=first_line,
        )
    import lark  # noqa: PLC0415 (see the module's docstring)

    try:
        query: ast.Query = _parser().parse(text)  # type: ignore[assignment]
        _check_depth(query)
    except Refused as refused:
        message, position = refused.message, int(refused.position)
    except lark.exceptions.VisitError as error:
        if not isinstance(error.orig_exc, Refused):
            raise
        message, position = error.orig_exc.message, error.orig_exc.position
    except lark.exceptions.UnexpectedCharacters as error:
        position = int(error.pos_in_stream or 0)
        message = _explain_character(text, position)
    except lark.exceptions.UnexpectedToken as error:
        ended = error.token.type == "$END"
        position = len(text.rstrip()) if ended else int(error.token.start_pos or 0)
        message = _explain_token(error)
    else:
        return ast.Query(body=query.body, pipes=query.pipes, text=text)
    raise syntax_error(message, text, position, path=path, first_line=first_line)


@functools.cache
def _parser() -> lark.Lark:
    import lark  # noqa: PLC0415 (see the module's docstring)

    grammar = resources.files("sensor.rules").joinpath("eql.lark").read_text(encoding="utf-8")
    # With the transformer inside the LALR parser no parse tree is built, and nothing recurses.
    return lark.Lark(grammar, parser="lalr", lexer="basic", transformer=_transformer())


def _transformer() -> Any:
    import lark  # noqa: PLC0415 (see the module's docstring)

    builder = TreeBuilder()
    methods = {name: _positional(getattr(builder, name)) for name in dir(builder) if name[0] != "_"}
    return type("EqlTransformer", (lark.Transformer,), methods)()


def _positional(method: Any) -> Any:
    def call(_self: Any, children: list[Any]) -> Any:
        return method(children)

    return call


def _check_depth(query: ast.Query) -> None:
    """Refuse a tree too deep for the recursive stages, without recursion."""
    pending: list[tuple[object, int]] = [(query, 0)]
    while pending:
        node, depth = pending.pop()
        for child in _children(node):
            if depth >= MAX_DEPTH:
                raise Refused(f"nested deeper than {MAX_DEPTH} levels", child.position)
            pending.append((child, depth + 1))


def _children(node: object) -> Iterator[ast.Node]:
    for name in getattr(node, "__dataclass_fields__", ()):
        value = getattr(node, name)
        if isinstance(value, ast.Node):
            yield value
        elif isinstance(value, tuple):
            yield from (part for part in value if isinstance(part, ast.Node))


def _explain_character(text: str, position: int) -> str:
    rest = text[position:]
    if rest.startswith('"'):
        return 'this string has no end; """…""" may span lines, "…" may not'
    if rest.startswith("'"):
        return 'strings are written in double quotes: "…"'
    if rest.startswith(("&", "^")):
        return 'write "and" between conditions'
    if rest.startswith("!"):
        return 'write "not" before a condition'
    if rest.startswith("~"):
        return "~ stands right after a name: like~, in~, regex~, startsWith~"
    return f"unexpected character {rest[:1]!r}"


def _explain_token(error: Any) -> str:
    token, expected = error.token, error.accepts or error.expected
    found = "the query ends here" if token.type == "$END" else f'unexpected "{token}"'
    written = str(token)
    if written == "=":
        return 'unexpected "="; equality is written =='
    if written in KEYWORDS and "NAME" in expected:
        return f"{token} is a keyword; as part of a field's name it is written `{token}`"
    if written == "[":
        return 'unexpected "["; fields have no index, any element of an array counts'
    wanted = sorted({_NAMES.get(name, name.lower()) for name in expected})
    return f"{found}, expected {' or '.join(wanted)}" if len(wanted) <= 6 else found


_NAMES = {
    "$END": "the end",
    "NAME": "a name",
    "QUOTED_NAME": "a name in backquotes",
    "INSENSITIVE_NAME": "a function",
    "STRING": "a string",
    "INTEGER": "a whole number",
    "DECIMAL": "a number",
    "LPAR": "(",
    "RPAR": ")",
    "LSQB": "[",
    "RSQB": "]",
    "COMMA": ",",
    "DOT": ".",
    "EQUAL": "=",
    "VBAR": "|",
    "COMPARISON": "a comparison",
    "MATCH": "like, : or regex",
    "OPTIONAL": "?",
    "PLUS": "+",
    "MINUS": "-",
    "ASTERISK": "*",
    "SLASH": "/",
    "PERCENT": "%",
}
