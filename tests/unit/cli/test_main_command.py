"""`sensor` itself: its version, and a help that can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from click.testing import CliRunner

import sensor
from sensor.cli.main import cli

if TYPE_CHECKING:
    from collections.abc import Iterator


def test_it_says_its_version() -> None:
    ran = CliRunner().invoke(cli, ["--version"])
    assert (ran.exit_code, ran.output) == (0, f"sensor {sensor.__version__}\n")


def test_the_examples_of_its_help_are_lines() -> None:
    lines = CliRunner().invoke(cli, ["--help"]).output.splitlines()
    assert "  sudo sensor run                        alerts on this terminal" in lines


def test_what_a_command_is_for_is_not_cut_off_in_the_list_of_them() -> None:
    output = CliRunner().invoke(cli, ["--help"], env={"COLUMNS": "80"}).output
    commands = output.split("Commands:\n")[1].splitlines()
    assert len(commands) > 10
    assert [line for line in commands if not line.endswith(".") or line.endswith("...")] == []


def test_no_help_shows_a_mark_that_is_meant_for_its_layout() -> None:
    def helps(command: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], str]]:
        yield path, CliRunner().invoke(cli, [*path, "--help"]).output
        if isinstance(command, click.Group):
            context = click.Context(command)
            for name in command.list_commands(context):
                found = command.get_command(context, name)
                assert found is not None
                yield from helps(found, *path, name)

    every = dict(helps(cli))
    assert len(every) > 20
    assert [path for path, text in every.items() if "\\b" in text or "\b" in text] == []
