"""Alerts as the pipeline makes them, with ancestors and recent activity, for the triage of them."""

from __future__ import annotations

from typing import Any

from events import CONTAINER_ID, HOST, exec_event, process

from sensor.alerts.alert import alert_document
from sensor.ecs import ancestry, event_document, recent_activity
from sensor.event import RecentExec
from sensor.rules.rule import Rule, Subtechnique, Tactic, Technique, Threat

SECOND_NS = 1_000_000_000
START_NS = 123_456_789  # of the match, since boot
RULE = Rule(
    id="f9e6f8b3-ea99-4e2f-b549-5cfc99311ea5",
    name="AWS Credentials Searched For Inside A Container",
    query_text="process where true",
    path="rule.yml",
    format="yaml",
    description="Somebody searched for keys.",
    references=("https://attack.mitre.org/techniques/T1552/001/", "javascript:alert(1)"),
    tags=("Domain: Container",),
    threat=(
        Threat(
            tactic=Tactic(id="TA0006", name="Credential Access"),
            technique=(
                Technique(
                    id="T1552",
                    name="Unsecured Credentials",
                    subtechnique=(Subtechnique(id="T1552.001", name="Credentials In Files"),),
                ),
            ),
        ),
    ),
)


def alert(*args: str, word: str = "", **blocks: Any) -> dict[str, Any]:
    """An alert: shim, then a shell that came in by exec, then grep.

    `word` is put into everything a container's author or an attacker may choose. `blocks` replace what
    is in the document under their name.
    """
    argv = args or ("grep", "-r", "aws_secret_access_key", f"/srv{word}")
    shell = process(
        pid=90,
        start_ns=START_NS - SECOND_NS,
        name=f"bash{word}",
        executable="/bin/bash",
        args=("bash", f"-x{word}"),
        session_id=90,
        group_id=90,
        tty=(136, 3),
        mnt_ns=2,
        pid_ns=2,
    )
    shim = process(
        pid=50,
        start_ns=1,
        name="containerd-shim",
        executable="/usr/bin/containerd-shim-runc-v2",
        args=("containerd-shim-runc-v2", "-namespace", "moby"),
        session_id=50,
        mnt_ns=7,
        pid_ns=7,
    )
    subject = process(
        pid=100,
        start_ns=START_NS,
        args=argv,
        name=f"grep{word}",
        executable=f"/usr/bin/grep{word}",
        session_id=90,
        group_id=100,
        tty=(136, 3),
        mnt_ns=2,
        pid_ns=2,
        working_directory=f"/srv{word}",
    )
    event = exec_event(subject, ancestors=(shell, shim), session_leader=shell)
    document = event_document(
        event,
        HOST,
        {
            "container": {
                "id": CONTAINER_ID,
                "name": f"web{word}",
                "runtime": "docker",
                "created": "2023-11-14T22:13:00.000Z",
                "image": {
                    "name": f"shop/web{word}",
                    "tag": ["1.4.2"],
                    "hash": {"all": ["sha256:12"]},
                },
                "labels": {f"com.example.service{word}": f"checkout{word}"},
                "command": ["nginx", f"-g{word}"],
                "identity": {"state": "container", "reason": "cgroup_path"},
                "resolution": {"state": "resolved", "source": "docker"},
                "security_context": {
                    "privileged": False,
                    "network_mode": "bridge",
                    "mounts": [f"web{word}:/data:rw"],
                },
            }
        },
        1,
    )
    document["sensor"]["entered_by_exec"] = True
    document["sensor"]["ancestors"] = ancestry(event, HOST)
    before = START_NS - SECOND_NS // 2
    execs = (
        recent(before, 95, 90, ("id", f"-u{word}")),
        recent(before + 1000, 96, 95, ("true",)),
        recent(before + 2000, 400, 333, ("ls", f"/root{word}")),
        recent(START_NS, 100, 90, argv),
    )
    document["sensor"]["recent_activity"] = recent_activity(execs, HOST)
    return alert_document((document | blocks,), RULE)


def recent(boottime_ns: int, pid: int, ppid: int, args: tuple[str, ...]) -> RecentExec:
    return RecentExec(
        boottime_ns=boottime_ns, pid=pid, ppid=ppid, uid=0, args=args, args_truncated=False
    )


def with_(document: dict[str, Any], field: str, value: Any) -> dict[str, Any]:
    """A copy of the document with one field set."""
    outer, _, rest = field.partition(".")
    inner = with_(document.get(outer) or {}, rest, value) if rest else value
    return document | {outer: inner}
