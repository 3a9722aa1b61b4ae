"""What must occur in an exec: never too much, for any rule and any exec."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from elastic import active_queries, eql_rules, execs_for, needs_rules
from hypothesis import given, settings
from hypothesis import strategies as st
from query_strategies import FIELDS, conditions, leaves, queries, string_values
from query_strategies import texts as odd_texts

from sensor.errors import RuleSyntaxError
from sensor.kernel.automaton import search_text
from sensor.kernel.layout import Plan
from sensor.prefilter import build_prefilter
from sensor.rules import ast, compile_ast, compile_query
from sensor.rules.literals import needs_of, requires_container
from sensor.rules.writer import Writer, event_condition


def text_of(document, filename, *, paths=True):
    """The text the kernel searches."""
    process = document["process"]
    argv = "".join(f"{arg}\0" for arg in process["args"])
    parts = (
        part.encode("utf-8", "surrogateescape") for part in (filename, process["executable"], argv)
    )
    return search_text(*parts, paths=paths)


def necessary_literals(query, *, min_length=2):
    """All events' literals together; None where one has none."""
    found = [needs.literals for needs in needs_of(query, min_length=min_length)]
    return None if None in found else frozenset().union(*found)


def contains(literal, text):
    """Whether the text has the literal, as the kernel reads it."""
    return fold(literal) in fold(text)


def fold(raw):
    return raw.lower().replace(b"/", b"\0")


@dataclass
class OneRule:
    """As much of a rule as the filter looks at."""

    query: object
    name: str = "rule"


def passes(query, document, filename):
    """What the program in the kernel decides for an exec, with the query as the only rule."""
    prefilter = build_prefilter([OneRule(query)]).filter
    text = text_of(document, filename, paths=prefilter.paths)
    return prefilter.passes(text, host="container" not in document)


def matches_any_event(query, document):
    """Whether the event matters: a single match, or any event of a sequence."""
    events = [event_condition(event) for event in ast.filters_of(query.ast)]
    writers = [(Writer([event]), event) for event in events]
    return any(w.function(f"return {w.condition(event)}")(document) for w, event in writers)


words = odd_texts.map(lambda text: text.replace("\0", "").replace("/", ""))
CONDITIONS = conditions(st.one_of(leaves(), leaves(), leaves(string_values)), max_leaves=4)
QUERIES = queries(CONDITIONS)


@st.composite
def execs(draw):
    """An exec as the sensor documents it, and the path it was started by."""
    folder = draw(st.sampled_from(["/usr/bin", "/tmp", "/dev/shm/.x", "/a/aws/B"]))
    filename, executable = f"./{draw(words)}", f"{folder}/{draw(words) or 'x'}"
    args = draw(st.lists(odd_texts.map(lambda text: text.replace("\0", "")), max_size=4))
    document = {
        "event": {
            "category": ["process"],
            "type": ["start"],
            "action": "exec",
            "outcome": "success",
        },
        "process": {
            "name": [filename.rpartition("/")[2], executable.rpartition("/")[2]],
            "executable": executable,
            "args": args,
            "command_line": " ".join(args),
            "args_count": len(args),
            "parent": {"name": draw(words), "args": draw(st.lists(words, max_size=2))},
        },
    }
    if draw(st.booleans()):
        document["container"] = {"id": draw(st.sampled_from(["", "a", "aws"]))}
    return document, filename


@given(QUERIES, execs(), st.integers(1, 4))
@settings(max_examples=150)
def test_a_match_contains_a_literal(tree, event, min_length):
    document, filename = event
    try:
        query = compile_ast(tree)
    except RuleSyntaxError:
        return
    literals = necessary_literals(query, min_length=min_length)
    if literals is None or (query.inactive_reason and not query.replay_only):
        return
    assert all(len(literal) >= min_length for literal in literals)
    if matches_any_event(query, document):
        text = text_of(document, filename)
        assert any(contains(literal, text) for literal in literals)
        assert passes(query, document, filename)


@given(QUERIES, execs())
@settings(max_examples=100)
def test_what_requires_a_container_never_matches_without(tree, event):
    document, _ = event
    document.pop("container", None)
    try:
        query = compile_ast(tree)
    except RuleSyntaxError:
        return
    if requires_container(query) and not query.is_sequence:
        assert not query.matches(document)


def filter_of(*conditions):
    rules = [OneRule(compile_query(f"process where {condition}")) for condition in conditions]
    return build_prefilter(rules, [b"\0always\0"])


CONTAINER = 'container.id != null and process.name == "grep"'


@pytest.mark.parametrize(
    ("conditions", "plan", "host_plan"),
    [
        ([], Plan.SEARCH, Plan.DROP),
        ([CONTAINER], Plan.SEARCH, Plan.DROP),
        ([CONTAINER, 'process.name == "ssh"'], Plan.SEARCH, Plan.SEARCH),
        (["container.id != null"], Plan.PASS, Plan.DROP),
        (["container.id != null", 'process.name == "ssh"'], Plan.PASS, Plan.SEARCH),
        ([CONTAINER, "process.interactive"], Plan.PASS, Plan.PASS),
    ],
)
def test_the_host_is_searched_for_what_its_rules_need(conditions, plan, host_plan):
    found = filter_of(*conditions).filter
    assert (found.plan, found.host_plan) == (plan, host_plan)
    for name, wanted in (("grep", {CONTAINER}), ("ssh", {'process.name == "ssh"'})):
        text = search_text(name.encode(), f"/bin/{name}".encode(), b"x\0")
        needed = bool(wanted & set(conditions))
        assert found.passes(text, host=False) == (needed or plan == Plan.PASS)
        on_host = needed and wanted != {CONTAINER}
        assert found.passes(text, host=True) == (on_host or host_plan == Plan.PASS)


@pytest.mark.parametrize(
    ("conditions", "said"),
    [
        ([CONTAINER], "on: 2 literals, 13 states, host: no exec is wanted"),
        (
            [CONTAINER, 'process.name == "ssh"'],
            "on: 3 literals, 22 states, host: 1 literals",
        ),
        (
            ["container.id != null"],
            "off: rule 'rule' could match any exec, but of the host's execs none is wanted",
        ),
        (["process.interactive"], "off: rule 'rule' could match any exec"),
    ],
)
def test_the_filter_says_what_it_does(conditions, said):
    assert str(filter_of(*conditions)) == said


@pytest.mark.parametrize(
    ("condition", "literals"),
    [
        ('process.name == "grep"', {b"\0grep\0"}),
        ('"grep" == process.name', {b"\0grep\0"}),
        ('process.name in ("grep", "Find")', {b"\0grep\0", b"\0find\0"}),
        ('process.args : "*AWS_secret*"', {b"aws_secret"}),
        ('process.args like "--proxy*"', {b"\0--proxy"}),
        ('process.args like "*.svc"', {b".svc\0"}),
        ('process.args like "http*:10250*"', {b":10250"}),
        ('process.args like "/home/*/.ssh/*"', {b"\0/home/"}),
        ('process.args like "ab?defg"', {b"defg\0"}),
        ('process.args like ("*alpha*", "*bravo*")', {b"alpha", b"bravo"}),
        ('process.args like "*étage*"', {"étage".encode()}),
        ('process.args regex ".*wget.*"', {b"wget"}),
        ('process.args regex "(curl|wget) -O.*"', {b"curl", b"wget"}),
        ('process.args regex "(curl|wget)"', {b"curl", b"wget"}),
        ('startsWith(process.args, "--out")', {b"\0--out"}),
        ('endsWith~(process.args, ".PEM")', {b".pem\0"}),
        ('stringContains(process.args, "token")', {b"token"}),
        ('process.command_line : "*grep -r secrets*"', {b"secrets"}),
        ('process.command_line == "grep -r"', {b"grep"}),
        # and takes the longest, or all of them
        ('process.name == "sh" and process.args : "*password*"', {b"password"}),
        ('process.name == "grep" or process.args : "*key*"', {b"\0grep\0", b"key"}),
        ('process.name == "grep" and not process.args == "-r"', {b"\0grep\0"}),
        ('not not process.name == "grep"', {b"\0grep\0"}),
        # what is decided before
        ('event.action == "exec" and process.name == "grep"', {b"\0grep\0"}),
        ('event.category == "file" or process.name == "grep"', {b"\0grep\0"}),
        # nothing to go by
        ('process.name != "grep"', None),
        ('not process.name == "grep"', None),
        ('process.executable == "/usr/bin/grep"', {b"\0grep\0bin\0usr\0\0"}),
        ('process.executable like "/tmp/*"', {b"\0tmp\0\0"}),
        ('process.executable like ("/dev/shm/*", "/run/*")', {b"\0shm\0dev\0\0", b"\0run\0\0"}),
        ('process.executable like "/opt/app*/bin/tool"', {b"\0tool\0bin\0"}),
        ('process.executable like "*/bin/too*"', {b"\0bin\0"}),
        ('process.executable like "/usr/*-helper"', {b"-helper\0"}),
        ('process.executable : "*MINER*"', {b"miner"}),
        ('endsWith(process.executable, "/sh")', {b"\0sh\0"}),
        ('startsWith(process.executable, "/tmp/x")', {b"\0tmp\0\0"}),
        ('process.executable == "grep"', None),
        ('process.executable like "/tmp//x*"', None),
        ('process.executable like "/*"', None),
        ('process.executable like "/tmp/*" and process.name == "sh"', {b"\0tmp\0\0"}),
        ('process.name : ".*"', {b"\0."}),
        (
            'process.args regex ".*[0-9]+:[0-9]+.*"',
            {f"{a}:{b}".encode() for a in range(10) for b in range(10)},
        ),
        ('process.args regex "-[a-c]x?"', {b"\0-a", b"\0-b", b"\0-c"}),
        ('process.parent.name == "nginx"', None),
        ('process.args like "*"', None),
        ('process.args like "?*?"', None),
        ('process.args == "-"', {b"\0-\0"}),
        ('process.args == ""', None),
        ('process.args in ("grep", 5)', None),
        ("process.args == 5", None),
        ("process.args == null", None),
        ("process.args != null", None),
        ('process.args > "a"', None),
        ('process.args regex "[a-z]+"', None),
        ('process.args regex "(wget)?"', None),
        ('concat(process.args, "x") == "grepx"', None),
        ("length(process.args) > 100", None),
        ('process.name == "grep" or process.interactive', None),
    ],
)
def test_literals_of_conditions(condition, literals):
    assert necessary_literals(compile_query(f"process where {condition}")) == literals


def test_short_literals_count_by_the_callers_measure():
    query = compile_query('process where process.name : ".*"')
    assert necessary_literals(query, min_length=3) is None
    assert necessary_literals(query) == {b"\0."}


def test_what_no_exec_can_match_needs_nothing_and_lets_nothing_through():
    assert necessary_literals(compile_query("file where true")) == frozenset()
    assert necessary_literals(compile_query('process where event.type == "end"')) == frozenset()


def test_a_sequence_needs_what_any_of_its_events_needs():
    text = """sequence by process.parent.entity_id with maxspan=1s
      [process where process.name == "curl"] ![process where process.name == "true"]
      [process where process.args : "*payload*"]
      until [process where process.name == "exit"]"""
    expected = {b"\0curl\0", b"\0true\0", b"payload", b"\0exit\0"}
    assert necessary_literals(compile_query(text)) == expected
    assert necessary_literals(compile_query(text.replace('"curl"', '"c" or true'))) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('process where container.id like "*"', True),
        ('process where container.id : "?*" and process.name == "x"', True),
        ("process where container.id != null", True),
        ("process where not container.id == null", True),
        ('process where container.id == "a" or container.id in ("b", "c")', True),
        ('process where container.id like "*" or event.category == "file"', True),
        ('process where container.id like "*" or process.name == "x"', False),
        ('process where not container.id like "*"', False),
        ('process where event.module == "cloud_defend"', False),
        ('process where container.name == "x"', True),
        ("process where container.security_context.privileged == true", True),
        ("process where container.security_context.privileged", True),
        ('process where container.name != "x"', False),
        ('process where container.identity.state == "host"', False),
        ("process where container.id == null", False),
        ("sequence by container.id with maxspan=1s [any where a] [process where true]", True),
        ("sequence by ?container.id with maxspan=1s [any where a] [process where true]", False),
        (
            'sequence with maxspan=1s [process where container.id like "*"] [process where true]',
            False,
        ),
    ],
)
def test_requires_container(text, expected):
    assert requires_container(compile_query(text)) is expected


class TestElasticsRules:
    pytestmark = needs_rules

    def test_execs_that_match_contain_a_literal(self):
        matched = set()
        for name, query in active_queries():
            events = [event_condition(event) for event in ast.filters_of(query.ast)]
            writers = [(Writer([event]), event) for event in events]
            tests = [w.function(f"return {w.condition(event)}") for w, event in writers]
            for document in execs_for(query, 400):
                if not any(test(document) for test in tests):
                    continue
                matched.add(name)
                assert passes(query, document, f"./{document['process']['name'][0]}"), name
        assert len(matched) >= 35

    def test_the_filter_is_off_for_none(self):
        assert [name for name, query in active_queries() if necessary_literals(query) is None] == []

    def test_all_together_search_containers_for_more_than_the_host(self):
        prefilter = build_prefilter(OneRule(query, name) for name, query in active_queries())
        assert prefilter.filter.plan == prefilter.filter.host_plan == Plan.SEARCH
        assert 0 < prefilter.host_literals < prefilter.literals

    def test_all_but_one_require_a_container(self):
        without = [name for name, query in active_queries() if not requires_container(query)]
        assert without == ["execution_container_runtime_cli_suspicious_args"]


def test_the_strategies_know_the_fields_of_the_text():
    assert {"process.name", "process.args", "process.command_line", "container.id"} <= set(FIELDS)


def test_the_shared_rules_are_found_where_the_folder_is():
    assert len(list(eql_rules())) in (0, 48)
