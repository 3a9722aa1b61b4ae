"""Elasticsearch's own single-event cases, read from the shared folder beside the project."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest

from sensor.rules import compile_query

SHARED = Path(__file__).parents[4] / "shared" / "data" / "eql-conformance"
# These two ask for the default that a mapping's null_value stores in place of null.
NEEDS_MAPPING = {
    "optionalDefaultNullValueFieldEqualNull",
    "optionalDefaultNullValueFieldEqualDefaultValue",
}
FILES = {
    "single_event_test_queries.toml": ("test_data.json", "serial_event_id", 94),
    "single_event_additional_test_queries.toml": ("test_data.json", "serial_event_id", 55),
    "single_event_test_extra.toml": ("extra.data.optional_subset.json", "sequence", 6),
}

pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not SHARED.is_dir(), reason=f"no conformance data in {SHARED}"),
]


def _cases():
    if not SHARED.is_dir():
        return
    for name, (data, identifier, count) in FILES.items():
        cases = tomllib.loads((SHARED / name).read_text())["queries"]
        assert len(cases) == count
        for case in cases:
            mark = (
                [pytest.mark.skip(reason="needs a mapping's null_value")]
                if case["name"] in NEEDS_MAPPING
                else []
            )
            yield pytest.param(case, data, identifier, id=f"{name[:-5]}-{case['name']}", marks=mark)


def _documents(name):
    events = json.loads((SHARED / name).read_text())
    return [{**event, "event": {"category": event["event_type"]}} for event in events]


@pytest.mark.parametrize(("case", "data", "identifier"), list(_cases()))
def test_finds_the_events_elasticsearch_finds(case, data, identifier):
    query = compile_query(case["query"])
    found = [event[identifier] for event in _documents(data) if query.matches(event)]
    for pipe in query.pipes:
        found = found[: pipe.count] if pipe.name == "head" else found[-pipe.count :]
    assert found == case["expected_event_ids"]
