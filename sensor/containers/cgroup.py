"""One cgroup line or path in, the container it names out.

`identify` is pure and total: it reads nothing but its argument and raises for no string. It takes a
line of /proc/PID/cgroup (`11:pids:/docker/<id>`) or the bare path the kernel side hands over.

The path is walked from the leaf up, because a container may have cgroups of its own below it
(systemd in a container, crun's `/container`), and the innermost container is the one the process is
in. Whatever does not have the exact shape an engine gives its cgroups is no container: a wrong id
is worse than none, since `identity.py` can still say "unknown" from the namespaces.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_OUTER_IDS: Final = 8
MAX_NAME: Final = 255  # NAME_MAX: no directory of a cgroup filesystem can have a longer name

# `ctr` and BuildKit name cgroups /<containerd namespace>/<any name>, which looks like any directory
# somebody made by hand. Only namespaces known to be containerd's are believed.
CONTAINERD_NAMESPACES: Final = frozenset({"buildkit", "default", "k8s.io", "moby"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupIdentity:
    """What a cgroup path says by itself.

    `container_id` is the innermost container (a name where the engine has no ids: LXC, nspawn,
    `ctr`), None on the host. `outer_ids` are the containers around it, nearest first, the outermost
    always kept. `pod_uid` has dashes whatever the driver wrote; `qos_class` is spelled as the
    Kubernetes API does. `is_helper`: the engine's own process for a container (conmon, lxc.monitor),
    outside of it. `unit` is the innermost systemd service or scope that is no container's.
    """

    container_id: str | None = None
    runtime: str | None = None
    outer_ids: tuple[str, ...] = ()
    pod_uid: str | None = None
    qos_class: str | None = None
    is_helper: bool = False
    unit: str | None = None


HOST: Final = CgroupIdentity()

_LINE = re.compile(r"[0-9]+:[^/]*?:(?=/)")
_ID = re.compile(r"[0-9a-f]{64}")
_DELETED = " (deleted)"  # appended by /proc/PID/cgroup once the directory is gone

# <prefix><64 hex>.scope is systemd's; without .scope it is a directory of the cgroupfs driver.
_SCOPE = re.compile(
    r"(docker|cri-containerd|crio|libpod|libpod-payload|nerdctl|containerd|podman)"
    r"-([0-9a-f]{64})\.scope"
)
_DIRECTORY = re.compile(r"(crio|libpod|libpod-payload)-([0-9a-f]{64})")
_BUILDKIT_SCOPE = re.compile(r"(?:docker|buildkit)-([0-9a-z]{25})\.scope")
_BUILDKIT = re.compile(r"[0-9a-z]{25}")
# A parent ending in .slice given to the cgroupfs driver stays as written: slice:prefix:name.
_COLON = re.compile(r"([^:]*):(docker|cri-containerd|crio|libpod|nerdctl):([0-9a-f]{64})")
_FARGATE = re.compile(r"[0-9a-f]{32}-[0-9]{5,20}")
_GARDEN = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){4}(?:[0-9a-f]{8})?")
_CONTAINERD_NAME = re.compile(r"(?=.{1,76}\Z)[A-Za-z0-9]+(?:[._-]+[A-Za-z0-9]+)*")
_NSPAWN = re.compile(r"systemd-nspawn@(.+)\.service")
_MACHINE = re.compile(r"machine-(.+)\.scope")
_UNITS = (".service", ".scope")
_UNIT_SUFFIXES = (".service", ".slice", ".scope", ".mount", ".socket", ".swap")

_SHORTEST_ID = 25  # BuildKit's; every other shape that has no dot is longer
_NAMING = frozenset({"lxc", "lxc.payload", "lxc.monitor", "lxc.pivot"})

_HELPER = re.compile(
    r"(?:crio-conmon|libpod-conmon|conmon)-[0-9a-f]{64}(?:\.scope)?|lxc\.(?:monitor|pivot)(?:\..+)?"
)

_POD_SLICE = re.compile(
    r"(?:.+-)?kubepods(?:-(?P<qos>burstable|besteffort))?-pod(?P<uid>[0-9a-f_]{32,36})\.slice"
)
_POD_DIRECTORY = re.compile(r"pod([0-9a-f-]{32,36})")
_UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32}")
_QOS = {"burstable": "Burstable", "besteffort": "BestEffort", None: "Guaranteed"}

_RUNTIME = {
    "docker": "docker",
    "cri-containerd": "containerd",
    "containerd": "containerd",
    "nerdctl": "containerd",
    "crio": "cri-o",
    "libpod": "podman",
    "libpod-payload": "podman",
    "podman": "podman",
}
# Who makes a bare 64-hex directory is told by the one it stands in; a custom --cgroup-parent of
# Docker's tells nothing, and then the runtime is not known.
_RUNTIME_OF_PARENT = {
    "docker": "docker",
    "actions_job": "docker",
    "libpod_parent": "podman",
    "k8s.io": "containerd",
    "default": "containerd",
    "moby": "docker",
    "buildkit": "buildkit",
}


def identify(
    line_or_path: str,
    *,
    rooted: bool = True,
    containerd_namespaces: frozenset[str] = CONTAINERD_NAMESPACES,
) -> CgroupIdentity:
    """Say which container a cgroup line or path is of; never raises.

    `rooted=False` is for a path whose beginning is missing: then nothing that has to stand at the
    root of the hierarchy (the names `ctr` gives) is believed.
    """
    path = line_or_path.removesuffix("\n")
    line = _LINE.match(path)
    if line is not None:
        path = path[line.end() :]
    parts = [part for part in path.removesuffix(_DELETED).split("/") if part]
    found = _containers(parts, containerd_namespaces if rooted else frozenset())
    innermost = next(found, None)
    if innermost is None:
        pod_uid, qos = _pod(parts)
        return CgroupIdentity(
            pod_uid=pod_uid,
            qos_class=qos,
            is_helper=any(_is_helper(parts, i) for i in range(len(parts))),
            unit=next((part for part in reversed(parts) if part.endswith(_UNITS)), None),
        )
    index, container_id, runtime = innermost
    # Only what lies above the container is the engine's word: below it, whoever runs inside may
    # have made directories named like a pod.
    above = parts[:index]
    colon = _COLON.fullmatch(parts[index])
    pod_uid, qos = _pod([*above, colon[1]] if colon else above)
    return CgroupIdentity(
        container_id=container_id,
        runtime=runtime,
        outer_ids=_bounded([outer for _, outer, _ in found]),
        pod_uid=pod_uid,
        qos_class=qos,
    )


def _containers(
    parts: list[str], containerd_namespaces: frozenset[str]
) -> Iterator[tuple[int, str, str | None]]:
    """Yield (index, id, runtime) for each container on the path, the innermost first."""
    ancestors = _AncestorNames(parts)
    for index in range(len(parts) - 1, -1, -1):
        found = _container(parts, index, ancestors, containerd_namespaces)
        if found is not None:
            yield index, *found


class _AncestorNames:
    """Where `garden` and `ecs` first stand, so that asking "is it below?" costs nothing."""

    __slots__ = ("ecs", "garden")

    def __init__(self, parts: list[str]) -> None:
        self.garden = parts.index("garden") if "garden" in parts else len(parts)
        self.ecs = parts.index("ecs") if "ecs" in parts else len(parts)


def _container(
    parts: list[str], index: int, ancestors: _AncestorNames, containerd_namespaces: frozenset[str]
) -> tuple[str, str | None] | None:
    part = parts[index]
    parent = parts[index - 1] if index else ""
    may_have_a_name = parent in _NAMING or (index == 1 and parent in containerd_namespaces)
    if len(part) > MAX_NAME or not (may_have_a_name or _is_remarkable(part)):
        return None
    if _is_helper(parts, index):
        return None
    if _ID.fullmatch(part):
        return part, _runtime_of(parent, below_ecs=index > ancestors.ecs)
    match = _SCOPE.fullmatch(part) or _DIRECTORY.fullmatch(part)
    if match is not None:
        return match[2], _RUNTIME[match[1]]
    match = _COLON.fullmatch(part)
    if match is not None:
        return match[3], _RUNTIME[match[2]]
    match = _BUILDKIT_SCOPE.fullmatch(part)
    if match is not None:
        return match[1], "buildkit"
    if parent == "buildkit" and _BUILDKIT.fullmatch(part):
        return part, "buildkit"
    if index > ancestors.ecs and _FARGATE.fullmatch(part):
        return part, "ecs"
    if index > ancestors.garden and _GARDEN.fullmatch(part):
        return part, "garden"
    return _named(part, parent) or (
        (part, _RUNTIME_OF_PARENT.get(parent, "containerd"))
        if index == 1 and parent in containerd_namespaces and _is_containerd_name(part)
        else None
    )


def _is_remarkable(part: str) -> bool:
    """Pass over, cheaply, what can be neither container nor helper nor unit: most of a path."""
    return len(part) >= _SHORTEST_ID or "." in part


def _named(part: str, parent: str) -> tuple[str, str] | None:
    """Engines whose containers have names: LXC, libvirt's LXC driver, systemd-nspawn."""
    if part.startswith("lxc.payload."):
        return _name(part.removeprefix("lxc.payload."), "lxc")
    if parent in ("lxc", "lxc.payload"):
        return _name(part, "lxc")
    if part.endswith(".libvirt-lxc"):
        return _name(part.removesuffix(".libvirt-lxc"), "libvirt-lxc")
    match = _NSPAWN.fullmatch(part)
    if match is not None:
        return _name(match[1], "systemd-nspawn")
    match = _MACHINE.fullmatch(part) if parent == "machine.slice" else None
    if match is None or match[1].startswith("qemu\\x2d"):  # a virtual machine's own process
        return None
    if match[1].startswith("lxc\\x2d"):
        return _name(match[1].removeprefix("lxc\\x2d"), "libvirt-lxc")
    return _name(match[1], "systemd-nspawn")


def _name(name: str, runtime: str) -> tuple[str, str] | None:
    """Accept a name only if it prints as itself: it ends up in alerts and on terminals."""
    return (name, runtime) if name and name == name.strip() and name.isprintable() else None


def _is_containerd_name(part: str) -> bool:
    return _CONTAINERD_NAME.fullmatch(part) is not None and not part.endswith(_UNIT_SUFFIXES)


def _runtime_of(parent: str, *, below_ecs: bool) -> str | None:
    # Below a pod, containerd and Docker behind cri-dockerd write the same path; containerd is what
    # nodes run since Kubernetes 1.24, and a source that knows the container corrects it.
    if _POD_DIRECTORY.fullmatch(parent) or _POD_SLICE.fullmatch(parent):
        return "containerd"
    return "docker" if below_ecs else _RUNTIME_OF_PARENT.get(parent)


def _is_helper(parts: list[str], index: int) -> bool:
    """Tell an engine's helper beside a container from the container."""
    part = parts[index]
    if _is_remarkable(part) and _HELPER.fullmatch(part):
        return True
    if index and parts[index - 1] in ("lxc.monitor", "lxc.pivot"):
        return True
    # systemd-nspawn itself sits beside the payload, below the same unit.
    return (
        index == len(parts) - 2
        and parts[-1] == "supervisor"
        and (_NSPAWN.fullmatch(part) is not None or _MACHINE.fullmatch(part) is not None)
    )


def _pod(parts: list[str]) -> tuple[str | None, str | None]:
    """Return (uid, QoS class) of the innermost pod on the path."""
    for index in range(len(parts) - 1, -1, -1):
        part = parts[index]
        if "pod" not in part:
            continue
        match = _POD_SLICE.fullmatch(part)
        if match is not None:
            uid = match["uid"].replace("_", "-")
            if _UID.fullmatch(uid):
                return uid, _QOS[match["qos"]]
        match = _POD_DIRECTORY.fullmatch(part)
        if match is not None and _UID.fullmatch(match[1]):
            parent = parts[index - 1] if index else ""
            grandparent = parts[index - 2] if index > 1 else ""
            if parent == "kubepods":
                return match[1], _QOS[None]
            if grandparent == "kubepods" and parent in _QOS:
                return match[1], _QOS[parent]
    return None, None


def _bounded(outer: list[str]) -> tuple[str, ...]:
    # The outermost id is the one the host's own engine gave, so it is never the one cut off:
    # a container that may make cgroups could otherwise push it out.
    if len(outer) > MAX_OUTER_IDS:
        outer = [*outer[: MAX_OUTER_IDS - 1], outer[-1]]
    return tuple(outer)
