"""Execs that failed: which rules see them, and what the filter in the kernel lets through of them."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from events import HOST, exec_event, process
from hypothesis import given, settings
from hypothesis import strategies as st
from query_strategies import conditions, leaves, string_values
from query_strategies import texts as odd_texts

from sensor.ecs import event_document, matching_view
from sensor.errors import RuleSyntaxError
from sensor.event import Failure
from sensor.kernel.layout import Plan
from sensor.prefilter import build_prefilter
from sensor.rules import ast, compile_ast, compile_query
from sensor.rules.engine import END, RuleEngine
from sensor.rules.live import FAILED, is_failed_exec, waits_for_failures
from sensor.rules.rule import Rule
from sensor.rules.schema import DEFAULT_SCHEMA
from sensor.rules.writer import Writer, event_condition

IN_A_CONTAINER = {"container": {"id": "c" * 64}}


def document(error: int | None = 2, *, args=("grep", "-r", "key"), pid: int = 100):
    subject = process(pid=pid, name=args[0], args=args, executable=f"/usr/bin/{args[0]}")
    failure = None if error is None else Failure(error=error, executable="/bin/sh", args=("sh",))
    return event_document(exec_event(subject, failure=failure), HOST, IN_A_CONTAINER, 1)


def rule(text: str, name: str = "rule") -> Rule:
    query = compile_query(text, schema=DEFAULT_SCHEMA)
    return Rule(
        id=name,
        name=name,
        query_text=text,
        path="rules.yml",
        format="yaml",
        query=query,
        inactive_reason=query.inactive_reason,
    )


def fires(text: str, found) -> bool:
    return bool(RuleEngine([rule(text)]).match(matching_view(found), 0))


def test_what_is_taken_for_granted_of_failed_execs_is_so() -> None:
    event = document()["event"]
    for name, fact in FAILED.items():
        assert event[name.removeprefix("event.")] in (fact, [fact])
    assert is_failed_exec(document())
    assert not is_failed_exec(document(None))


@pytest.mark.parametrize(
    "condition",
    [
        'process.name == "grep"',
        'process.args == "key" and event.action == "exec"',
        'event.type == "start"',
        'event.type != "end"',
        'not event.type == "end"',
        'event.type in ("start", "info")',
        "true",
        'event.outcome == "success"',
        'event.outcome != "failure"',
        "error.code == null",
    ],
)
def test_a_rule_that_does_not_ask_of_failures_matches_no_failed_exec(condition: str) -> None:
    """And it matches the exec that succeeded, so that it is the failure that makes the difference."""
    assert not fires(f"process where {condition}", document())
    assert fires(f"process where {condition}", document(None))


@pytest.mark.parametrize(
    "condition",
    [
        'event.outcome == "failure"',
        'event.outcome != "success"',
        'error.code == "ENOENT" and process.name == "grep"',
        'error.code in ("ENOENT", "EACCES")',
        "error.code != null",
        'error.message : "no such file*"',
        'event.outcome == "failure" and process.previous.executable == "/bin/sh"',
    ],
)
def test_a_rule_that_asks_of_failures_matches_a_failed_exec_alone(condition: str) -> None:
    assert fires(f"process where {condition}", document())
    assert not fires(f"process where {condition}", document(None))


def test_a_rule_may_ask_for_both() -> None:
    both = 'process where event.outcome in ("success", "failure") and process.name == "grep"'
    assert fires(both, document())
    assert fires(both, document(None))


def test_each_event_of_a_sequence_asks_for_itself() -> None:
    text = """
      sequence by process.entity_id with maxspan=1s
        [process where event.outcome == "failure" and process.name == "grep"]
        [process where process.name == "grep"]"""
    engine = RuleEngine([rule(text)])
    assert engine.match(document(), 0) == []
    assert engine.match(document(), 1) == []
    (match,) = engine.match(document(None), 2)
    assert [one["event"]["outcome"] for one in match.documents] == ["failure", "success"]


MISSING_TOOL = """
  sequence by process.entity_id with maxspan=1s
    [process where event.outcome == "failure" and process.name == "grep"]
    ![process where event.outcome == "success"]"""


def test_a_search_through_path_is_no_missing_tool() -> None:
    found, lacking = RuleEngine([rule(MISSING_TOOL)]), RuleEngine([rule(MISSING_TOOL)])
    for engine in (found, lacking):
        assert engine.match(document(), 0) == []
    assert found.match(document(None), 1) == []
    assert found.expire(END) == []
    assert len(lacking.expire(END)) == 1


@pytest.mark.parametrize(
    ("text", "waits"),
    [
        ('process where event.outcome == "failure"', True),
        ('process where error.code == "EACCES"', True),
        ('process where process.name == "grep"', False),
        ('process where event.outcome in ("success", "failure")', False),
        (MISSING_TOOL, True),
    ],
)
def test_rules_that_only_failures_make_match_are_known(text: str, waits: bool) -> None:
    assert waits_for_failures(compile_query(text).ast) is waits


def test_a_failure_that_starts_a_process_is_never_found() -> None:
    query = compile_query('process where event.outcome == "failure" and event.type == "start"')
    assert query.inactive_reason == "needs event.type start, which no exec that failed has"


@dataclass
class OneRule:
    """As much of a rule as the filter looks at."""

    query: object
    name: str = "rule"


def filter_of(*texts: str):
    return build_prefilter([OneRule(compile_query(text)) for text in texts], [b"x"], failed=True)


@pytest.mark.parametrize(
    ("condition", "plan", "host_plan", "said"),
    [
        ('process.name == "grep"', Plan.DROP, Plan.DROP, "no rule wants one"),
        ('event.outcome == "failure"', Plan.PASS, Plan.PASS, "all pass"),
        ('error.code == "ENOENT" and container.id != null', Plan.PASS, Plan.DROP, "all pass"),
        ('error.code == "EIO" and process.name == "grep"', Plan.SEARCH, Plan.SEARCH, "1 literals"),
        (
            'error.code == "EIO" and process.name == "grep" and container.id != null',
            Plan.SEARCH,
            Plan.DROP,
            "1 literals",
        ),
        # the path that was asked for is in the text in part only
        ('event.outcome == "failure" and process.executable : "/tmp/*"', Plan.PASS, Plan.PASS, ""),
    ],
)
def test_the_filter_for_failed_execs(
    condition: str, plan: Plan, host_plan: Plan, said: str
) -> None:
    prefilter = filter_of(f"process where {condition}")
    assert (prefilter.filter.failed_plan, prefilter.filter.failed_host_plan) == (plan, host_plan)
    assert said in str(prefilter)


def test_what_is_wanted_of_failures_lets_no_other_exec_through() -> None:
    wanted = filter_of(
        'process where event.outcome == "failure" and process.name == "nmap"',
        'process where process.name == "grep"',
    ).filter
    nmap, grep = b"\0nmap\0nmap\0", b"\0/bin/grep\0grep\0"
    for host in (False, True):
        assert wanted.passes(nmap, host=host, failed=True)
        assert not wanted.passes(grep, host=host, failed=True)
        assert not wanted.passes(nmap, host=host)
        assert wanted.passes(grep, host=host)


def test_where_failures_are_not_told_the_filter_is_as_it_was() -> None:
    rules = [OneRule(compile_query('process where process.name == "grep"'))]
    assert (
        build_prefilter(rules, [b"x"]).filter.automaton
        == build_prefilter(rules, [b"x"], failed=True).filter.automaton
    )


CONDITIONS = conditions(st.one_of(leaves(), leaves(string_values)), max_leaves=4)
words = odd_texts.map(lambda text: text.replace("\0", ""))


@given(CONDITIONS, words, st.lists(words, max_size=4), st.booleans())
@settings(max_examples=150)
def test_a_failed_exec_that_matches_passes_the_filter(condition, filename, args, contained):
    """The program searches what it was asked to execute; without a path it lets the exec pass."""
    outcome = ast.Compare(
        operator="==", left=ast.Field(name="event.outcome"), right=ast.Literal(value="failure")
    )
    tree = ast.Query(
        body=ast.EventFilter(category="process", condition=ast.And(operands=(outcome, condition)))
    )
    try:
        query = compile_ast(tree)
    except RuleSyntaxError:
        return
    found = {
        "event": {
            "category": ["process"],
            "type": ["info"],
            "action": "exec",
            "outcome": "failure",
        },
        "error": {"code": "ENOENT"},
        "process": {
            "name": filename.rpartition("/")[2],
            "executable": f"/{filename}",
            "args": args,
            "command_line": " ".join(args),
        },
        **(IN_A_CONTAINER if contained else {}),
    }
    writer = Writer([event := event_condition(tree.body)])
    if not filename or not writer.function(f"return {writer.condition(event)}")(found):
        return
    text = "\0".join(["", filename, *args, ""]).encode("utf-8", "surrogateescape")
    wanted = build_prefilter([OneRule(query)], failed=True).filter
    assert wanted.passes(text, host=not contained, failed=True)
