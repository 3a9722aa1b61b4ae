"""A suggested exception hides the alert it was made for, and as little else as possible."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.alerts.exception_file import read_value
from sensor.alerts.exception_match import document_test
from sensor.alerts.suggest import suggest
from sensor.errors import Location, RuleError, SensorError

NOW = 1_787_313_600.0  # 2026-08-21


def propose(alert):
    return suggest(alert, now=NOW, days=90, reason="an audit", owner="us")


def hides(entry, document):
    read = read_value(entry, Location(), None)
    assert not isinstance(read, RuleError), read
    return document_test(read)(document)


def test_the_proposal_names_program_command_user_image_and_container(alert):
    assert propose(alert()) == {
        "id": f"grep-in-web-{alert()['event']['id'][:8]}",
        "rules": "aws-credentials-search",
        "reason": "an audit",
        "owner": "us",
        "expires": "2026-11-19",
        "executable": "/usr/bin/grep",
        "command_line": "grep -r aws_secret_access_key /srv",
        "user": "root",
        "image": "nginx:1.27",
        "container": "web",
    }


def test_it_hides_its_alert_and_nothing_that_differs(alert, document):
    entry = propose(alert())

    assert hides(entry, document())
    assert not hides(entry, document("grep", "-r", "aws_secret_access_key", "/etc"))
    assert not hides(entry, document(user={"name": "www-data"}))
    assert not hides(entry, document(container=document()["container"] | {"name": "db"}))


def test_lasting_labels_stand_for_a_name_that_changes(alert, document):
    labels = {"com.docker.compose.project": "shop", "com.docker.compose.service": "web"}
    container = document()["container"] | {"name": "shop-web-1", "labels": labels | {"x": "y"}}

    entry = propose(alert(container=container))

    assert entry["labels"] == labels
    assert "container" not in entry


def test_wildcards_in_an_argument_are_compared_as_they_are(alert, document):
    args = ("find", "/", "-name", 'a"b\\*.aws/credentials')

    entry = propose(alert(*args))

    assert entry["condition"] == (
        'process.command_line == "find / -name a\\"b\\\\*.aws/credentials"'
    )
    assert hides(entry, document(*args))
    assert not hides(entry, document("find", "/", "-name", 'a"b\\x.aws/credentials'))


def test_a_padded_argv_still_gives_a_narrow_proposal(alert, document):
    args = ("grep", "x" * 80_000, "aws_secret_access_key", "/srv")

    entry = propose(alert(*args))

    assert entry["args"] == ["grep", "aws_secret_access_key", "/srv"]
    assert hides(entry, document(*args))
    assert not hides(entry, document("grep", "x" * 80_000, "another", "/srv"))


def test_bytes_that_are_no_utf8_are_left_open(alert, document):
    event = document("grep", "key", "\udcff")
    seen = alert("grep", "key", "\\xff")
    seen["sensor"] = seen["sensor"] | {"args_base64": ["Z3JlcA==", "a2V5", "/w=="]}

    entry = propose(seen)

    assert entry["args"] == ["grep", "key"]
    assert hides(entry, event)


def test_the_script_that_started_it(alert, document):
    event = alert()
    event["process"] = event["process"] | {
        "parent": {"executable": "/bin/bash", "args": ["bash", "/opt/scan.sh"]}
    }

    entry = propose(event)

    assert entry["script"] == "/opt/scan.sh"
    assert hides(entry, event)
    assert not hides(entry, document())


def test_what_is_no_alert_is_refused(document):
    with pytest.raises(SensorError, match="not an alert of a rule"):
        propose(document())


_text = st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=20)


@given(arg=_text, executable=_text, name=_text, user=_text)
def test_any_alert_gets_a_proposal_that_hides_it(alert, arg, executable, name, user):
    event = alert("grep", arg, user={"name": user})
    event["process"] = event["process"] | {"executable": executable}
    event["container"] = event["container"] | {"name": name}

    assert hides(propose(event), event)
