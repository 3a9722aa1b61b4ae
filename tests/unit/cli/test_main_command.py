"""`sensor` itself: its version, and a help that can be read."""

from __future__ import annotations

from click.testing import CliRunner

import sensor
from sensor.cli.main import cli


def test_it_says_its_version() -> None:
    ran = CliRunner().invoke(cli, ["--version"])
    assert (ran.exit_code, ran.output) == (0, f"sensor {sensor.__version__}\n")


def test_the_examples_of_its_help_are_lines() -> None:
    lines = CliRunner().invoke(cli, ["--help"]).output.splitlines()
    assert "  sudo sensor run                        alerts on this terminal" in lines
