"""Who, how and where: the facts of an alert's document as lines to read."""

from __future__ import annotations

from typing import Any, Final

from sensor.alerts.alert import image_of
from sensor.alerts.escape import command_line
from sensor.alerts.fields import get, number, text, texts
from sensor.triage.model import Fact

_LABELS: Final = 64
_ENTRY_PROCESS: Final = "Entry process"
# Capabilities with which a process gets out of its container, or over the whole node.
STRONG_CAPABILITIES: Final = frozenset(
    (
        "ALL",
        "SYS_ADMIN",
        "SYS_MODULE",
        "SYS_PTRACE",
        "SYS_RAWIO",
        "DAC_READ_SEARCH",
        "BPF",
        "NET_ADMIN",
    )
)
# Sockets and directories of the host that are as good as the host itself.
_STRONG_MOUNTS: Final = (
    "/", "/etc", "/root", "/home", "/proc", "/sys", "/dev", "/boot", "/run", "/var/run", "/var/lib",
    "/var/lib/kubelet", "/var/lib/docker", "/run/docker.sock", "/var/run/docker.sock",
    "/run/containerd/containerd.sock", "/run/crio/crio.sock",
)  # fmt: skip


def strong_mounts(document: dict[str, Any]) -> list[str]:
    """The mounts that give the host away."""
    return [
        mount
        for mount in texts(document, "container.security_context.host_mounts")
        if (mount.split(":", 1)[0].rstrip("/") or "/") in _STRONG_MOUNTS
    ]


def strong_capabilities(document: dict[str, Any]) -> list[str]:
    """The added capabilities that are more than a container should have."""
    return [
        each
        for each in texts(document, "container.security_context.capabilities_added")
        if each.upper().removeprefix("CAP_") in STRONG_CAPABILITIES
    ]


def user_of(document: dict[str, Any]) -> str:
    """The effective user: `name (id)`, or whichever is known."""
    name, user_id = text(document, "user.name"), text(document, "user.id")
    if name and user_id:
        return f"{name} ({user_id})"
    return name or (f"uid {user_id}" if user_id else "")


def terminal_of(document: dict[str, Any]) -> str:
    """The controlling terminal in words; empty where there is none."""
    major = get(document, "process.tty.char_device.major")
    minor = number(document, "process.tty.char_device.minor")
    if not isinstance(major, int):
        return ""
    if 136 <= major <= 143:
        return f"pts/{(major - 136) * 256 + minor}"
    return f"tty{minor}" if major == 4 else f"terminal {major}:{minor}"


def entry_of(document: dict[str, Any]) -> str:
    """How whoever did this came in, as a sentence."""
    exec_into = get(document, "sensor.entered_by_exec")
    if exec_into is True:
        return "Started from outside in the running container, as by docker exec or kubectl exec"
    kind = text(document, "process.entry_leader.entry_meta.type")
    if exec_into is False:
        return "By the container's own first process or one of its descendants"
    sentences = {
        "container": "Through the container runtime: the container's start, or an exec into it",
        "sshd": "Through a login by SSH",
        "console": "Through a login at the console",
        "ssm": "Through a session of AWS Systems Manager",
        "init": "As a service of the machine",
    }
    return sentences.get(kind, "Not known: the recorded ancestors end before the entry")


def who_facts(document: dict[str, Any]) -> tuple[Fact, ...]:
    """The user, the way in, and the terminal."""
    real = text(document, "process.real_user.id")
    effective = text(document, "user.id")
    leader = tuple(texts(document, "process.entry_leader.args"))
    interactive = get(document, "process.interactive") is True
    terminal = terminal_of(document)
    rows = [
        ("User", user_of(document), False),
        ("Real user", f"uid {real}" if real and real != effective else "", True),
        ("Came in", entry_of(document), False),
        (_ENTRY_PROCESS, command_line(leader, 1024), False),
        (
            "Terminal",
            f"{terminal}: somebody may be typing"
            if interactive and terminal
            else terminal or "none",
            interactive,
        ),
    ]
    return tuple(
        Fact(label=label, values=(value,), warn=warn, prose=label != _ENTRY_PROCESS)
        for label, value, warn in rows
        if value
    )


def container_facts(document: dict[str, Any]) -> tuple[Fact, ...]:
    """The container, its image, what it may do, and its pod."""
    security = "container.security_context"
    facts: list[Fact] = []

    def add(label: str, *values: str, warn: bool = False) -> None:
        if present := tuple(value for value in values if value):
            facts.append(Fact(label=label, values=present, warn=warn))

    def mode(name: str) -> str:
        return text(document, f"{security}.{name}")

    add("Name", text(document, "container.name"))
    add("Id", text(document, "container.id"))
    add("Image", image_of(document))
    add("Digest", *texts(document, "container.image.hash.all"))
    add("Runtime", text(document, "container.runtime"))
    add("Created", text(document, "container.created"))
    restarts = get(document, "container.restart_count")
    if isinstance(restarts, int):
        add("Restarts", str(restarts), warn=restarts > 0)
    add("Command", command_line(texts(document, "container.command"), 1024))
    privileged = get(document, f"{security}.privileged")
    if isinstance(privileged, bool):
        add("Privileged", "yes" if privileged else "no", warn=privileged)
    add(
        "Added capabilities",
        *texts(document, f"{security}.capabilities_added"),
        warn=bool(strong_capabilities(document)),
    )
    add("Network", mode("network_mode"), warn=mode("network_mode") == "host")
    add("Addresses", *texts(document, "container.ip"))
    add("Process namespace", mode("pid_mode"), warn=mode("pid_mode") == "host")
    add("Mounts", *texts(document, f"{security}.mounts"), warn=bool(strong_mounts(document)))
    labels = get(document, "container.labels")
    if isinstance(labels, dict):
        add("Labels", *(f"{key}={value}" for key, value in list(labels.items())[:_LABELS]))
    add("Inside of", text(document, "container.outer.name") or text(document, "container.outer.id"))
    facts += _pod_facts(document)
    state = text(document, "container.resolution.state")
    if state and state != "resolved":
        reason = text(document, "container.resolution.reason") or state
        add("Not known", f"what the engine says of it: {reason}", warn=True)
    return tuple(facts)


def _pod_facts(document: dict[str, Any]) -> list[Fact]:
    resource = "orchestrator.resource"
    owner = " ".join(
        part
        for part in (
            text(document, f"{resource}.parent.type"),
            text(document, f"{resource}.parent.name"),
        )
        if part
    )
    rows = {
        "Cluster": (text(document, "orchestrator.cluster.name"),),
        "Namespace": (text(document, "orchestrator.namespace"),),
        "Pod": (text(document, f"{resource}.name"),),
        "Workload": (owner,),
        "Pod labels": tuple(texts(document, f"{resource}.label")[:_LABELS]),
    }
    return [Fact(label=label, values=values) for label, values in rows.items() if any(values)]
