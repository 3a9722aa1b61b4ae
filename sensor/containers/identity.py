"""The kernel's record of one process in, one of three answers out: container, host or unknown.

"Host" is claimed only positively: the namespaces of pid 1 and no container on the cgroup's path.
Everything that could not be read, and everything that looks contained without a container's cgroup,
is "unknown" with the reason. Nothing is read from /proc: a process that lived 5 ms is gone from it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from sensor.containers.cgroup import CgroupIdentity, identify

if TYPE_CHECKING:
    from collections.abc import Callable

    from sensor.containers.container import Container
    from sensor.event import Cgroup, Namespaces

State = Literal["container", "host", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Where a process runs.

    `state` is "container" exactly when `container_id` is set. `reason` and `source` are short fixed
    words, fit for a rule: the source is "cgroup" (the first hierarchy given, v2's where there is
    one), "cgroup_v1" (a later one), "namespaces" or "none". `host_namespaces`: in a container's
    cgroup, but in the host's mount namespace, as `nsenter` and a runtime's own set-up are.
    `foreign_namespaces`: not in the host's pid namespace. `conflicting_ids`: what other hierarchies
    say. `claimed_id`: a nested id that was not believed (see `confirm`).
    """

    state: State
    reason: str
    source: str
    container_id: str | None = None
    runtime: str | None = None
    outer_ids: tuple[str, ...] = ()
    pod_uid: str | None = None
    qos_class: str | None = None
    is_helper: bool = False
    host_namespaces: bool = False
    foreign_namespaces: bool = False
    conflicting_ids: tuple[str, ...] = ()
    truncated: bool = False
    claimed_id: str | None = None


NOTHING_READ: Final = Identity(state="unknown", reason="cgroup_not_read", source="none")


def resolve_identity(cgroups: tuple[Cgroup, ...], namespaces: Namespaces | None) -> Identity:
    """Decide from what the kernel recorded at exec; reads nothing else and never raises.

    The first hierarchy that names a container wins, because a hybrid host may keep a container in
    some hierarchies only.
    """
    said = [identify(cgroup.path, rooted=not cgroup.truncated) for cgroup in cgroups]
    truncated = any(cgroup.truncated for cgroup in cgroups)
    for index, found in enumerate(said):
        if found.container_id is not None:
            return _container(index, found, said, namespaces, truncated=truncated)
    if not cgroups:
        foreign = namespaces is not None and not namespaces.pid_is_host
        return replace(NOTHING_READ, foreign_namespaces=foreign)
    return _no_container(said, namespaces, truncated=truncated)


def confirm(identity: Identity, known: Callable[[str], Container | None]) -> Identity:
    """Refuse a nested id that only borrows the name of another container.

    Who is root in a container with a writable cgroup tree can make `docker/<id of a neighbour>`
    below the own cgroup, and would be taken for the neighbour. An engine puts no container of its
    own below another one unless told to by a cgroup parent; so where one source knows both and the
    parent does not say so, the process is in the outer container. `known` answers at once from what
    is known now.
    """
    if identity.container_id is None or not identity.outer_ids:
        return identity
    inner = known(identity.container_id)
    if inner is None:
        return identity
    for index, outer_id in enumerate(identity.outer_ids):
        outer = known(outer_id)
        if outer is None or outer.source != inner.source:
            continue
        if outer_id in (inner.cgroup_parent or ""):
            return identity
        return replace(
            identity,
            reason="nesting_not_confirmed",
            container_id=outer_id,
            runtime=outer.runtime,
            outer_ids=identity.outer_ids[index + 1 :],
            pod_uid=outer.pod_uid,
            qos_class=None,
            claimed_id=identity.container_id,
        )
    return identity


def _container(
    index: int,
    found: CgroupIdentity,
    said: list[CgroupIdentity],
    namespaces: Namespaces | None,
    *,
    truncated: bool,
) -> Identity:
    others = (other.container_id for other in said[index + 1 :])
    conflicting = dict.fromkeys(i for i in others if i not in (None, found.container_id))
    # The pid namespace alone says nothing: --pid=host shares it on purpose. No engine shares the
    # mount namespace, so a process that has the host's came from outside or went there.
    in_host = namespaces is not None and namespaces.mnt_is_host
    return Identity(
        state="container",
        reason="host_namespaces" if in_host else "cgroup_path",
        source="cgroup" if index == 0 else "cgroup_v1",
        container_id=found.container_id,
        runtime=found.runtime,
        outer_ids=found.outer_ids,
        pod_uid=found.pod_uid,
        qos_class=found.qos_class,
        host_namespaces=in_host,
        foreign_namespaces=namespaces is not None and not namespaces.pid_is_host,
        conflicting_ids=tuple(i for i in conflicting if i is not None),
        truncated=truncated,
    )


def _no_container(
    said: list[CgroupIdentity], namespaces: Namespaces | None, *, truncated: bool
) -> Identity:
    pod = next((found for found in said if found.pod_uid is not None), said[0])
    is_helper = any(found.is_helper for found in said)
    state: State = "unknown"
    source = "cgroup"
    if truncated:
        reason = "cgroup_path_truncated"
    elif namespaces is None:
        reason = "namespaces_not_read"
    elif not namespaces.pid_is_host:
        reason, source = "foreign_namespaces", "namespaces"
    elif is_helper:
        # An engine's monitor may have a mount namespace of its own; the pid namespace is the host's.
        state, reason = "host", "engine_helper"
    elif namespaces.mnt_is_host:
        state, reason = "host", "host_namespaces"
    elif pod.pod_uid is None and any(found.unit is not None for found in said):
        # PrivateTmp= and ProtectSystem= give most services of a host their own mount namespace.
        state, reason = "host", "service_with_private_mounts"
    else:
        reason, source = "foreign_mount_namespace", "namespaces"
    return Identity(
        state=state,
        reason=reason,
        source=source,
        pod_uid=pod.pod_uid,
        qos_class=pod.qos_class,
        is_helper=is_helper,
        foreign_namespaces=namespaces is not None and not namespaces.pid_is_host,
        truncated=truncated,
    )
