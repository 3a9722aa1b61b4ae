"""Exceptions are data: what they hide, when, for whom, and what is wrong with them."""

from __future__ import annotations

import logging
from datetime import datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sensor.alerts.exception_file import ExceptionText, read_value
from sensor.alerts.exception_match import document_test, scripts
from sensor.alerts.exceptions import hidden_document, load_exceptions, load_state
from sensor.alerts.windows import Window, WindowText, read_window
from sensor.errors import Location, RuleError
from sensor.rules.rule import RawException

NOW = datetime.fromisoformat("2026-08-21T12:00:00+00:00").timestamp()  # a Friday
LATE = datetime.fromisoformat("2027-01-01T00:00:00+00:00").timestamp()

ENTRY = """\
exceptions:
  - id: nightly-audit
    rules: aws-credentials-search
    executable: /usr/bin/grep
    reason: the nightly audit looks for leaked keys
    owner: platform team
    expires: 2026-12-31
"""


@pytest.fixture
def load(tmp_path):
    def make(text=ENTRY, rules=(), name="a.yml", **options):
        (tmp_path / "exceptions.d").mkdir(exist_ok=True)
        (tmp_path / "exceptions.d" / name).write_text(text)
        return load_exceptions([tmp_path / "exceptions.d"], rules, **options)

    return make


def entry(**keys):
    """One entry with the given conditions, read as from a file."""
    fixed = {"id": "x", "reason": "r", "owner": "o", "expires": "never", "rules": "all"}
    read = read_value(fixed | keys, Location(path="x.yml", line=3), None)
    if isinstance(read, RuleError):
        raise read
    return read


def hides(document, **keys):
    return document_test(entry(**keys))(document)


def test_an_exception_hides_and_counts(load, document, rule):
    exceptions = load()

    found = exceptions.find(document(), rule(), NOW)

    assert exceptions.errors == ()
    assert found.id == "nightly-audit"
    tally = exceptions.counters()["nightly-audit"]
    assert (tally.hidden, tally.last, tally.rules) == (1, NOW, {"aws-credentials-search": 1})


def test_nothing_is_hidden_of_other_rules_or_other_programs(load, document, rule):
    exceptions = load()
    other = document()
    other["process"]["executable"] = "/usr/bin/ggrep"

    assert exceptions.find(document(), rule(id="another"), NOW) is None
    assert exceptions.find(other, rule(), NOW) is None
    assert exceptions.counters()["nightly-audit"].hidden == 0


def test_an_expired_exception_is_told_once_and_no_longer_applies(load, document, rule):
    exceptions = load()
    last_second = datetime.fromisoformat("2026-12-31T23:59:59+00:00").timestamp()

    assert exceptions.find(document(), rule(), last_second) is not None
    assert exceptions.tick(last_second) == []
    assert exceptions.find(document(), rule(), last_second + 1) is None
    [told] = exceptions.tick(last_second + 1)
    assert told["rule"]["id"] == "sensor.exception_expired"
    assert "nightly-audit of 'platform team' expired on 2026-12-31" in told["message"]
    assert exceptions.tick(last_second + 2) == []


@pytest.mark.parametrize(
    ("keys", "rule_keys", "expected"),
    [
        ({"rules": "all"}, {}, True),
        ({"rules": ["a", "b"]}, {"id": "b"}, True),
        ({"rules": ["a", "b"]}, {"id": "c"}, False),
        ({"tags": "Domain: Container"}, {}, True),
        ({"tags": ["x"]}, {}, False),
    ],
)
def test_which_rules_an_exception_is_for(load, document, rule, keys, rule_keys, expected):
    lines = "".join(f"    {key}: {value!r}\n" for key, value in keys.items())
    exceptions = load(ENTRY.replace("    rules: aws-credentials-search\n", lines))

    assert exceptions.errors == ()
    assert (exceptions.find(document(), rule(**rule_keys), NOW) is not None) is expected


def test_an_exception_in_a_rule_file_is_for_that_rule_only(document, rule):
    value = {
        "id": "own",
        "reason": "r",
        "owner": "o",
        "expires": "never",
        "user": 0,
        "labels": {"com.example.team": "shop"},
    }
    raw = RawException(value=value, location=Location(path="rule.yml", line=9))
    one, other = rule(id="one", exceptions=(raw,)), rule(id="other")

    exceptions = load_exceptions([], [one, other])

    assert exceptions.errors == ()
    assert exceptions.find(document(), one, NOW) is not None
    assert exceptions.find(document(), other, NOW) is None


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"executable": "/usr/bin/grep"}, True),
        ({"executable": ["/bin/*", "/usr/bin/?rep"]}, True),
        ({"executable": "/usr/bin/GREP"}, False),
        ({"executable": "grep"}, False),
        ({"args": "aws_*"}, True),
        ({"args": ["-r", "/srv"]}, True),
        ({"args": ["-r", "/etc"]}, False),
        ({"command_line": "grep -r * /srv"}, True),
        ({"command_line": "grep -r"}, False),
        ({"user": "root"}, True),
        ({"user": "0"}, True),
        ({"user": "nobody"}, False),
        ({"image": "nginx"}, True),
        ({"image": "nginx:1.2?"}, True),
        ({"image": "ngin"}, False),
        ({"labels": {"com.example.team": "sh*"}}, True),
        ({"labels": {"com.example.team": "shop", "other": "*"}}, False),
        ({"container": "we?"}, True),
        ({"container": "5f2b0c3c9f0d*"}, True),
        ({"namespace": "*"}, False),
        ({"condition": 'process.args : "AWS_*" and container.name == "web"'}, True),
        ({"condition": 'process.args : "* where *"'}, False),
        ({"executable": "/usr/bin/grep", "user": "nobody"}, False),
    ],
)
def test_conditions(document, keys, expected):
    assert hides(document(), **keys) is expected


@pytest.mark.parametrize(
    ("args", "executable", "expected"),
    [
        (["/bin/sh", "/opt/audit/scan.sh", "x"], "/bin/dash", ["/opt/audit/scan.sh"]),
        (["bash", "-eu", "scan.sh"], "/bin/bash", ["/srv/scan.sh", "scan.sh"]),
        (["sh", "-c", "/opt/audit/scan.sh"], "/bin/dash", []),
        (["python3", "-m", "scan"], "/usr/bin/python3.11", []),
        (["python3", "/opt/scan.py"], "/usr/bin/python3.11", ["/opt/scan.py"]),
        (["grep", "/opt/audit/scan.sh"], "/usr/bin/grep", []),
        (["sh"], "/bin/sh", []),
        ([], "/bin/sh", []),
    ],
)
def test_the_script_that_a_process_runs(args, executable, expected):
    process = {"args": args, "executable": executable, "working_directory": "/srv"}

    assert list(scripts({"process": process})) == expected


def test_what_a_known_script_starts_is_quiet(document):
    event = document()
    event["process"]["parent"] |= {"args": ["bash", "/opt/audit/scan.sh"]}

    assert hides(event, script="/opt/audit/*.sh")
    assert not hides(document("grep", "key", "/opt/audit/scan.sh"), script="/opt/audit/*.sh")


@pytest.mark.parametrize(
    ("text", "moment", "expected"),
    [
        ({"hours": "22:00-04:00"}, "2026-08-21T23:00:00+00:00", True),
        ({"hours": "22:00-04:00"}, "2026-08-22T03:59:59+00:00", True),
        ({"hours": "22:00-04:00"}, "2026-08-22T04:00:00+00:00", False),
        ({"hours": "22:00-24:00"}, "2026-08-22T23:59:59+00:00", True),
        # A night from Friday on is still Friday's on Saturday morning.
        ({"days": ["fri"], "hours": "22:00-04:00"}, "2026-08-22T03:00:00+00:00", True),
        ({"days": ["fri"], "hours": "22:00-04:00"}, "2026-08-21T03:00:00+00:00", False),
        ({"days": ["sat", "sun"]}, "2026-08-21T12:00:00+00:00", False),
        ({"days": ["sat", "sun"]}, "2026-08-23T12:00:00+00:00", True),
        # 12:00 UTC is 14:00 in Vienna in summer and 13:00 in winter.
        ({"hours": "14:00-15:00", "timezone": "Europe/Vienna"}, "2026-08-21T12:00:00Z", True),
        ({"hours": "14:00-15:00", "timezone": "Europe/Vienna"}, "2026-12-21T12:00:00Z", False),
        ({"from": "2026-08-21", "to": "2026-08-22T12:00:00"}, "2026-08-22T11:59:59Z", True),
        ({"from": "2026-08-21", "to": "2026-08-22T12:00:00"}, "2026-08-22T12:00:00Z", False),
        (
            {"from": "2026-08-21", "to": "2026-08-22", "timezone": "Europe/Vienna"},
            "2026-08-20T22:00:00Z",
            True,
        ),
    ],
)
def test_windows(text, moment, expected):
    text = {key.replace("from", "from_"): value for key, value in text.items()}

    window = read_window(WindowText(**text))

    assert window.holds(datetime.fromisoformat(moment).timestamp()) is expected


@given(st.integers(0, 1439), st.integers(0, 1439), st.integers(0, 10**9))
def test_a_window_and_its_complement_share_no_moment(start, end, moment):
    if start == end:
        return
    one = Window(start=start, end=end).holds(moment)
    other = Window(start=end, end=start).holds(moment)

    assert one is not other


def test_an_exception_applies_only_in_its_windows(load, document, rule):
    exceptions = load(ENTRY + "    windows:\n      - {days: [sat], hours: 08:00-18:00}\n")

    assert exceptions.errors == ()
    assert exceptions.find(document(), rule(), NOW) is None
    assert exceptions.find(document(), rule(), NOW + 86_400) is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("    reason: the nightly audit looks for leaked keys\n", ""), "missing required field `reason`"),
        (("the nightly audit looks for leaked keys", "TODO"), "`reason` is still to be written"),
        (("    owner: platform team\n", ""), "missing required field `owner`"),
        (("    expires: 2026-12-31\n", ""), "missing required field `expires`"),
        (("2026-12-31", "soon"), "`expires`: not a date or a time such as 2027-01-31: 'soon'"),
        (("executable:", "executabel:"), "unknown field `executabel`"),
        (("    executable: /usr/bin/grep\n", ""), "would hide everything for good"),
        (("/usr/bin/grep", "[]"), "`executable` is empty"),
        (("/usr/bin/grep", "['']"), "`executable` is empty"),
        (("    rules: aws-credentials-search\n", ""), "say which `rules` or `tags`"),
        (("nightly-audit", "'a b'"), "at `id`"),
        (("/usr/bin/grep", "x\n    condition: process.args ="), "x.yml:2:"),
        (("/usr/bin/grep", "x\n    condition: 'true | head 1'"), "without `|`"),
        (("/usr/bin/grep", "x\n    windows: [{hours: 25:00-26:00}]"), "`hours`: not like"),
        (("/usr/bin/grep", "x\n    windows: [{hours: 23:00-24:30}]"), "ends at 24:00"),
        (("/usr/bin/grep", "x\n    windows: [{timezone: Mars/Olympus, hours: 1}]"), "no such time zone"),
        (("/usr/bin/grep", "x\n    windows: [{from: 2026-01-02, to: 2026-01-01}]"), "not after"),
        (("/usr/bin/grep", "x\n    windows: [{from: 2026-01-02}]"), "a window is `from` and `to`"),
        (("/usr/bin/grep", "x\n    windows: [{}]"), "a window is `from` and `to`"),
        (("/usr/bin/grep", "x\n    windows: [{days: [funday]}]"), "funday"),
        (("exceptions:", "exemptions:"), "one key, `exceptions:`"),
        (("id: nightly-audit", "id: &a x"), "anchors and aliases"),
        (("executable: /usr/bin/grep", "executable: [[[[[[[[[[[[[[[[x]]]]]]]]]]]]]]]]"), "nested more"),
        (("executable: /usr", "executable: {/usr"), "is not YAML"),
        (("executable: /usr", "executable: \x01"), "is not YAML"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_an_entry_is_said_with_its_place(load, change, message):
    exceptions = load(ENTRY.replace(*change), name="x.yml")

    assert len(exceptions) == 0
    [error] = exceptions.errors
    assert message in str(error)
    assert "x.yml" in str(error)


def test_all_errors_of_all_files_at_once_and_the_good_ones_stand(load, tmp_path):
    load(ENTRY, name="a.yml")
    load(ENTRY.replace("platform team", "TODO").replace("nightly-audit", "n"), name="b.yml")
    (tmp_path / "exceptions.d" / "ignored.txt").write_text("no")
    (tmp_path / "exceptions.d" / "d.yml").write_bytes(b"\xff")

    exceptions = load(ENTRY, name="c.yml")

    assert [each.id for each in exceptions] == ["nightly-audit"]
    folder = f"{tmp_path}/exceptions.d"
    assert [str(each) for each in exceptions.errors] == [
        f"{folder}/b.yml:2:5: exception 'n': `owner` is still to be written",
        f"{folder}/c.yml:2:5: the id nightly-audit is taken by {folder}/a.yml:2:5",
        f"{folder}/d.yml: is not UTF-8",
    ]


def test_a_missing_file_is_an_error_and_no_paths_are_none(tmp_path):
    assert load_exceptions([]).errors == ()
    [error] = load_exceptions([tmp_path / "none.yml"]).errors
    assert "cannot be read: No such file or directory" in str(error)


def test_an_empty_file_is_no_error(load):
    assert load("").errors == load("# nothing\n").errors == load("exceptions:\n").errors == ()


def test_reading_in_a_child_gives_the_same(load, document, rule):
    text = ENTRY + '    condition: process.args == "-r"\n    windows: [{days: [fri]}]\n'
    here, there = load(text), load(text, in_child=True)

    assert here.errors == there.errors == ()
    assert [each.read.text for each in there] == [each.read.text for each in here]
    assert there.find(document(), rule(), NOW) is not None


def test_an_exception_that_raises_hides_nothing_and_is_counted(load, document, rule, caplog):
    exceptions = load()
    [one] = exceptions
    object.__setattr__(one, "test", lambda _: 1 / 0)

    with caplog.at_level(logging.CRITICAL):
        assert exceptions.find(document(), rule(), NOW) is None

    assert exceptions.counters()["nightly-audit"].errors == 1


def test_counts_are_kept_over_a_restart(load, document, rule, tmp_path):
    path = tmp_path / "state.json"
    first = load(state_path=path)
    first.find(document(), rule(), NOW)
    first.save()
    second = load(state_path=path)
    second.find(document(), rule(), NOW + 60)
    second.save()

    state = load_state(path)["nightly-audit"]
    assert (state.hidden, state.last) == (2, NOW + 60)
    assert path.stat().st_mode & 0o777 == 0o640


def test_counts_that_are_not_readable_begin_anew(load, tmp_path, caplog):
    path = tmp_path / "state.json"
    path.write_text("{}")

    assert load(state_path=path).counters()["nightly-audit"].hidden == 0
    assert "begin anew" in caplog.text


def test_counts_that_cannot_be_written_are_no_error(load, document, rule, tmp_path, caplog):
    exceptions = load(state_path=tmp_path / "none" / "state.json")
    exceptions.find(document(), rule(), NOW)

    exceptions.save()

    assert "not kept" in caplog.text


def test_the_record_of_what_was_hidden(load, document, rule):
    exceptions = load()
    event = document()
    found = exceptions.find(event, rule(), NOW)

    record = hidden_document(event, rule(), found)

    assert record["event"]["kind"] == "event"
    assert record["event"]["id"] == event["event"]["id"]
    assert record["rule"]["id"] == "aws-credentials-search"
    assert record["rule"]["exception"] == {
        "id": "nightly-audit",
        "reason": "the nightly audit looks for leaked keys",
        "owner": "platform team",
        "expires": "2026-12-31",
        "applied": "2026-08-21T12:00:00.000000Z",
    }
    assert event == document()


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(ExceptionText.__struct_fields__) | st.text(max_size=4), inner
        )
    ),
    max_leaves=8,
)


# Drawing the first value loads Hypothesis' tables of characters.
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from(ExceptionText.__struct_fields__), _values))
def test_any_entry_is_read_or_refused_with_an_error_of_ours(value):
    fixed = {"id": "x", "reason": "r", "owner": "o", "expires": "never"}

    assert read_value(fixed | value, Location(path="x.yml"), None) is not None


@given(st.text(alphabet="exceptions:- id&*{}[]\n\t'\"", max_size=60))
def test_any_file_is_read_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "any.yml"
    path.write_text(text)

    load_exceptions([path])


def test_a_reload_goes_on_counting_and_tells_nothing_twice(load, document, rule):
    first, second = load(common={"host": {"name": "h"}}), load()
    first.find(document(), rule(), NOW)
    assert len(first.tick(LATE)) == len(list(first))

    second.succeed(first)
    second.find(document(), rule(), NOW)

    assert second.counters()["nightly-audit"].hidden == 2
    assert second.counters()["nightly-audit"].rules == {rule().id: 2}
    assert first.counters()["nightly-audit"].hidden == 1
    assert second.tick(LATE + 1) == []
    assert second.common == {"host": {"name": "h"}}


def test_one_that_was_prolonged_is_told_again_when_it_expires_again(load):
    exceptions = load()
    assert exceptions.tick(LATE) != []
    assert exceptions.tick(NOW) == []
    assert exceptions.tick(LATE) != []
