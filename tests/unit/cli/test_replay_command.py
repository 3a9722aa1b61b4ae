"""`sensor replay`: recorded events in, alert documents out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sensor.cli import replay as module
from sensor.cli.replay import replay
from sensor.rules.selftest import exec_document

EXAMPLE = Path(__file__).parents[4] / "shared" / "data" / "elastic-example-document.json"

HIT = exec_document(["grep", "-r", "aws_secret_access_key", "/srv"])
MISS = exec_document(["ls", "/srv"])


def lines(*documents: Any) -> str:
    return "".join(json.dumps(document) + "\n" for document in documents)


def run(text: str | bytes, *arguments: str | Path) -> Result:
    return CliRunner().invoke(replay, [*map(str, arguments), "-"], input=text)


def alerts(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def rule(tmp_path: Path, query: str, name: str = "a") -> Path:
    path = tmp_path / f"{name}.yml"
    path.write_text(f"name: Rule {name}\nquery: |\n  {query}\n")
    return path


def test_matches_become_alerts() -> None:
    """Of what was recorded, the search for credentials is an alert; stdout has nothing else."""
    result = run(lines(MISS, HIT, MISS))
    (alert,) = alerts(result)
    assert alert["rule"]["name"] == "AWS Credentials Searched For Inside A Container"
    assert alert["event"]["kind"] == "alert"
    assert alert["process"]["args"] == HIT["process"]["args"]
    assert alert["process"]["name"] == "grep"
    assert result.stderr == "3 documents, 1 alerts by 1 rules\n"
    assert result.exit_code == 0


def test_a_file_without_any_document_is_an_error(tmp_path: Path) -> None:
    """A wrong file is not a quiet day."""
    path = tmp_path / "sensor.log"
    path.write_text("no\nno\n")
    result = CliRunner().invoke(replay, [str(path)])
    assert str(result.exception) == (
        f"{path}: holds no document; `sensor record` writes such files"
    )


def test_from_a_file(tmp_path: Path) -> None:
    """FILE is read as stdin is; one that is missing is an error of usage."""
    path = tmp_path / "events.ndjson"
    path.write_text(lines(HIT))
    assert len(alerts(CliRunner().invoke(replay, [str(path)]))) == 1
    assert CliRunner().invoke(replay, [str(tmp_path / "none")]).exit_code == 2


def test_only_the_given_rules(tmp_path: Path) -> None:
    """`--rules` adds rules, `--no-builtin` leaves the shipped ones out."""
    path = rule(tmp_path, 'process where process.name == "ls"')
    assert {alert["rule"]["name"] for alert in alerts(run(lines(HIT, MISS), "--rules", path))} == {
        "AWS Credentials Searched For Inside A Container", "Rule a",
    }  # fmt: skip
    result = run(lines(HIT, MISS), "--rules", path, "--no-builtin")
    assert [alert["rule"]["name"] for alert in alerts(result)] == ["Rule a"]


def test_lines_that_are_no_documents_are_counted_and_named() -> None:
    """Bad lines are said with their number; the good ones around them count."""
    text = f"{lines(HIT)}\n{{\n[1]\n{lines({'event': 5})}{'[' * 5000}\n{lines(HIT)}"
    result = run(text)
    assert len(alerts(result)) == 2
    said = result.stderr.splitlines()
    assert [line.split(":")[0] for line in said[:-1]] == ["line 3", "line 4", "line 5", "line 6"]
    assert said[2] == "line 5: not a document: event is not an object"
    assert said[-1] == "2 documents, 2 alerts by 1 rules, 4 lines that are no documents"
    assert result.exit_code == 0


@pytest.mark.parametrize(
    "line", [b'{"a": "\xff"}', b'{"a": 1' + b"0" * 5000 + b"}", b"\x00", b'"text"']
)
def test_hostile_lines_are_bad_lines(line: bytes) -> None:
    """No bytes end the replay."""
    result = run(line + b"\n" + lines(HIT).encode())
    assert (result.exit_code, len(alerts(result))) == (0, 1)


def test_only_the_first_bad_lines_are_named() -> None:
    """A file that is no recording at all does not flood the terminal."""
    result = run("nonsense\n" * 1000)
    said = result.stderr.splitlines()
    assert len(said) == 11
    assert said[-1] == "0 documents, 0 alerts by 0 rules, 1000 lines that are no documents"


def test_a_line_that_is_too_long_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded; the lines after it are read."""
    monkeypatch.setattr(module, "MAX_LINE_BYTES", 4096)
    result = run(lines({"a": "x" * 10_000}, HIT, {"a": "x" * 4096}))
    assert len(alerts(result)) == 1
    assert "line 1: not a document: longer than 4096 bytes" in result.stderr
    assert "line 3: not a document: longer than 4096 bytes" in result.stderr


@pytest.mark.parametrize(
    ("pipes", "expected"),
    [
        ("head 2", ["1", "2"]),
        ("tail 2", ["4", "5"]),
        ("head 3 | tail 1", ["3"]),
        ("tail 3 | head 2", ["3", "4"]),
        ("tail 4 | tail 9", ["2", "3", "4", "5"]),
    ],
)
def test_pipes_are_honoured(tmp_path: Path, pipes: str, expected: list[str]) -> None:
    """A recording has an end, so `head` and `tail` mean something here."""
    path = rule(tmp_path, f"process where true | {pipes}")
    documents = [exec_document([str(number)]) for number in range(1, 6)]
    result = run(lines(*documents), "--rules", path, "--no-builtin")
    assert [alert["process"]["args"][0] for alert in alerts(result)] == expected


def test_sequences_go_by_the_recorded_times(tmp_path: Path) -> None:
    """What is too far apart in the recording is no sequence."""
    query = 'sequence by container.id with maxspan=5s [process where process.name == "a"] [process where process.name == "b"]'
    path = rule(tmp_path, query)

    def at(name: str, second: int) -> dict[str, Any]:
        return exec_document([name]) | {"@timestamp": f"2026-01-01T00:00:{second:02}Z"}

    result = run(
        lines(at("a", 0), at("b", 10), at("a", 20), at("b", 22)), "--rules", path, "--no-builtin"
    )
    assert [alert["@timestamp"] for alert in alerts(result)] == ["2026-01-01T00:00:22Z"]


def test_the_end_of_a_recording_settles_what_waits(tmp_path: Path) -> None:
    """An event that had to stay away did so when the recording ends."""
    query = 'sequence with maxspan=5s [process where process.name == "a"] ![process where process.name == "b"]'
    path = rule(tmp_path, query)
    found = run(lines(exec_document(["a"])), "--rules", path, "--no-builtin")
    assert [alert["process"]["name"] for alert in alerts(found)] == ["a"]
    spoiled = run(
        lines(exec_document(["a"]), exec_document(["b"])), "--rules", path, "--no-builtin"
    )
    assert alerts(spoiled) == []


def test_a_broken_rule_is_said_and_the_others_run(tmp_path: Path) -> None:
    """`--strict` refuses instead, and so does a rule set of which nothing is left."""
    path = rule(tmp_path, "process where nonsense == 1")
    result = run(lines(HIT), "--rules", path)
    assert (result.exit_code, len(alerts(result))) == (0, 1)
    assert f"{path}:3:17: error: there is no field nonsense" in result.stderr
    for arguments in (["--strict"], ["--no-builtin"]):
        result = run(lines(HIT), "--rules", path, *arguments)
        assert (result.exit_code, result.stdout) == (2, "")


def test_other_shapes_of_documents() -> None:
    """Dotted keys and single values instead of lists are the same to a rule."""
    document = {
        "event.category": "process", "event.type": "start", "event.module": "cloud_defend",
        "container.id": "abc", "process.name": "find", "process.args": ["find", ".aws/credentials"],
    }  # fmt: skip
    result = run(lines(document))
    assert (len(alerts(result)), result.exit_code) == (1, 0)


@pytest.mark.skipif(
    not EXAMPLE.is_file(), reason="needs ../shared/data/elastic-example-document.json"
)
@pytest.mark.shared
def test_a_document_of_elastics_shape_is_an_alert() -> None:
    """What Elastic's own sensor writes is understood as well."""
    document = json.loads(EXAMPLE.read_text())
    assert len(alerts(run(lines(document)))) == 1
