"""The parser of cgroup paths: every known shape, traps that differ in one thing, and odd input."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sensor.containers.cgroup import MAX_OUTER_IDS, CgroupIdentity, identify

SHAPES = Path(__file__).parents[4] / "shared" / "data" / "cgroup-paths.tsv"
A = "a" * 64
B = "b" * 64
POD = "121157b5-c67d-4c3e-9052-cb27bbb711fb"
POD_SLICE = f"kubepods-burstable-pod{POD.replace('-', '_')}.slice"


@pytest.mark.shared
def test_every_shape_of_the_shared_table() -> None:
    if not SHAPES.is_file():
        pytest.skip(f"no {SHAPES}: the shared data folder is not beside the project")
    rows = [row.split("\t") for row in SHAPES.read_text().splitlines()]
    wrong = [
        (name, found)
        for name, line, wanted in rows
        if (found := identify(line).container_id or "") != wanted
    ]
    assert (wrong, len(rows)) == ([], 51)


@pytest.mark.parametrize(
    ("path", "container_id", "runtime"),
    [
        (f"/system.slice/docker-{A}.scope", A, "docker"),
        (f"/docker/{A}", A, "docker"),
        (f"/docker/{A} (deleted)", A, "docker"),
        (f"12:cpu,cpuacct:/docker/{A}\n", A, "docker"),
        (f"1:name=systemd:/docker/{A}", A, "docker"),
        (f"/batch/{A}", A, None),  # --cgroup-parent=/batch of Docker's cgroupfs driver
        (f"/system.slice/docker-{A}.scope/init.scope", A, "docker"),
        (f"/docker/{A}/system.slice/cron.service", A, "docker"),
        (f"/kubepods.slice/x.slice:cri-containerd:{A}", A, "containerd"),
        (f"/machine.slice/libpod-{A}.scope/container", A, "podman"),
        (f"/a.slice/b.service/libpod-payload-{A}", A, "podman"),
        (f"/kubepods/besteffort/pod{POD}/crio-{A}", A, "cri-o"),
        ("/default/redis", "redis", "containerd"),
        ("/default/redis/worker", "redis", "containerd"),
        ("/lxc/101/ns/system.slice/ssh.service", "101", "lxc"),
        ("/machine.slice/machine-deb12.scope/payload", "deb12", "systemd-nspawn"),
        ("/ecs/" + "1" * 32 + "/" + "1" * 32 + "-4015103728", "1" * 32 + "-4015103728", "ecs"),
        (
            "/system.slice/docker-2m6kzzwmpa8hn9jzbvqf1sn1f.scope",
            "2m6kzzwmpa8hn9jzbvqf1sn1f",
            "buildkit",
        ),
    ],
)
def test_accepts(path: str, container_id: str, runtime: str | None) -> None:
    found = identify(path)
    assert (container_id, runtime) == (found.container_id, found.runtime)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "\n",
        "/",
        ":::",
        "0::",
        f"/system.slice/docker-{A}.scopeX",
        f"/system.slice/docker-{A[:-1]}.scope",
        f"/system.slice/docker-{A}a.scope",
        f"/system.slice/docker-{A.upper()}.scope",
        f"/system.slice/docker-{A[:-1]}g.scope",
        "/system.slice/docker-.scope",
        f"/system.slice/docker-{A}.service",
        f"/system.slice/docker-{A}.mount",
        f"/system.slice/docker-{A}",
        f"/system.slice/build-{A}",
        f"/system.slice/build-{A}.scope",
        f"/system.slice/crio-conmon-{A}.scope",
        f"/machine.slice/libpod-conmon-{A}.scope",
        "/lxc.monitor.web01",
        "/lxc.monitor/web01",
        "/lxc.payload.",
        "/lxc.payload.a\x1b[31m",
        "/machine.slice/machine-qemu\\x2d1\\x2dwin.scope",
        "/machine.slice/systemd-nspawn@deb12.service/supervisor",
        "/batch/redis",
        "/default/redis.service",
        "/x/default/redis",
        "/default/" + "r" * 77,
        "/garden/6f265890-5165-7fab-6b52",
        "/x/6f265890-5165-7fab-6b52-18d1",
        "/x/" + "1" * 32 + "-4015103728",
        "/x/2m6kzzwmpa8hn9jzbvqf1sn1f",
        f"docker-{A}.scope\n\n",
    ],
)
def test_refuses(path: str) -> None:
    """Each differs from a shape that is accepted in one thing."""
    assert identify(path).container_id is None


def test_the_innermost_container_wins_and_the_outer_are_kept() -> None:
    found = identify(f"/docker/{A}/docker/{B}")
    assert (found.container_id, found.outer_ids) == (B, (A,))


def test_the_outermost_id_is_never_pushed_out() -> None:
    path = f"/docker/{A}" + "".join(f"/{i:064x}" for i in range(100))
    found = identify(path)
    assert (len(found.outer_ids), found.outer_ids[-1]) == (MAX_OUTER_IDS, A)


def test_a_helper_s_name_below_a_container_does_not_hide_it() -> None:
    """Who may make cgroups in a container must not get out of it by a name."""
    for name in (f"crio-conmon-{B}.scope", "lxc.monitor.x", "supervisor", "ssh.service"):
        found = identify(f"/docker/{A}/{name}")
        assert (found.container_id, found.is_helper) == (A, False)


def test_a_helper_is_said_to_be_one() -> None:
    assert CgroupIdentity(is_helper=True) == identify("/lxc.monitor.web01")


@pytest.mark.parametrize(
    ("path", "qos"),
    [
        (
            f"/kubepods.slice/kubepods-burstable.slice/{POD_SLICE}/cri-containerd-{A}.scope",
            "Burstable",
        ),
        (f"/kubepods/besteffort/pod{POD}/{A}", "BestEffort"),
        (f"/kubepods/pod{POD}/{A}/child", "Guaranteed"),
        (
            f"/kubelet.slice/kubelet-kubepods.slice/kubelet-{POD_SLICE}/cri-containerd-{A}.scope",
            "Burstable",
        ),
        (f"/system.slice/containerd.service/{POD_SLICE}:cri-containerd:{A}", "Burstable"),
        (f"/../../{POD_SLICE}/cri-containerd-{A}.scope", "Burstable"),
        (f"/kubepods.slice/kubepods-burstable.slice/{POD_SLICE}", "Burstable"),
    ],
)
def test_pod_uid_and_qos_from_the_path_alone(path: str, qos: str) -> None:
    found = identify(path)
    assert (POD, qos) == (found.pod_uid, found.qos_class)


def test_a_pod_named_below_a_container_is_not_believed() -> None:
    assert identify(f"/docker/{A}/kubepods/pod{POD}").pod_uid is None


def test_names_at_the_root_are_not_believed_where_the_root_is_cut_off() -> None:
    assert identify("/default/redis", rooted=False).container_id is None
    assert identify(f"/docker/{A}", rooted=False).container_id == A


def test_one_more_namespace_of_containerd_can_be_told() -> None:
    assert (
        identify("/batch/job1", containerd_namespaces=frozenset({"batch"})).container_id == "job1"
    )


PIECES = st.sampled_from(
    [
        *("docker", "lxc", "kubepods", "garden", "ecs", "default", "x.slice", "..", ":"),
        *(f"docker-{A}.scope", f"crio-conmon-{A}.scope", "lxc.payload.x", "1" * 32 + "-12345"),
        *(A, f"pod{POD}", POD_SLICE),
    ]
)
ODD = st.text(st.characters(exclude_categories=[]), max_size=70)


@given(st.lists(PIECES | ODD, max_size=12).map("/".join))
def test_never_raises_and_its_ids_are_parts_of_the_path(path: str) -> None:
    """Surrogates, control characters and anything else included."""
    found = identify(path)
    for container_id in (found.container_id, *found.outer_ids):
        if container_id is not None:
            assert container_id in path
            assert container_id.isprintable()


@given(st.text(st.characters(exclude_categories=[], exclude_characters="/"), min_size=1))
def test_no_name_below_a_container_leads_out_of_it(name: str) -> None:
    found = identify(f"/system.slice/docker-{A}.scope/{name}")
    assert A in (found.container_id, *found.outer_ids)
