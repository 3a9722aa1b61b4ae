"""Container, host or unknown: never host where it is not known."""

from __future__ import annotations

import pytest

from sensor.containers.container import Container
from sensor.containers.identity import confirm, resolve_identity
from sensor.event import Cgroup, Namespaces

A = "a" * 64
B = "b" * 64
HOST = Namespaces(pid=1, mnt=2, pid_is_host=True, mnt_is_host=True)
OWN = Namespaces(pid=10, mnt=20, pid_is_host=False, mnt_is_host=False)
OWN_MOUNTS = Namespaces(pid=1, mnt=20, pid_is_host=True, mnt_is_host=False)


def at(path: str, *, truncated: bool = False) -> tuple[Cgroup, ...]:
    return (Cgroup(id=7, path=path, truncated=truncated),)


@pytest.mark.parametrize(
    ("cgroups", "namespaces", "state", "reason"),
    [
        (at(f"/docker/{A}"), OWN, "container", "cgroup_path"),
        (at(f"/docker/{A}"), None, "container", "cgroup_path"),
        (at(f"/docker/{A}"), OWN_MOUNTS, "container", "cgroup_path"),  # --pid=host
        (at(f"/docker/{A}"), HOST, "container", "host_namespaces"),  # nsenter
        (at(f"/docker/{A}", truncated=True), OWN, "container", "cgroup_path"),
        (at("/system.slice/ssh.service"), HOST, "host", "host_namespaces"),
        (at("/"), HOST, "host", "host_namespaces"),
        (at("/batch/job1"), HOST, "host", "host_namespaces"),
        (at("/system.slice/ntp.service"), OWN_MOUNTS, "host", "service_with_private_mounts"),
        (at(f"/machine.slice/libpod-conmon-{A}.scope"), OWN_MOUNTS, "host", "engine_helper"),
        (at("/batch/job1"), OWN_MOUNTS, "unknown", "foreign_mount_namespace"),
        (at("/batch/job1"), OWN, "unknown", "foreign_namespaces"),
        (at("/system.slice/ntp.service"), OWN, "unknown", "foreign_namespaces"),
        (at("/lxc.monitor.x"), OWN, "unknown", "foreign_namespaces"),
        (at("/"), None, "unknown", "namespaces_not_read"),
        (at("/batch", truncated=True), HOST, "unknown", "cgroup_path_truncated"),
        (at("/default/redis", truncated=True), OWN, "unknown", "cgroup_path_truncated"),
        ((), HOST, "unknown", "cgroup_not_read"),
        ((), None, "unknown", "cgroup_not_read"),
    ],
)
def test_states(
    cgroups: tuple[Cgroup, ...], namespaces: Namespaces | None, state: str, reason: str
) -> None:
    identity = resolve_identity(cgroups, namespaces)
    assert (state, reason) == (identity.state, identity.reason)
    assert (identity.container_id is not None) == (state == "container")


def test_a_pod_without_a_container_is_host_only_in_the_host_s_namespaces() -> None:
    path = "/kubepods/burstable/pod121157b5-c67d-4c3e-9052-cb27bbb711fb"
    assert [
        resolve_identity(at(path), namespaces).state for namespaces in (HOST, OWN, OWN_MOUNTS)
    ] == ["host", "unknown", "unknown"]
    assert resolve_identity(at(path), OWN).pod_uid == "121157b5-c67d-4c3e-9052-cb27bbb711fb"


def test_the_first_hierarchy_with_an_id_wins_and_others_are_said() -> None:
    cgroups = (*at("/"), *at(f"/docker/{A}"), *at(f"/docker/{B}"), *at(f"/docker/{A}"))
    identity = resolve_identity(cgroups, OWN)
    assert (
        identity.container_id,
        identity.source,
        identity.conflicting_ids,
    ) == (A, "cgroup_v1", (B,))


def known(*containers: Container) -> dict[str, Container]:
    return {container.id: container for container in containers}


def test_a_neighbour_s_id_below_the_own_cgroup_is_not_believed() -> None:
    """Root with a writable cgroup tree can name a directory after any container."""
    engine = known(
        Container(id=A, source="docker", runtime="docker"),
        Container(id=B, source="docker", runtime="docker"),
    )
    identity = confirm(resolve_identity(at(f"/docker/{A}/docker/{B}"), OWN), engine.get)
    assert (identity.container_id, identity.claimed_id, identity.outer_ids) == (A, B, ())
    assert (identity.state, identity.reason) == ("container", "nesting_not_confirmed")


@pytest.mark.parametrize(
    "inner",
    [
        Container(id=B, source="docker", cgroup_parent=f"/docker/{A}"),
        Container(id=B, source="docker-2"),
    ],
)
def test_true_nesting_is_believed(inner: Container) -> None:
    """An engine inside the outer container, or one that was given it as the cgroup parent."""
    engine = known(Container(id=A, source="docker"), inner)
    claimed = resolve_identity(at(f"/docker/{A}/docker/{B}"), OWN)
    assert claimed == confirm(claimed, engine.get)


def test_what_no_source_knows_stays_as_the_kernel_said() -> None:
    claimed = resolve_identity(at(f"/docker/{A}/docker/{B}"), OWN)
    assert claimed == confirm(claimed, known(Container(id=A, source="docker")).get)
