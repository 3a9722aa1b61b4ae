"""Elastic's rules from the shared folder, and execs made to match what a rule asks for."""

from __future__ import annotations

import random
import tomllib
from pathlib import Path

import pytest

from sensor.rules import ast, compile_query

FOLDER = Path(__file__).parents[4] / "shared" / "data" / "elastic-rules"


def eql_rules():
    """Give (name, query text) of the EQL rules; nothing where the folder is not there."""
    for path in sorted(FOLDER.glob("*.toml")):
        rule = tomllib.loads(path.read_text())["rule"]
        if rule["language"] == "eql":
            yield path.stem, rule["query"]


def active_queries():
    """Give (name, query) of those that live events can satisfy."""
    for name, text in eql_rules():
        query = compile_query(text)
        if query.inactive_reason is None:
            yield name, query


needs_rules = [
    pytest.mark.shared,
    pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no rules in {FOLDER}"),
]


def execs_for(query, count, seed=1):
    """Make execs out of the values that a query's own conditions name, in random mixture."""
    choose = random.Random(seed)
    examples = {}
    pending = [query.ast]
    while pending:
        node = pending.pop()
        for field, values in _examples(node):
            examples.setdefault(field, []).extend(values)
        for name in getattr(node, "__dataclass_fields__", ()):
            value = getattr(node, name)
            pending.extend(value if isinstance(value, tuple) else [value])
    for _ in range(count):
        yield _exec(choose, examples)


def _examples(node):
    match node:
        case ast.Compare(left=ast.Field(name=name), right=ast.Literal(value=value)):
            yield name, [value]
        case ast.In(operand=ast.Field(name=name), values=members):
            yield name, [member.value for member in members]
        case ast.Like(operand=ast.Field(name=name), patterns=patterns):
            yield name, [p.replace("*", "").replace("?", "q") for p in patterns]
            yield name, [p.replace("*", " x ").replace("?", "q") for p in patterns]
        case ast.Regex(operand=ast.Field(name=name)):
            yield name, ["ssh 10.0.0.1:80:10.0.0.2:80", "http://10.0.0.1/"]


def _exec(choose, examples):
    def pick(field, default):
        return choose.choice(examples.get(field) or [default])

    name = pick("process.name", "sleep")
    executable = pick("process.executable", f"/usr/bin/{name}")
    found = [*examples.get("process.args", []), name, "5"]
    args = [name, *choose.sample(found, min(len(found), choose.randint(1, 5)))]
    parent_args = examples.get("process.parent.args", ["bash"])
    return {
        "event": {"category": ["process"], "type": ["start"], "action": "exec"},
        "host": {"os": {"type": "linux"}},
        "container": {"id": "c" * 64, "security_context": {"privileged": True}}
        if choose.random() < 0.9
        else {},
        "user": {"id": "0"},
        "process": {
            "name": [name, executable.rpartition("/")[2]],
            "executable": executable,
            "args": args,
            "command_line": " ".join(args),
            "working_directory": "/",
            "parent": {
                "name": pick("process.parent.name", "bash"),
                "executable": pick("process.parent.executable", "/bin/bash"),
                "args": choose.sample(parent_args, min(len(parent_args), 2)),
                "entity_id": "p",
                "interactive": choose.random() < 0.5,
            },
            "entry_leader": {
                "same_as_process": choose.random() < 0.5,
                "entry_meta": {"type": "container"},
            },
        },
    }
