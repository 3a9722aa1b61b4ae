"""A triage report: what it says of an alert alone, and with what the store knows."""

from __future__ import annotations

import pytest
from triaged import RULE, alert, with_

from sensor.alerts.exceptions import load_exceptions
from sensor.config import Config
from sensor.errors import SensorError
from sensor.store.records import Similar, Summary, Update
from sensor.triage.facts import Facts, Others, near_exceptions
from sensor.triage.knowledge import Knowledge
from sensor.triage.report import triage

HOUR = 3600.0
TIME = 1_700_000_000.123456


def report_of(document, **facts):
    return triage(document, Facts(**facts))


def weights(report, weight):
    return [signal.title for signal in report.signals if signal.weight == weight]


def summary(**fields):
    defaults = {
        "sequence": 1,
        "id": "ab" * 16,
        "change": 1,
        "time_us": int((TIME - 60) * 1e6),
        "kind": "alert",
        "severity": 47,
        "risk_score": 47,
        "rule_id": RULE.id,
        "rule_name": RULE.name,
        "container_id": "77" * 32,
        "container_name": "other",
        "image": "shop/web:1.4.2",
        "user_id": "0",
        "user_name": "root",
        "namespace": None,
        "pod": None,
        "command": "grep needle",
        "action": 5,
        "execs": 1,
        "updates": 0,
    }
    return Summary(**defaults | fields)


def similar(alerts, hours, *, hidden=0, first=TIME - 30 * 24 * HOUR):
    return Similar(
        action=5,
        alerts=alerts,
        hidden=hidden,
        execs=alerts,
        first=first,
        last=TIME,
        hours_utc=tuple(hours.get(hour, 0) for hour in range(24)),
    )


def test_the_tree_leads_from_outside_to_the_match_with_what_ran_beside_it():
    report = report_of(alert())

    assert [(node.name, node.depth, node.parent, node.place) for node in report.tree] == [
        ("containerd-shim", 0, None, "outside"),
        ("bash", 1, 0, "inside"),
        ("id", 2, 1, "inside"),
        ("true", 3, 2, "inside"),
        ("grep", 2, 1, "inside"),
    ]
    assert [node.is_match for node in report.tree] == [False] * 4 + [True]
    assert [node.is_chain for node in report.tree] == [True, True, False, False, True]
    assert report.tree[1].marks == ("entry", "session leader")
    assert report.tree[-1].args == ("grep", "-r", "aws_secret_access_key", "/srv")


def test_without_ancestors_the_tree_is_made_of_parent_and_leaders_and_says_so():
    document = alert()
    document["sensor"] = {
        key: value for key, value in document["sensor"].items() if key != "ancestors"
    }
    report = report_of(document)

    assert [node.name for node in report.tree if node.is_chain] == ["bash", "grep"]
    assert any("does not have all ancestors" in gap for gap in report.gaps)


def test_of_very_many_execs_beside_it_the_tree_says_how_many_found_no_room():
    document = alert()
    many = [
        {"@timestamp": "2023-11-14T22:13:20Z", "process": {"pid": 1000 + n, "parent": {"pid": 90}}}
        for n in range(100)
    ]
    report = report_of(with_(document, "sensor.recent_activity", many))

    assert len(report.tree) == 48
    assert len(report.tree) + report.tree_left_out == 103


def test_the_timeline_has_execs_match_alerts_and_updates_in_order():
    other = summary(rule_name="Shell In A Container", rule_id="x", time_us=int((TIME + 5) * 1e6))
    update = Update(number=1, received=TIME + 60, change={"sensor": {"collapsed": {"count": 9}}})
    report = report_of(alert(), around=(other,), updates=(update,))

    assert [(each.kind, each.args[:1] or each.text) for each in report.timeline] == [
        ("container", "The container was created"),
        ("exec", ("id",)),
        ("exec", ("true",)),
        ("exec", ("ls",)),
        ("match", ("grep",)),
        ("alert", "Shell In A Container: grep needle"),
        ("update", "9 matching execs of this action so far"),
    ]


def test_who_and_how_they_came_in():
    facts = {fact.label: fact.values[0] for fact in report_of(alert()).who}

    assert facts == {
        "User": "root (0)",
        "Came in": "Started from outside in the running container, as by docker exec or kubectl exec",
        "Entry process": "bash -x",
        "Terminal": "pts/3: somebody may be typing",
    }


@pytest.mark.parametrize(
    ("field", "value", "title"),
    [
        ("container.security_context.privileged", True, "The container is privileged"),
        (
            "container.security_context.host_mounts",
            ["/var/run/docker.sock:/var/run/docker.sock:ro"],
            "It sees directories or sockets of the host that give the host away",
        ),
        (
            "container.security_context.capabilities_added",
            ["CAP_SYS_ADMIN"],
            "It was given strong capabilities",
        ),
        ("process.parent.name", "php-fpm8.2", "It descends from a server process (php-fpm8.2)"),
        ("process.executable", "/dev/shm/x", "The program lies where anybody may write"),
        ("sensor.executable_memfd", True, "The program lies in memory only, in no file"),
        ("sensor.executable_deleted", True, "The program's file was deleted while it ran"),
        ("sensor.args_truncated", True, "It had more arguments than are recorded"),
    ],
)
def test_what_is_alarming_is_said(field, value, title):
    assert title not in weights(report_of(alert()), "alarming")
    assert title in weights(report_of(with_(alert(), field, value)), "alarming")


def test_a_script_without_a_terminal_speaks_for_routine():
    document = with_(alert(), "process.interactive", False)
    parent = document["process"]["parent"] | {
        "executable": "/bin/bash",
        "args": ["bash", "/opt/a.sh"],
    }
    report = report_of(with_(document, "process.parent", parent))

    assert weights(report, "reassuring") == ["A script ran it, without a terminal"]


def test_an_action_never_seen_before_is_alarming_and_one_seen_at_this_hour_is_routine():
    once, usual = similar(1, {22: 1}), similar(30, {22: 29, 3: 1})
    at_another_hour = similar(30, {22: 1, 3: 29})

    assert "Never seen before on this node" in weights(report_of(alert(), similar=once), "alarming")
    seen = "The same action was seen 30 times since 2023-10-15"
    assert seen in weights(report_of(alert(), similar=usual), "reassuring")
    assert seen in weights(report_of(alert(), similar=at_another_hour), "open")


def test_other_alerts_are_listed_by_what_they_have_in_common():
    others = Others(title="The same action elsewhere on this node", alerts=(summary(),), more=True)
    report = report_of(alert(), others=(others,))

    [group] = report.related
    assert (group.title, group.more, group.alerts[0].container) == (others.title, True, "other")
    assert "The same action was seen in another container of this node" in weights(report, "open")


def test_the_steps_begin_with_the_person_and_have_commands_for_this_container():
    steps = report_of(alert()).steps

    assert steps[0].title == "Find out who it was"
    commands = [command for step in steps for command in step.commands]
    assert "docker inspect 5f2b0c3c9f0d" in commands
    assert any(command.startswith("sensor respond ") for command in commands)


def test_a_container_id_that_is_none_gets_no_commands():
    report = report_of(with_(alert(), "container.id", "$(reboot) 5f2b0c3c9f0d"))

    assert not any("reboot" in command for step in report.steps for command in step.commands)


def test_what_is_at_stake_follows_the_tactic_and_the_containers_rights():
    plain = report_of(alert()).impact
    privileged = report_of(with_(alert(), "container.security_context.privileged", True)).impact

    assert plain[0].startswith("Keys and passwords")
    assert not any("take over the node" in sentence for sentence in plain)
    assert any("take over the node" in sentence for sentence in privileged)


def exemptions(tmp_path, **conditions):
    lines = [f"    {key}: {value}" for key, value in conditions.items()]
    path = tmp_path / "exceptions.yml"
    path.write_text(
        "exceptions:\n  - id: audit\n    reason: our audit\n    owner: me\n    expires: never\n"
        f"    rules: {RULE.id}\n" + "\n".join(lines) + "\n"
    )
    found = load_exceptions([path])
    assert not found.errors
    return found


def test_an_exception_that_almost_holds_is_near_and_says_what_is_missing(tmp_path):
    found = exemptions(tmp_path, executable="/usr/bin/grep", user="audit", image="shop/*")
    [near] = near_exceptions(alert(), found)

    assert near.holds == ("executable: /usr/bin/grep", "image: shop/*")
    assert near.fails == ("user: audit",)
    assert "The exception audit is near" in weights(report_of(alert(), exceptions=(near,)), "open")


def test_an_exception_of_which_nothing_holds_is_not_near(tmp_path):
    found = exemptions(tmp_path, user="audit", image="bank/*")

    assert near_exceptions(alert(), found) == ()


def test_an_exceptions_expression_is_judged_by_itself(tmp_path):
    found = exemptions(
        tmp_path, user="root", condition="""'process.parent.name == "backup"'""", container="web"
    )
    [near] = near_exceptions(alert(), found)

    assert near.holds == ("user: root", "container: web")
    assert near.fails == ('condition: process.parent.name == "backup"',)


def test_knowledge_brings_the_rules_guide_and_says_which_exceptions_are_broken(tmp_path):
    (tmp_path / "broken.yml").write_text("exceptions: [{id: x}]\n")
    config = Config()
    config = type(config)(alerts=type(config.alerts)(exceptions=[str(tmp_path)]))
    report = Knowledge.load(config).report(alert(), None)

    assert "What to find out" in report.rule.guide
    assert any("Administrators" in each for each in report.rule.false_positives)
    assert [gap for gap in report.gaps if "1 exceptions are in error" in gap]


@pytest.mark.parametrize(
    "document", [{}, {"process": {}}, {"process": []}, {"event": {"module": "sensor"}}]
)
def test_what_is_no_alert_of_a_process_is_refused(document):
    with pytest.raises(SensorError, match="not an alert"):
        report_of(document)
