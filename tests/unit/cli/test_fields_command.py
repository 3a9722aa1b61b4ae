"""`sensor fields`, and docs/fields.md, which it makes."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from sensor.cli.fields import fields
from sensor.rules.schema import DEFAULT_SCHEMA

DOCUMENT = Path(__file__).parents[3] / "docs" / "fields.md"


def run(*arguments: str) -> str:
    result = CliRunner().invoke(fields, arguments)
    assert result.exit_code == 0
    return result.stdout


def test_the_document_is_what_the_command_prints() -> None:
    """docs/fields.md is not stale: `sensor fields --markdown > docs/fields.md` makes it anew."""
    assert run("--markdown") == DOCUMENT.read_text()


def test_every_field_has_a_line_with_all_there_is_to_know() -> None:
    """Type, source, example and meaning of each field, and no other field."""
    header, *rows = run().splitlines()
    assert header.split()[:4] == ["FIELD", "TYPE", "SOURCE", "EXAMPLE"]
    assert [row.split()[0] for row in rows] == sorted(DEFAULT_SCHEMA.ours)
    assert [
        name
        for name, info in DEFAULT_SCHEMA.ours.items()
        if not (info.type and info.source and info.description)
    ] == []


def test_a_prefix_picks() -> None:
    """With a prefix only the fields that begin with it are shown."""
    rows = run("process.parent").splitlines()[1:]
    assert rows
    assert all(row.startswith("process.parent.") for row in rows)


def test_cells_of_the_table_stay_apart() -> None:
    """Every row of the Markdown table has the same number of cells."""
    rows = [line for line in run("--markdown").splitlines() if line.startswith("|")]
    assert {row.replace("\\|", "").count("|") for row in rows} == {6}
