"""`sensor rules`: what each command prints, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sensor.cli.rules import rules

SHARED = Path(__file__).parents[4] / "shared" / "data" / "elastic-rules"

GOOD = "name: Good\nquery: process where true\n"
BAD = 'name: Bad\nquery: |\n  process where\n    process.nmae == "x"\n'
FILES = 'name: Files\nquery: file where file.name == "x"\n'
FAILING = GOOD + "tests:\n  - {name: example, args: a, matches: false}\n"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(rules, [str(each) for each in arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "a.yml").write_text(GOOD)
    (tmp_path / "b.yml").write_text(BAD)
    (tmp_path / "c.yml").write_text(FILES)
    return tmp_path


def test_check_prints_one_line_a_rule_and_a_total(folder: Path) -> None:
    """Good, inactive and broken rules, each with its verdict; the caret goes to stderr."""
    result = run("check", folder)
    assert result.stdout.splitlines() == [
        f"{folder}/a.yml: ok",
        f"{folder}/c.yml: inactive: needs file events, which this sensor does not have",
        (
            f"{folder}/b.yml:4:5: error: there is no field process.nmae; did you mean process.name? "
            "(a leading ? would make it optional)"
        ),
        "3 rules: 1 ok, 1 inactive, 1 in error",
    ]
    assert result.stderr.splitlines() == ['    process.nmae == "x"', "    ^"]
    assert result.exit_code == 2


def test_check_without_errors_ends_with_0(folder: Path) -> None:
    """An inactive rule is no error."""
    (folder / "b.yml").unlink()
    assert run("check", folder).exit_code == 0


def test_check_warns(tmp_path: Path) -> None:
    """A doubtful rule is ok, with the doubt on stderr."""
    path = tmp_path / "a.yml"
    path.write_text('name: A\nquery: process where file.name == "x" or process.name == "y"\n')
    result = run("check", path)
    assert result.stdout.splitlines()[0] == f"{path}: ok"
    assert result.stderr.startswith(f"{path}: warning: file.name is a field of ECS")
    assert result.exit_code == 0


def test_check_of_a_missing_path(tmp_path: Path) -> None:
    """A path that is not there is an error like any other."""
    result = run("check", tmp_path / "none")
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (
        2,
        "1 rules: 0 ok, 0 inactive, 1 in error",
    )


def test_check_of_a_folder_without_rules_says_so(tmp_path: Path) -> None:
    """A slip in a path is no success without a word."""
    (tmp_path / "rule.json").write_text("{}")
    result = run("check", tmp_path)
    assert (result.exit_code, result.stdout) == (0, "0 rules: 0 ok, 0 inactive, 0 in error\n")
    assert result.stderr == f"warning: no rule file (*.yml, *.yaml, *.toml) in {tmp_path}\n"


def test_an_error_at_the_end_of_a_file_shows_no_empty_line(tmp_path: Path) -> None:
    """The caret below nothing says nothing."""
    (tmp_path / "a.yml").write_text("name: x\nquery: [a\n")
    result = run("check", tmp_path / "a.yml")
    assert "a.yml:3:1: error: not YAML" in result.stdout
    assert result.stderr == ""


def test_check_without_paths_checks_the_built_in_rules() -> None:
    """The shipped rules are all ok."""
    result = run("check")
    assert result.exit_code == 0
    assert all(line.endswith(": ok") for line in result.stdout.splitlines()[:-1])


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data/elastic-rules")
@pytest.mark.shared
def test_check_of_elastics_rules() -> None:
    """Their folder loads as it is: forty rules can fire here, nine cannot and say why."""
    result = run("check", SHARED)
    assert (result.exit_code, result.stdout.splitlines()[-1]) == (
        0, "49 rules: 40 ok, 9 inactive, 0 in error",
    )  # fmt: skip


def test_names_cannot_steer_the_terminal(tmp_path: Path) -> None:
    """Control characters of a rule file are never printed."""
    (tmp_path / "a.yml").write_text('name: "\\e[31mred\\a"\nquery: process where true\n')
    for command in ("list", "check"):
        output = run(command, tmp_path).output
        assert not any(character in output for character in "\x1b\x07")
    assert "\x1b" not in run("show", "a", "--rules", tmp_path).output


def test_list(folder: Path) -> None:
    """State, severity, score, id and name of every rule; broken ones on stderr, and an end with 2."""
    result = run("list", folder, "--no-builtin")
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["STATE", "SEVERITY", "SCORE", "ID", "NAME"],
        ["inactive", "medium", "47", "c", "Files"],
        ["active", "medium", "47", "a", "Good"],
    ]
    assert "b.yml:4:5: error:" in result.stderr
    assert result.exit_code == 2
    assert "AWS Credentials Searched For Inside A Container" in run("list").stdout


def test_test_of_the_built_in_rules() -> None:
    """All examples of the shipped rules pass."""
    result = run("test")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1].endswith("0 failed, 0 rules without tests")


def test_test_says_what_failed(tmp_path: Path) -> None:
    """The place of the example, its name, what was expected and what came; the end is 1."""
    path = tmp_path / "a.yml"
    path.write_text(FAILING)
    result = run("test", path)
    assert result.stdout.splitlines() == [
        f"{path}:4:5: FAILED: example: expected no match, got a match",
        "0 passed, 1 failed, 0 rules without tests",
    ]
    assert result.exit_code == 1


def test_test_of_a_folder(folder: Path) -> None:
    """Rules without tests, inactive and broken ones are named, too."""
    result = run("test", folder)
    assert result.stdout.splitlines() == [
        f"{folder}/a.yml: no tests",
        f"{folder}/c.yml: not tested, inactive: needs file events, which this sensor does not have",
        "0 passed, 0 failed, 1 rules without tests",
    ]
    assert result.exit_code == 2


@pytest.mark.parametrize(
    "name",
    [
        "AWS Credentials Searched For Inside A Container",
        "aws credentials searched for inside a container",
        "aws-credentials-searched-in-container",
        "aws-credentials-searched-in-container.yml",
    ],
)
def test_show_finds_a_rule_by_name_id_or_file(name: str) -> None:
    """Everything a reader needs: the head, the query, the guide."""
    output = run("show", name).stdout
    assert "severity:  medium (risk score 47)" in output
    assert "alerts:    at most 100 of a container in 300 s, 200 in all" in output
    assert "TA0006 Credential Access" in output
    assert 'process where event.module == "cloud_defend"' in output
    assert "## What to find out" in output
    identity = next(line.split()[1] for line in output.splitlines() if line.startswith("id:"))
    assert run("show", identity).stdout == output


def test_show_finds_a_rule_by_a_part_that_only_it_has() -> None:
    """Nobody types a whole name; a part of several names lists them."""
    assert run("show", "aws").stdout == run("show", "aws-credentials-searched-in-container").stdout
    several = run("show", "container")
    assert several.exit_code == 2
    assert "2 rules have the name, id or file name 'container'\n  " in several.stderr
    assert "AWS Credentials Searched For Inside A Container" in several.stderr


def test_a_whole_name_wins_over_a_part(tmp_path: Path) -> None:
    """A rule whose name begins another's can be shown."""
    for name in ("One", "One More"):
        (tmp_path / f"{name}.yml").write_text(f"name: {name}\nquery: process where true\n")
    shown = run("show", "one", "--rules", tmp_path, "--no-builtin").stdout
    assert "name:      One\n" in shown


def test_show_of_an_unknown_rule() -> None:
    """A name nobody has is an error of usage."""
    result = run("show", "nothing")
    assert result.exit_code == 2
    assert "no rule has the name, id or file name 'nothing'" in result.stderr
