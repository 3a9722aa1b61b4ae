"""Real engines, told by nothing but their sockets: identity from the path, metadata from the API."""

from __future__ import annotations

import os
import queue
import signal
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import images
import pytest
from docker.errors import APIError
from patience import patient

from sensor.containers.cgroup import identify
from sensor.containers.entry import entered_by_exec
from sensor.containers.identity import resolve_identity
from sensor.event import Cgroup, Namespaces, Process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import docker
    from cri_control import RunningPod
    from daemons import Containerd, Podman
    from docker.models.containers import Container as Running
    from testbed import Engine

    from sensor.containers.container import Container
    from sensor.containers.resolver import Resolution, Resolver

    Resolve = Callable[..., Resolver]

LONG_S = patient(30)
OURS = Namespaces(pid=1, mnt=2, pid_is_host=False, mnt_is_host=False)


def cgroups(pid: int) -> tuple[Cgroup, ...]:
    """A process's cgroups as /proc has them: v2 first, as the kernel side hands them over."""
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    lines.sort(key=lambda line: not line.startswith("0::"))
    return tuple(Cgroup(id=1, path=line) for line in lines)


def started(client: docker.DockerClient, **options: object) -> Running:
    return client.containers.run(  # type: ignore[call-overload, no-any-return]
        images.BUSYBOX,
        ["sleep", "1000000"],
        name=f"sensor-test-{uuid.uuid4().hex[:8]}",
        labels={"team": "blue"},
        detach=True,
        network_mode="none",
        stop_signal="SIGKILL",
        **options,
    )


@pytest.fixture
def remove() -> Iterator[list[Running]]:
    containers: list[Running] = []
    yield containers
    for container in containers:
        with suppress(APIError):
            container.remove(force=True)


def pid_of(container: Running) -> int:
    container.reload()
    return int(container.attrs["State"]["Pid"])


def whole(resolver: Resolver, container_id: str) -> Container:
    """Wait, as an alert's late update does, until all of a container is known."""
    answers: queue.Queue[Resolution] = queue.Queue()
    resolver.request(container_id, answers.put)
    container = answers.get(timeout=LONG_S).container
    assert container is not None
    assert container.complete
    return container


def first_pid(resolver: Resolver, container_id: str) -> int:
    container = resolver.lookup_known(container_id)
    return (container and container.pid) or 0


def until(resolver: Resolver, true: Callable[[], bool]) -> None:
    """Wait for what only an engine's event can bring about."""
    deadline = time.monotonic() + LONG_S
    while not true():
        assert time.monotonic() < deadline, resolver.counters()
        time.sleep(0.01)


def test_docker(
    engine: Engine, client: docker.DockerClient, resolve: Resolve, remove: list[Running]
) -> None:
    remove.append(started(client, cap_add=["NET_ADMIN"], volumes=["/usr/share:/host:ro"]))
    container, pid = remove[0], pid_of(remove[0])
    identity = resolve_identity(cgroups(pid), OURS)
    assert (container.id, "docker", "container") == (
        identity.container_id,
        identity.runtime,
        identity.state,
    )
    found = whole(resolve(engine.host.removeprefix("unix://")), container.id)
    assert (container.name, "sensor-test/busybox", "1.0", {"team": "blue"}, pid, False) == (
        found.name,
        found.image_name,
        found.image_tag,
        found.labels,
        found.pid,
        found.privileged,
    )
    assert (
        found.cap_add,
        found.host_mounts,
        found.network_mode,
    ) == (("NET_ADMIN",), ("/usr/share:/host:ro",), "none")


def mount_namespace(pid: int) -> int | None:
    with suppress(PermissionError):  # pid 1's, where root is not all-powerful
        return Path(f"/proc/{pid}/ns/mnt").stat().st_ino
    return None


def chain(pid: int) -> tuple[Process, tuple[Process, ...]]:
    """A process and its ancestors as /proc has them now."""
    found = []
    while pid:
        stat = Path(f"/proc/{pid}/stat").read_text()
        name, _, rest = stat[stat.index("(") + 1 :].rpartition(")")
        found.append(
            Process(
                pid=pid,
                start_ns=int(rest.split()[19]),
                name=name,
                executable=None,
                args=None,
                mnt_ns=mount_namespace(pid),
            )
        )
        pid = int(rest.split()[1])
    return found[0], tuple(found[1:])


def sleeping(container_id: str) -> list[int]:
    """The `sleep`s whose cgroup is the container's; a runtime that sets one up is none yet."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if (
                entry.name.isdigit()
                and (entry / "comm").read_text() == "sleep\n"
                and container_id in (entry / "cgroup").read_text()
            ):
                found.append(int(entry.name))
    return found


def test_an_exec_into_a_container_is_told_from_its_own_tree(
    engine: Engine, client: docker.DockerClient, resolve: Resolve, remove: list[Running]
) -> None:
    remove.append(started(client))
    container = remove[0]
    container.exec_run(["sh", "-c", "sleep 1000000"], detach=True)
    found = whole(resolve(engine.host.removeprefix("unix://")), container.id)
    deadline = time.monotonic() + LONG_S
    while len(pids := sleeping(container.id)) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert {pid: pid != found.pid for pid in pids} == {
        pid: entered_by_exec(*chain(pid), found) for pid in pids
    }


def test_docker_on_cgroup_v2(docker_on_v2: docker.DockerClient, remove: list[Running]) -> None:
    remove.append(started(docker_on_v2))
    (unified,) = (c for c in cgroups(pid_of(remove[0])) if c.path.startswith("0::"))
    found = identify(unified.path)
    assert (remove[0].id, "docker") == (found.container_id, "docker")


def test_a_cgroup_below_the_container_s_is_still_the_container(
    client: docker.DockerClient, remove: list[Running]
) -> None:
    remove.append(started(client))
    pid = pid_of(remove[0])
    root, hierarchy = Path("/sys/fs/cgroup/pids"), ":pids:"
    if not root.is_dir():  # the unified hierarchy alone
        root, hierarchy = root.parent, "0::"
    (line,) = (c.path for c in cgroups(pid) if hierarchy in c.path)
    below = root / line.partition("/")[2] / "init.scope"
    below.mkdir()
    (below / "cgroup.procs").write_text(str(pid))
    (moved,) = (c.path for c in cgroups(pid) if hierarchy in c.path)
    assert moved.endswith("/init.scope")
    assert remove[0].id == identify(moved).container_id


def test_docker_tells_ahead_of_new_renamed_and_ended_containers(
    engine: Engine, client: docker.DockerClient, resolve: Resolve, remove: list[Running]
) -> None:
    resolver = resolve(engine.host.removeprefix("unix://"))
    until(resolver, lambda: resolver.counters().get("docker.watch.seed", 0) > 0)
    remove.append(started(client))
    container = remove[0]
    until(resolver, lambda: resolver.get(container.id).container is not None)
    container.rename(f"{container.name}-renamed")
    container.exec_run(["true"])

    def told() -> bool:
        known = resolver.get(container.id).container
        return (
            known is not None and known.name == f"{container.name}-renamed" and bool(known.exec_ids)
        )

    until(resolver, told)
    container.remove(force=True)
    until(resolver, lambda: resolver.get(container.id).container.pid == 0)  # type: ignore[union-attr]
    assert resolver.get(container.id).state == "resolved"


def test_containers_that_live_for_an_instant_are_known_by_name(
    engine: Engine, client: docker.DockerClient, resolve: Resolve
) -> None:
    """Each is gone when it is looked at, and each is still known, to the right name."""
    resolver = resolve(engine.host.removeprefix("unix://"))
    until(resolver, lambda: resolver.counters().get("docker.watch.seed", 0) > 0)
    names, known = {}, {}
    for number in range(23):
        name = f"sensor-test-short-{number}-{uuid.uuid4().hex[:8]}"
        container = client.containers.create(
            images.BUSYBOX, ["true"], name=name, auto_remove=True, network_mode="none"
        )
        names[container.id] = name
        container.start()
        # Not all at the end: on a slow machine the first ones would be forgotten by then.
        until(resolver, lambda: resolver.counters().get("docker.watch.destroy", 0) >= len(names))
        known[container.id] = resolver.get(container.id).container
    assert names == {container_id: c and c.name for container_id, c in known.items()}
    assert {"sensor-test/busybox"} == {c.image_name for c in known.values() if c is not None}


def test_podman(podman: Podman, resolve: Resolve, remove: list[Running]) -> None:
    resolver = resolve(podman.socket)
    until(resolver, lambda: resolver.counters().get("podman.watch.seed", 0) > 0)
    client = podman.client()
    remove.append(started(client))
    container, pid = remove[0], pid_of(remove[0])
    identity = resolve_identity(cgroups(pid), OURS)
    assert (container.id, "podman") == (identity.container_id, identity.runtime)
    until(resolver, lambda: resolver.get(container.id).container is not None)
    found = whole(resolver, container.id)
    assert ("podman", container.name, "1.0", pid) == (
        found.runtime,
        found.name,
        found.image_tag,
        found.pid,
    )
    assert (found.image_name or "").endswith("sensor-test/busybox")
    assert {"team": "blue"}.items() <= (found.labels or {}).items()
    container.remove(force=True)
    until(resolver, lambda: resolver.get(container.id).container.pid == 0)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("parent", "qos"),
    [
        ("/kubepods/besteffort/pod{uid}", "BestEffort"),
        ("/kubepods/burstable/pod{uid}", "Burstable"),
        ("/kubepods/pod{uid}", "Guaranteed"),
    ],
)
def test_containerd_s_pods(containerd: Containerd, resolve: Resolve, parent: str, qos: str) -> None:
    resolver = resolve(containerd.socket)
    cri = containerd.cri()
    image = f"docker.io/{images.BUSYBOX}"
    pod = cri.run("web-1", image, ["sleep", "1000000"], parent, attempt=3)
    try:
        found = whole(resolver, pod.container_id)
        assert found.restarts == 3
        assert ("app", image, "containerd", False) == (
            found.name,
            f"{found.image_name}:{found.image_tag}",
            found.runtime,
            found.privileged,
        )
        assert (pod.uid, "web-1", "shop", "host", "web-1") == (
            found.pod_uid,
            found.pod_name,
            found.pod_namespace,
            found.network_mode,
            (found.pod_labels or {}).get("app"),
        )
        until(resolver, lambda: first_pid(resolver, pod.container_id) > 0)
        identity = resolve_identity(cgroups(first_pid(resolver, pod.container_id)), OURS)
        assert (pod.container_id, "containerd", pod.uid, qos) == (
            identity.container_id,
            identity.runtime,
            identity.pod_uid,
            identity.qos_class,
        )
        pause = whole(resolver, pod.sandbox_id)
        assert (pause.is_sandbox, pause.pod_name) == (True, "web-1")
    finally:
        cri.remove(pod)


def test_all_engines_at_once(
    engine: Engine,
    client: docker.DockerClient,
    podman: Podman,
    containerd: Containerd,
    resolve: Resolve,
    remove: list[Running],
) -> None:
    """Told nothing but three sockets, every container is known by its own engine alone."""
    resolver = resolve(engine.host.removeprefix("unix://"), podman.socket, containerd.socket)
    remove.extend([started(client), started(podman.client())])
    cri = containerd.cri()
    pod: RunningPod = cri.run(
        "web-2", f"docker.io/{images.BUSYBOX}", ["sleep", "1000000"], "/kubepods/pod{uid}"
    )
    try:
        expected = {
            remove[0].id: (remove[0].name, "docker"),
            remove[1].id: (remove[1].name, "podman"),
            pod.container_id: ("app", "containerd"),
        }
        found = {container_id: whole(resolver, container_id) for container_id in expected}
        assert expected == {i: (c.name, c.source) for i, c in found.items()}
        for container_id in expected:
            # what was looked up before its first process ran is looked up again when that starts
            until(resolver, lambda of=container_id: first_pid(resolver, of) > 0)
            pid = first_pid(resolver, container_id)
            assert container_id == resolve_identity(cgroups(pid), OURS).container_id
    finally:
        cri.remove(pod)


def test_a_runtime_that_restarts_is_found_again_and_what_was_known_stays(
    containerd: Containerd, resolve: Resolve
) -> None:
    resolver = resolve(containerd.socket)
    cri = containerd.cri()
    pod = cri.run(
        "web-3", f"docker.io/{images.BUSYBOX}", ["sleep", "1000000"], "/kubepods/pod{uid}"
    )
    assert whole(resolver, pod.container_id).name == "app"
    until(resolver, lambda: first_pid(resolver, pod.container_id) > 0)  # it may be known before
    containerd.end(signal.SIGKILL)
    try:
        until(
            resolver,
            lambda: (
                "containerd" in resolver.troubles()
                or bool(resolver.counters().get("containerd.watch.lost"))
            ),
        )
        assert resolver.get(pod.container_id).state == "resolved"
        assert os.path.exists(f"/proc/{resolver.get(pod.container_id).container.pid}")  # type: ignore[union-attr]
    finally:
        containerd.start()
    again = containerd.cri()
    new = again.run(
        "web-4", f"docker.io/{images.BUSYBOX}", ["sleep", "1000000"], "/kubepods/pod{uid}"
    )
    try:
        assert (
            (found := whole(resolver, new.container_id)).name,
            found.pod_name,
        ) == ("app", "web-4")
    finally:
        again.remove(new)
        again.remove(pod)
