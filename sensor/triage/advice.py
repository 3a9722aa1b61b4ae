"""What it may mean and what to do about it: a document in, sentences and commands of our own out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from sensor.alerts.escape import shell_quote, visible
from sensor.alerts.fields import get, text, texts
from sensor.triage.container import strong_mounts, user_of
from sensor.triage.model import Step
from sensor.triage.timeline import time_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sensor.triage.facts import Facts

_HEXADECIMAL = re.compile(r"[0-9a-f]{12,64}", re.ASCII)
_DOCKER_LIKE: Final = ("docker", "podman")

# By MITRE ATT&CK's tactics: what is at stake when the alert is true.
_STAKES: Final = {
    "TA0001": "Somebody may have got into the workload from outside; what it exposes is the way in.",
    "TA0002": "Code that is not the workload's own may be running with all the workload's rights.",
    "TA0003": "It may come back after a restart: look at what was written to volumes and the image.",
    "TA0004": "The attempt aims at more rights, up to root on the node and every workload on it.",
    "TA0005": "Traces may be missing or wrong; trust what was recorded outside of the container.",
    "TA0006": "Keys and passwords that the container can read may be known to somebody else by now: "
    "those in its environment, its files, its mounts, and what the cloud's metadata service gives it.",
    "TA0007": "Somebody is finding out what there is; what follows is usually a search for keys.",
    "TA0008": "Other workloads and machines that this one can reach may be next.",
    "TA0009": "Data the workload can read may have been gathered to be taken away.",
    "TA0010": "Data may be leaving; what the workload can read and reach has to be taken as read.",
    "TA0011": "Somebody may be in control from outside, and the connection may still be open.",
    "TA0040": "Data or service may be destroyed or held to ransom; see to the backups.",
    "TA0042": "Tools are being made ready for something that has not happened yet.",
    "TA0043": "Somebody is looking for ways in.",
}


def impact(document: dict[str, Any]) -> tuple[str, ...]:
    """What is likely at stake, most important first."""
    return tuple(_impact(document))


def _impact(document: dict[str, Any]) -> Iterator[str]:
    for tactic in texts(document, "threat.tactic.id"):
        if stake := _STAKES.get(tactic):
            yield stake
    in_container = bool(text(document, "container.id"))
    if not in_container:
        yield "It ran on the machine itself, not in a container: everything on the node is in reach."
        return
    security = "container.security_context"
    if get(document, f"{security}.privileged") is True:
        yield "The container is privileged: it can take over the node, and with it every workload there."
    elif strong_mounts(document):
        yield "What the container sees of the host is enough to take over the node."
    if get(document, f"{security}.pid_mode") == "host":
        yield "It sees the processes of the whole node, with what stands in their environments."
    if get(document, f"{security}.network_mode") == "host":
        yield "It is on the node's own network: services that listen on loopback only are in reach."
    if text(document, "user.id") == "0":
        yield "It ran as root: every file of the container can be read and changed."
    elif user := user_of(document):
        yield f"It ran as {user}: what that user may read in the container is in reach, no more."
    if text(document, "orchestrator.resource.name"):
        yield "The pod's service account token, where one is mounted, speaks for it at the cluster's API."


def steps(document: dict[str, Any], facts: Facts) -> tuple[Step, ...]:
    """What to do, in order. Commands hold only quoted values."""
    return tuple(_steps(document, facts))


def _steps(document: dict[str, Any], facts: Facts) -> Iterator[Step]:
    alert = _quoted(text(document, "event.id"))
    container_id = text(document, "container.id")
    known = bool(_HEXADECIMAL.fullmatch(container_id))
    short = container_id[:12] if known else ""
    yield _who(document)
    if known:
        yield Step(
            title="Look at the container before it changes",
            detail="Its state, what it wrote since it started, and what it said.",
            commands=_look(document, short),
        )
    if "TA0006" in texts(document, "threat.tactic.id"):
        yield Step(
            title="Revoke the keys it could reach, and issue new ones",
            detail="First of all if this was no friend: isolation does not take back a key that was "
            "read. Then look in the cloud's audit log for calls with them from unusual addresses.",
        )
    if known:
        yield Step(
            title="Isolate it, if this was no friend",
            detail="Each says what it will do and asks first. A paused container keeps its memory for "
            "examination; a disconnected one keeps running without a network.",
            commands=(
                f"sensor respond {alert} --action pause --dry-run",
                f"sensor respond {alert} --action disconnect --dry-run",
            ),
        )
    yield Step(
        title="Close the way in",
        detail="The flaw in the application, the leaked login, the exposed socket; then start the "
        "workload anew from an image you trust.",
    )
    recurs = facts.similar is not None and facts.similar.alerts + facts.similar.hidden > 1
    yield Step(
        title="If it is known and harmless, say so once",
        detail="An exception with a reason, an owner and an end keeps exactly this quiet"
        + (", and this one recurs." if recurs else "."),
        commands=(f"sensor alerts show {alert} --output json | sensor exceptions suggest -",),
    )


def _who(document: dict[str, Any]) -> Step:
    pod, namespace = (
        text(document, "orchestrator.resource.name"),
        text(document, "orchestrator.namespace"),
    )
    entered = get(document, "sensor.entered_by_exec")
    time = text(document, "@timestamp")
    if pod and entered is not False:
        where = f"{namespace}/{pod}" if namespace else pod
        return Step(
            title="Find out who it was",
            detail=f"In the cluster's audit log: a request for pods/exec on {visible(where, 200)} "
            f"shortly before {visible(time, 40)}.",
        )
    if entered is True:
        return Step(
            title="Find out who it was",
            detail="Who may use the engine's socket, and who was logged in at the time. The engine "
            "remembers the exec, not its author.",
            commands=(*_engine_events(document), "last -F -n 20"),
        )
    return Step(
        title="Find out what made the workload do it",
        detail="Read the script or program above it in the tree, and the workload's own log of the "
        "same moment: a request, a job, a deployment.",
    )


def _engine_events(document: dict[str, Any]) -> tuple[str, ...]:
    container_id, runtime = text(document, "container.id"), text(document, "container.runtime")
    time = time_of(text(document, "@timestamp"))
    if time is None or runtime not in _DOCKER_LIKE or not _HEXADECIMAL.fullmatch(container_id):
        return ()
    span = f"--since {int(time) - 60} --until {int(time) + 60}"
    return (f"{runtime} events {span} --filter container={container_id[:12]}",)


def _look(document: dict[str, Any], short: str) -> tuple[str, ...]:
    if text(document, "container.runtime") in _DOCKER_LIKE:
        tool = text(document, "container.runtime")
        return (
            f"{tool} inspect {short}",
            f"{tool} diff {short}",
            f"{tool} logs --timestamps --tail 200 {short}",
        )
    return (f"crictl inspect {short}", f"crictl logs --timestamps --tail 200 {short}")


def _quoted(value: str) -> str:
    return shell_quote(value[:128]) if value else "ALERT"
