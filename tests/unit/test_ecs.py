"""Documents: ECS's names and types, and the leaders as Elastic tells them."""

from __future__ import annotations

import base64
import dataclasses
import errno
from typing import Any

import pytest
from events import HOST, exec_event, process

from sensor.ecs import ancestry, event_document, matching_view, timestamp
from sensor.event import Failure, Namespaces

CONTAINER: dict[str, Any] = {"container": {"id": "abc"}}


def document(*args: Any, place: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    return event_document(exec_event(*args, **fields), HOST, place or CONTAINER, 1)


def test_the_fields_a_rule_reads_have_ecs_types() -> None:
    made = document()
    assert made["@timestamp"] == "2023-11-14T22:13:20.123456Z"
    assert made["event"]["category"] == ["process"]
    assert made["event"]["type"] == ["start"]
    assert made["event"]["action"] == "exec"
    assert made["event"]["module"] == "cloud_defend"
    assert made["host"]["os"]["type"] == "linux"
    assert made["process"]["args"] == ["grep", "-r", "needle"]
    assert made["process"]["args_count"] == 3
    assert made["process"]["command_line"] == "grep -r needle"
    assert made["user"] == {"id": "0", "name": "root"}


def test_what_is_not_known_is_left_out() -> None:
    subject = process(args=None, executable=None)
    made = document(subject, args=None, args_read_error=True)
    assert not {"args", "args_count", "command_line", "executable", "parent"} & set(made["process"])
    assert made["sensor"]["args_read_error"] is True


def test_an_exec_that_failed_starts_no_process_and_says_why() -> None:
    failure = Failure(error=errno.EACCES, executable="/usr/bin/dash", args=("sh", "-c", "x"))
    found = event_document(exec_event(failure=failure), HOST, {}, 1)
    assert (found["event"]["type"], found["event"]["outcome"]) == (["info"], "failure")
    assert found["event"]["action"] == "exec"
    assert found["error"] == {"code": "EACCES", "message": "Permission denied"}
    assert found["process"]["previous"] == {
        "executable": "/usr/bin/dash",
        "args": ["sh", "-c", "x"],
        "args_count": 3,
    }
    assert found["process"]["executable"] == "/usr/bin/grep"
    succeeded = event_document(exec_event(), HOST, {}, 1)
    assert (succeeded["event"]["type"], succeeded["event"]["outcome"]) == (["start"], "success")
    assert "error" not in succeeded
    assert "previous" not in succeeded["process"]


def test_of_a_failed_exec_what_is_not_known_is_left_out() -> None:
    failure = Failure(error=4242, executable=None, args=None)
    event = exec_event(failure=failure, filename="", args_truncated=True)
    found = event_document(event, HOST, {}, 1)
    assert found["error"]["code"] == "4242"
    assert "previous" not in found["process"]
    assert {"filename", "args_bytes"}.isdisjoint(found["sensor"])


def test_an_entity_keeps_its_id_and_another_start_is_another_entity() -> None:
    subject = process()
    assert HOST.entity_id(subject) == HOST.entity_id(dataclasses.replace(subject, name="sh"))
    assert HOST.entity_id(subject) != HOST.entity_id(dataclasses.replace(subject, start_ns=6))
    assert HOST.entity_id(subject) != HOST.entity_id(dataclasses.replace(subject, pid=101))


def test_two_execs_of_one_process_are_two_events_of_one_entity() -> None:
    first, second = document(), document(time_ns=1_700_000_000_999_999_999)
    assert first["process"]["entity_id"] == second["process"]["entity_id"]
    assert first["event"]["id"] != second["event"]["id"]


def test_a_users_name_in_a_container_is_not_guessed_from_the_host() -> None:
    assert document(process(uid=1))["user"] == {"id": "1"}
    assert document(process(uid=1), place={"container": {}})["user"]["name"] == "daemon"


def test_bytes_that_are_no_text_can_be_recovered() -> None:
    made = document(process(args=("grep", "\udcffx")))
    assert base64.b64decode(made["sensor"]["args_base64"][1]) == b"\xffx"
    assert "args_base64" not in document()["sensor"]


SHIM = {
    "pid": 50,
    "name": "containerd-shim",
    "executable": "/usr/bin/containerd-shim-runc-v2",
    "mnt_ns": 9,
}
BASH = {"pid": 90, "name": "bash", "executable": "/usr/bin/bash", "session_id": 90}


def test_the_entry_into_a_container_is_the_session_leader_below_the_shim() -> None:
    made = document(ancestors=(process(**BASH), process(**SHIM)))["process"]
    assert made["entry_leader"]["pid"] == 90
    assert made["entry_leader"]["entry_meta"]["type"] == "container"
    assert made["entry_leader"]["same_as_process"] is False
    assert made["parent"]["name"] == "bash"


def test_a_process_can_be_its_own_entry() -> None:
    made = document(process(session_id=100), ancestors=(process(**SHIM),))["process"]
    assert made["entry_leader"]["same_as_process"] is True
    assert made["session_leader"]["same_as_process"] is True
    assert "same_as_process" not in made


@pytest.mark.parametrize(
    ("parent", "kind"),
    [
        ({"pid": 5, "name": "sshd", "executable": "/usr/sbin/sshd"}, "sshd"),
        ({"pid": 1, "name": "systemd", "executable": "/usr/lib/systemd/systemd"}, "init"),
        ({"pid": 5, "name": "login", "executable": "/usr/bin/login"}, "console"),
        ({"pid": 5, "name": "conmon", "executable": "/usr/bin/conmon", "mnt_ns": 9}, "container"),
    ],
)
def test_how_somebody_came_in(parent: dict[str, Any], kind: str) -> None:
    made = document(process(session_id=100), ancestors=(process(**parent),))["process"]
    assert made["entry_leader"]["entry_meta"]["type"] == kind


ENDING = {"pid": 60, "name": "runc", "executable": None, "mnt_ns": None}


@pytest.mark.parametrize(
    ("name", "mnt_ns", "ancestors", "is_entry"),
    [
        ("runc", 9, [SHIM], False),
        ("unpigz", 9, [SHIM], False),
        ("runc", None, [SHIM], False),
        ("bash", None, [SHIM], True),
        # the parent has ended, and its namespaces with it
        ("runc", 9, [ENDING, SHIM], False),
        ("runc", 1, [ENDING, SHIM], True),
        # in a container a name is no excuse
        ("runc", 1, [SHIM], True),
        ("pause", 1, [SHIM], True),
    ],
)
def test_a_runtimes_own_helper_is_no_entry(
    name: str, mnt_ns: int | None, ancestors: list[dict[str, Any]], is_entry: bool
) -> None:
    subject = process(name=name, executable=f"/usr/sbin/{name}", session_id=100, mnt_ns=mnt_ns)
    made = document(subject, ancestors=tuple(process(**fields) for fields in ancestors))
    assert ("entry_leader" in made["process"]) is is_entry


def test_who_calls_its_parent_runc_inside_a_container_makes_no_entry() -> None:
    fake = process(pid=60, name="runc", executable="/tmp/runc")
    made = document(process(session_id=100), ancestors=(fake,))
    assert "entry_leader" not in made["process"]


def test_where_the_ancestors_end_too_early_no_entry_is_invented() -> None:
    made = document(process(), ancestors=(process(pid=60, session_id=90),))["process"]
    assert "entry_leader" not in made


@pytest.mark.parametrize(
    ("tty", "interactive"), [(None, False), ((136, 3), True), ((4, 1), True), ((188, 0), False)]
)
def test_interactive_is_a_terminal_a_person_types_at(
    tty: tuple[int, int] | None, interactive: bool
) -> None:
    assert document(process(tty=tty))["process"]["interactive"] is interactive


def test_rules_see_all_names_and_the_document_keeps_one() -> None:
    made = document(process(name="lnk"), filename="/tmp/lnk")
    view = matching_view(made)
    assert view["process"]["name"] == ["lnk", "grep"]
    assert made["process"]["name"] == "lnk"


@pytest.mark.parametrize(
    "odd", [{}, {"process": 3}, {"process": {"name": "x"}}, {"process": {"name": ["a"]}}]
)
def test_a_foreign_document_is_viewed_as_it_is(odd: dict[str, Any]) -> None:
    assert matching_view(odd) == odd


def test_time_has_microseconds_and_is_utc() -> None:
    assert timestamp(1_000) == "1970-01-01T00:00:00.000001Z"


def test_ancestors_say_on_which_side_of_the_containers_border_they_are() -> None:
    subject = process(pid_ns=5, mnt_ns=6)
    shell = process(pid=90, name="bash", pid_ns=5, mnt_ns=6, args=("bash",), args_truncated=True)
    shim = process(pid=50, name="containerd-shim", pid_ns=1, mnt_ns=2)
    blocks = ancestry(exec_event(subject, ancestors=(shell, shim)), HOST)

    assert [(each["name"], each["in_container"]) for each in blocks] == [
        ("bash", True),
        ("containerd-shim", False),
    ]
    assert [each.get("args_truncated") for each in blocks] == [True, None]


@pytest.mark.parametrize(
    ("pid_is_host", "mnt_is_host", "inside"),
    [(True, False, True), (False, True, True), (True, True, None)],
)
def test_with_namespaces_of_the_hosts_the_others_tell(
    pid_is_host: bool, mnt_is_host: bool, inside: bool | None
) -> None:
    """A process that is the container's own, in a container with some of the host's namespaces."""
    own = Namespaces(pid=5, mnt=6, pid_is_host=pid_is_host, mnt_is_host=mnt_is_host)
    subject, shell = process(pid_ns=5, mnt_ns=6), process(pid=90, pid_ns=5, mnt_ns=6)
    [block] = ancestry(exec_event(subject, ancestors=(shell,), namespaces=own), HOST)

    assert block.get("in_container") is inside
