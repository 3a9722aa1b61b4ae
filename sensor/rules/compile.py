"""From the syntax tree to something that can be asked about documents.

In: an `ast.Query` (or the text of one). Out: a `Query`. What means nothing, such as an unknown function or
a number as a condition, raises `RuleSyntaxError` that points at the place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from sensor.rules import ast, checks, live
from sensor.rules.errors import Refused
from sensor.rules.writer import Writer, event_condition

if TYPE_CHECKING:
    from collections.abc import Callable

    from sensor.rules.schema import Schema
    from sensor.rules.sequence import SequenceState

Condition: TypeAlias = "Callable[[dict[str, Any]], bool]"


class Query:
    """A compiled query.

    `fields` are the names it reads, `categories` the event categories it takes (`any` for all).
    `warnings` are for the rule's author. `inactive_reason` says why it can never fire on live events;
    with `replay_only` it still may on recorded ones. `pipes` are head and tail, for replay.
    `asks_of_failures`: execs that failed matter to it, too; to all others the engine does not show them.
    """

    __slots__ = (
        "_plan",
        "asks_of_failures",
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
        self.asks_of_failures = any(
            live.asks_of_failures(event.condition) for event in ast.filters_of(tree)
        )
        # `matches(document) -> bool`, for single events; a sequence needs a state and raises TypeError.
        self.matches: Condition
        if isinstance(tree.body, ast.Sequence):
            from sensor.rules.sequence import Plan  # noqa: PLC0415 (few rules are sequences)

            step = _compile_step if self.asks_of_failures else compile_filter
            self._plan: Plan | None = Plan(tree.body, step)
            self.matches = _no_single_match
        else:
            self._plan = None
            self.matches = compile_filter(tree.body)

    def new_state(self, *, max_keys: int = 1024, max_open: int = 1024) -> SequenceState:
        """Make an empty state for a sequence: at most so many keys and so many open sequences.

        An open sequence holds its documents, some 10 KiB each: by default about 10 MiB at the worst.
        """
        from sensor.rules.sequence import SequenceState  # noqa: PLC0415 (few rules are sequences)

        if self._plan is None:
            raise TypeError("not a sequence: ask matches()")
        return SequenceState(self._plan, max_keys=max_keys, max_open=max_open)


def _compile_step(event: ast.EventFilter) -> Condition:
    """Compile an event of a sequence in which only some are about execs that failed."""
    condition = compile_filter(event)
    if live.asks_of_failures(event.condition):
        return condition
    return lambda document: not live.is_failed_exec(document) and condition(document)


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
    """Compile `category where condition`. Raises `Refused`."""
    condition = event_condition(event)
    writer = Writer([condition])
    return writer.function(f"return {writer.condition(condition)}")
