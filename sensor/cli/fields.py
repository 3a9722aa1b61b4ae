"""`sensor fields`: every field an event can have, for whoever writes a rule.

In: the schema that rules are checked against. Out: a table on stdout, as text or as Markdown; the
Markdown is `docs/fields.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from sensor.rules.schema import DEFAULT_SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sensor.rules.schema import FieldInfo

_PREAMBLE = """\
# Fields

What an event of the sensor can say, and so what a rule can ask for. Names and types are those of the
[Elastic Common Schema](https://www.elastic.co/docs/reference/ecs) (ECS); what it has no name for stands
under `sensor`, and where noted under `container`.

A field that is not known is left out of the event. To a rule, a field that is missing is equal to
`null`, and nothing else: see [rules.md](rules.md). A rule may also name any other field of ECS; it
loads with the warning that no event here has it. Any name beyond those is an error, unless it begins
with `?`.

Of a type `keyword` a field may hold several values; a condition is true when it is true of one of them.
Below an `object` any name may stand.

This file is made by `sensor fields --markdown`.
"""


@click.command("fields", short_help="List the fields that rules can ask for.")
@click.option("--markdown", is_flag=True, help="Print docs/fields.md instead of a plain table.")
@click.argument("prefix", default="")
def fields(markdown: bool, prefix: str) -> None:
    """List the fields of events: type, where the value comes from, an example.

    With a PREFIX, such as `process.parent`, only the fields that begin with it.
    """
    known = {name: info for name, info in DEFAULT_SCHEMA.ours.items() if name.startswith(prefix)}
    for line in _markdown(known) if markdown else _table(known):
        click.echo(line)


def _table(known: dict[str, FieldInfo]) -> Iterator[str]:
    header = ("FIELD", "TYPE", "SOURCE", "EXAMPLE", "WHAT IT IS")
    rows = [header, *_rows(known)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()


def _markdown(known: dict[str, FieldInfo]) -> Iterator[str]:
    yield _PREAMBLE
    yield "| field | type | source | example | what it is |"
    yield "|---|---|---|---|---|"
    for name, kind, source, example, description in _rows(known):
        shown = f"`{_cell(example)}`" if example else ""
        yield f"| `{name}` | {kind} | {_cell(source)} | {shown} | {_cell(description)} |"


def _rows(known: dict[str, FieldInfo]) -> Iterable[tuple[str, str, str, str, str]]:
    for name, info in sorted(known.items()):
        yield name, info.type, info.source or "", info.example, info.description


def _cell(text: str) -> str:
    """Keep a text inside one cell of a table."""
    return text.replace("|", "\\|").replace("\n", " ")
