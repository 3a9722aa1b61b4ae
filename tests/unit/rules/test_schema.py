"""The fields a rule may name: ours as the documents have them, ECS's, and nothing else."""

from __future__ import annotations

import pytest
from events import HOST, exec_event, process

from sensor.containers.container import Container
from sensor.containers.fields import container_fields
from sensor.containers.identity import Identity
from sensor.containers.resolver import Resolution
from sensor.ecs import event_document
from sensor.rules import compile_query
from sensor.rules.live import FACTS
from sensor.rules.schema import DEFAULT_SCHEMA


def leaves(value, path=()):
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    else:
        yield ".".join(path), value


def live_document():
    """A document of an exec with all that can be known of one."""
    parent = process(pid=50, name="bash", executable="/bin/bash", args=("bash",), session_id=50)
    shim = process(
        pid=10, name="containerd-shim", executable="/usr/bin/containerd-shim-runc-v2", mnt_ns=9
    )
    subject = process(tty=(136, 0), working_directory="/srv", session_id=50, group_id=50)
    event = exec_event(
        subject,
        ancestors=(parent, shim),
        session_leader=parent,
        group_leader=parent,
        args=("grep", "\udcff"),
    )
    return event_document(event, HOST, {"container": {"id": "c" * 64}}, 1)


def test_every_field_of_a_live_document_is_ours():
    names = [name for name, _ in leaves(live_document())]
    assert [name for name in names if name not in DEFAULT_SCHEMA.ours] == []
    assert {"process.parent.args", "process.entry_leader.entry_meta.type"} <= set(names)


def test_types_are_those_of_the_values():
    kinds = {"long": int, "boolean": bool, "float": float}
    for name, value in leaves(live_document()):
        expected = kinds.get(DEFAULT_SCHEMA.ours[name].type, str)
        values = value if isinstance(value, list) else [value]
        assert all(type(one) is expected for one in values), name


def test_what_is_taken_for_granted_of_live_events_is_so():
    document = dict(leaves(live_document()))
    for name, fact in FACTS.items():
        assert document[name] in (fact, [fact])


def test_every_field_of_a_container_is_ours():
    container = Container(
        id="c" * 64,
        source="docker",
        runtime="docker",
        name="web",
        labels={"com.example.a": "b"},
    )
    identity = Identity(
        state="container", reason="cgroup", source="cgroup", container_id="c" * 64, runtime="docker"
    )
    resolution = Resolution(state="resolved", container=container, source="docker")
    block = container_fields(identity, resolution, cluster_name="production")
    for name, _ in leaves(block):
        info = DEFAULT_SCHEMA.get(name)
        assert info is not None, name
        assert info.source is not None, name


@pytest.mark.parametrize(
    ("name", "kind", "ours"),
    [
        ("process.args", "keyword", True),
        ("process.args_count", "long", True),
        ("process.parent.interactive", "boolean", True),
        ("container.labels.com.example.app", "keyword", True),
        ("@timestamp", "date", True),
        ("file.path", "keyword", False),
        ("source.ip", "ip", False),
        ("process.exit_code", "long", False),
        ("labels.anything", "keyword", False),
        ("message", "keyword", False),
    ],
)
def test_known_fields(name, kind, ours):
    info = DEFAULT_SCHEMA.get(name)
    assert info.type == kind
    assert (info.source is not None) == ours


@pytest.mark.parametrize(
    "name",
    ["process.nmae", "process", "process.args.x", "foo", "", ".", "process.", "-", "a" * 5000],
)
def test_unknown_fields(name):
    assert DEFAULT_SCHEMA.get(name) is None


def test_each_of_our_fields_says_where_it_comes_from_and_what_it_is():
    for name, info in DEFAULT_SCHEMA.ours.items():
        assert info.source, name
        assert info.description, name
        assert info.example, name


def test_a_name_of_very_many_parts_is_no_burden():
    name = ".".join("ab" * 200)
    query = compile_query(f'any where {name} == 1 or {name} : ("x", "y*")')
    assert not query.matches({"a": {"b": {"a": 1}}, "a.b": {"a.b": 2}})
