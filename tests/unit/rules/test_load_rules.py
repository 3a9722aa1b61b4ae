"""Loading: which files are read, which of two rules stands, and that nothing wrong is passed over."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from sensor.errors import RuleSyntaxError, SensorError
from sensor.rules import load
from sensor.rules.load import LoadResult, load_rules, load_rules_in_child
from sensor.rules.read import MAX_FILE_BYTES, MAX_LINE_CHARACTERS, PACK

SHARED = Path(__file__).parents[4] / "shared" / "data" / "elastic-rules"


def write(
    path: Path, text: str = "", *, name: str = "A rule", query: str = "process where true"
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text or f"name: {name}\nquery: |\n  {query}\n")
    return path


def load_only(*paths: Path) -> LoadResult:
    return load_rules(paths, builtin=False)


def said(result: LoadResult) -> list[str]:
    return [f"{error.location}: {error.message}" for error in result.errors]


def test_defaults(tmp_path: Path) -> None:
    """What a file leaves out has the documented defaults; the id is the file's name."""
    result = load_only(write(tmp_path / "mine.yml"))
    (rule,) = result.rules
    assert (rule.id, rule.name, rule.severity, rule.risk_score, rule.interval, rule.max_alerts) == (
        "mine", "A rule", "medium", 47, 300, 100,
    )  # fmt: skip
    assert (rule.format, rule.builtin, rule.active, rule.tags) == ("yaml", False, True, ())
    assert rule.query is not None
    assert rule.query.matches({"event": {"category": ["process"]}})


@pytest.mark.parametrize(
    ("text", "seconds"), [("30s", 30), ("5m", 300), ("2h", 7200), ("1d", 86400)]
)
def test_an_interval_is_in_seconds(tmp_path: Path, text: str, seconds: int) -> None:
    """A duration string becomes seconds."""
    path = write(tmp_path / "a.yml", f"name: A\nquery: process where true\ninterval: {text}\n")
    assert load_only(path).rules[0].interval == seconds


@pytest.mark.parametrize(
    ("severity", "score"), [("low", 21), ("medium", 47), ("high", 73), ("critical", 99)]
)
def test_a_risk_score_follows_the_severity(tmp_path: Path, severity: str, score: int) -> None:
    """A rule without a score of its own has its severity's."""
    path = write(tmp_path / "a.yml", f"name: A\nquery: process where true\nseverity: {severity}\n")
    assert load_only(path).rules[0].risk_score == score


def test_elastics_names_of_keys(tmp_path: Path) -> None:
    """`rule_id` and `max_signals` say the same as `id` and `max_alerts`; both at once is an error."""
    path = write(
        tmp_path / "a.yml", "name: A\nquery: process where true\nrule_id: x\nmax_signals: 5\n"
    )
    (rule,) = load_only(path).rules
    assert (rule.id, rule.max_alerts) == ("x", 5)
    write(path, "name: A\nquery: process where true\nid: x\nrule_id: x\n")
    assert said(load_only(path)) == [
        f"{path}:4:1: `rule_id` is another name of `id`: give one of them"
    ]


def test_directories_are_searched(tmp_path: Path) -> None:
    """Rule files at any depth are found, in the order of their names; others and hidden ones not."""
    names = ["b.yaml", "a.yml", "deeper/c.yml", ".hidden.yml", ".git/d.yml", "readme.md", "e.yml~"]
    for name in names:
        write(tmp_path / name, name=name)
    assert [rule.name for rule in load_only(tmp_path).rules] == ["a.yml", "b.yaml", "deeper/c.yml"]


def test_a_file_that_is_reached_twice_counts_once(tmp_path: Path) -> None:
    """A directory and a file in it, or a link to it, are no duplicates."""
    path = write(tmp_path / "rules" / "a.yml")
    (tmp_path / "rules" / "b.yml").symlink_to("a.yml")
    result = load_only(tmp_path / "rules", path)
    assert ([rule.id for rule in result.rules], said(result)) == (["a"], [])


def test_the_same_id_twice_is_an_error_that_names_both(tmp_path: Path) -> None:
    """The first stands, the second is refused."""
    first = write(tmp_path / "one" / "a.yml", name="First")
    second = write(tmp_path / "two" / "a.yml", name="Second")
    result = load_only(tmp_path)
    assert [rule.name for rule in result.rules] == ["First"]
    assert said(result) == [f"{second}: the id 'a' is taken by {first}"]


def test_a_users_rule_replaces_a_built_in_one(tmp_path: Path) -> None:
    """With the id of a built-in rule a user's file takes its place, and that is said."""
    builtin = load_rules().rules[0]
    path = write(tmp_path / "a.yml", f"name: Mine\nid: {builtin.id}\nquery: process where true\n")
    result = load_rules([path])
    assert {rule.id: rule.name for rule in result.rules}[builtin.id] == "Mine"
    assert result.notices == (f"{path} replaces the built-in rule {builtin.name!r}",)
    assert len(result.rules) == len(load_rules().rules)


def test_a_broken_replacement_leaves_the_built_in_rule(tmp_path: Path) -> None:
    """A file that is in error replaces nothing."""
    builtin = load_rules().rules[0]
    path = write(tmp_path / "a.yml", f"name: Mine\nid: {builtin.id}\nquery: process where tru\n")
    result = load_rules([path])
    assert builtin in result.rules
    assert len(result.errors) == 1


def test_a_disabled_rule_is_inactive(tmp_path: Path) -> None:
    """`enabled: false` keeps a rule listed, with the reason."""
    path = write(tmp_path / "a.yml", "name: A\nquery: process where true\nenabled: false\n")
    (rule,) = load_only(path).inactive
    assert (rule.inactive_reason, rule.replayable) == ("disabled in its file", False)


def test_a_rule_on_events_we_do_not_have_is_inactive(tmp_path: Path) -> None:
    """A query for another category loads, with the reason."""
    result = load_only(write(tmp_path / "a.yml", query='file where file.name == "x"'))
    assert result.rules == ()
    assert (
        result.inactive[0].inactive_reason == "needs file events, which this sensor does not have"
    )


def test_a_rule_with_pipes_is_for_replay(tmp_path: Path) -> None:
    """A pipe needs an end of the events: inactive live, and said to be good in a replay."""
    (rule,) = load_only(write(tmp_path / "a.yml", query="process where true | head 1")).inactive
    assert rule.replayable
    assert "replay" in (rule.inactive_reason or "")


def test_an_error_in_a_query_points_into_the_file(tmp_path: Path) -> None:
    """A syntax error and one of meaning both have the file's line and column, and a caret."""
    syntax = write(tmp_path / "a.yml", query="process where process.name =! 'x'")
    meaning = write(
        tmp_path / "b.yml", 'id: b\nname: B\nquery: >-\n  process where\n  process.nmae == "x"\n'
    )
    result = load_only(tmp_path)
    assert [(error.location.path, error.line, error.column) for error in result.errors] == [
        (str(syntax), 3, 30),
        (str(meaning), 5, 3),
    ]
    assert all(isinstance(error, RuleSyntaxError) for error in result.errors)
    assert "did you mean process.name?" in result.errors[1].message
    assert result.errors[1].snippet == '  process.nmae == "x"\n  ^'


def test_an_error_in_an_elastic_rule_points_into_the_file(tmp_path: Path) -> None:
    """The place is the TOML file's."""
    path = write(
        tmp_path / "a.toml",
        "[rule]\nname = 'A'\nquery = '''\nprocess where\n  nonsense == 1\n'''\n",
    )
    (error,) = load_only(path).errors
    assert (error.location.path, error.line, error.column) == (str(path), 5, 3)


def test_all_errors_of_all_files_are_collected(tmp_path: Path) -> None:
    """One broken file hides neither the others' errors nor the good rules."""
    write(tmp_path / "a.yml", "name: A\nquery: [\n")
    write(tmp_path / "b.toml", "[rule]\n")
    write(tmp_path / "c.yml", "name: C\nquery: process where\nfoo: 1\nbar: 2\n")
    write(tmp_path / "d.yml")
    result = load_only(tmp_path, tmp_path / "missing", tmp_path / "e.txt")
    assert [rule.id for rule in result.rules] == ["d"]
    assert [Path(error.location.path or "").name for error in result.errors] == [
        "a.yml", "b.toml", "c.yml", "c.yml", "c.yml", "missing", "e.txt",
    ]  # fmt: skip


def test_what_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    """A missing file, a wrong ending, a pipe, a file too large, and bytes that are no UTF-8."""
    other = write(tmp_path / "a.txt")
    os.mkfifo(tmp_path / "pipe.yml")
    (tmp_path / "huge.yml").write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    (tmp_path / "latin.yml").write_bytes(b"name: A\nquery: \xe4\n")
    (tmp_path / "long.yml").write_text("\nname: " + "A" * MAX_LINE_CHARACTERS)
    (tmp_path / "loop.yml").symlink_to("loop.yml")
    missing = tmp_path / "missing.yml"
    names = ["huge.yml", "latin.yml", "long.yml", "loop.yml", "pipe.yml"]
    nameless = tmp_path / "missing"
    result = load_only(*(tmp_path / name for name in names), missing, nameless, other)
    assert said(result) == [
        f"{tmp_path}/huge.yml: larger than 1048576 bytes",
        f"{tmp_path}/latin.yml:2:8: not UTF-8",
        f"{tmp_path}/long.yml:2:65537: a line longer than 65536 characters",
        f"{tmp_path}/loop.yml: Too many levels of symbolic links",
        f"{tmp_path}/pipe.yml: not a regular file",
        f"{missing}: No such file or directory",
        f"{nameless}: No such file or directory",
        f"{other}: a rule file's name ends in .yml, .yaml or .toml",
    ]


def test_windows_line_ends_and_a_byte_order_mark(tmp_path: Path) -> None:
    """A file from another system is read the same way."""
    path = tmp_path / "a.yml"
    path.write_bytes(b"\xef\xbb\xbfname: A\r\nquery: |\r\n  process where\r\n  true\r\n")
    (rule,) = load_only(path).rules
    assert rule.query_text == "process where\ntrue\n"


def test_exceptions_and_tests_keep_their_place(tmp_path: Path) -> None:
    """Later stages can say where an exception or a test stands."""
    path = write(
        tmp_path / "a.yml",
        "name: A\nquery: process where true\nexceptions:\n  - {reason: known}\n"
        "tests:\n  - {args: a, matches: true}\n",
    )
    (rule,) = load_only(path).rules
    assert rule.exceptions[0].value == {"reason": "known"}
    assert (rule.exceptions[0].location.line, rule.exceptions[0].location.column) == (4, 5)
    assert (rule.tests[0].location.line, rule.tests[0].location.path) == (6, str(path))


def test_the_child_gives_the_same_result(tmp_path: Path) -> None:
    """Loading by way of a child process differs in nothing that can be compared."""
    write(tmp_path / "a.yml", "name: A\nquery: [\n")
    write(tmp_path / "b.yml", query='process where process.nmae == "x"')
    write(tmp_path / "c.yml", query='file where file.name == "x"')
    write(tmp_path / "d.toml", "[rule]\nname = 'D'\nquery = 'x'\ntype = 'query'\n")
    write(
        tmp_path / "e.yml",
        'name: E\nquery: process where process.name == "x"\nexceptions: [{a: [1]}]\n',
    )
    write(tmp_path / "f\udce4.yml", name="F")
    paths = [tmp_path, tmp_path / "missing.yml"]
    here, child = load_rules(paths), load_rules_in_child(paths)
    assert (here.rules, here.inactive, here.notices) == (child.rules, child.inactive, child.notices)
    assert [(str(error), type(error)) for error in here.errors] == [
        (str(error), type(error)) for error in child.errors
    ]
    rule = next(rule for rule in child.rules if rule.name == "E")
    assert rule.query is not None
    assert rule.query.matches({"event": {"category": "process"}, "process": {"name": "x"}})
    assert not rule.query.matches({"event": {"category": "process"}, "process": {"name": "y"}})


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data/elastic-rules")
@pytest.mark.shared
def test_the_child_gives_the_same_result_for_elastics_rules() -> None:
    """The same for the large queries that are written elsewhere."""
    here, child = load_rules([SHARED]), load_rules_in_child([SHARED])
    assert (here.rules, here.inactive, here.errors) == (child.rules, child.inactive, child.errors)


def test_a_child_that_fails_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an answer from the child nothing is loaded, and the reason is said."""
    monkeypatch.setattr(load.sys, "executable", "/bin/false")
    with pytest.raises(SensorError, match="ended with 1"):
        load_rules_in_child()
    monkeypatch.setattr(load.sys, "executable", "/does/not/exist")
    with pytest.raises(SensorError, match="did not answer"):
        load_rules_in_child()


def test_the_child_finds_the_package_from_any_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A directory named like the package beside the user's feet is not imported."""
    trap = tmp_path / "sensor"
    trap.mkdir()
    (trap / "__init__.py").write_text("raise SystemExit(7)")
    monkeypatch.chdir(tmp_path)
    assert len(load_rules_in_child().rules) == len(list(PACK.glob("*.yml")))


def test_an_alert_takes_its_constant_parts_from_the_rule() -> None:
    """`rule` and `threat` as ECS has them: one threat object with arrays, versions as text."""
    rule = next(rule for rule in load_rules().rules if rule.name.startswith("AWS"))
    assert rule.ecs()["rule"].keys() == {
        "id", "name", "version", "description", "ruleset", "author", "license", "reference",
    }  # fmt: skip
    assert rule.ecs()["rule"]["version"] == "1"
    assert rule.ecs()["threat"] == {
        "framework": "MITRE ATT&CK",
        "tactic": {
            "id": ["TA0006"],
            "name": ["Credential Access"],
            "reference": ["https://attack.mitre.org/tactics/TA0006/"],
        },
        "technique": {
            "id": ["T1552"],
            "name": ["Unsecured Credentials"],
            "reference": ["https://attack.mitre.org/techniques/T1552/"],
            "subtechnique": {
                "id": ["T1552.001"],
                "name": ["Credentials In Files"],
                "reference": ["https://attack.mitre.org/techniques/T1552/001/"],
            },
        },
    }
    bare = replace(rule, description="", author=(), license=None, references=(), threat=())
    assert bare.ecs() == {
        "rule": {"id": rule.id, "name": rule.name, "version": "1", "ruleset": "built-in"}
    }
    changed = rule.ecs()
    changed["rule"]["id"] = "changed"
    assert rule.ecs()["rule"]["id"] == rule.id
