"""ECS blocks: what is known stands under its name, what is not is left out."""

from __future__ import annotations

from sensor.containers.container import Container
from sensor.containers.fields import container_fields, metadata_fields
from sensor.containers.identity import Identity
from sensor.containers.resolver import Resolution

A = "a" * 64
B = "b" * 64
IDENTITY = Identity(
    state="container", reason="cgroup_path", source="cgroup", container_id=A, runtime="docker"
)
WHOLE = Container(
    id=A,
    source="docker",
    runtime="docker",
    name="web",
    image_name="registry:5000/web",
    image_tag="1.2",
    image_digest="sha256:d",
    image_id="sha256:i",
    labels={"team": "blue"},
    created="2026-01-01T00:00:00.000Z",
    restarts=0,
    privileged=False,
    ip="172.17.0.2",
    command=("sleep", "60"),
    mounts=("/srv:/srv:ro",),
    host_mounts=("/srv:/srv:ro",),
    network_mode="bridge",
    pid_mode="private",
    cap_add=("SYS_ADMIN",),
    complete=True,
)


def test_a_resolved_container() -> None:
    resolution = Resolution(state="resolved", container=WHOLE, source="docker", elapsed_ms=1.5)
    assert container_fields(IDENTITY, resolution) == {
        "container": {
            "id": A,
            "runtime": "docker",
            "name": "web",
            "created": "2026-01-01T00:00:00.000Z",
            "restart_count": 0,
            "image": {
                "name": "registry:5000/web",
                "tag": ["1.2"],
                "hash": {"all": ["sha256:d", "sha256:i"]},
            },
            "labels": {"team": "blue"},
            "command": ["sleep", "60"],
            "ip": ["172.17.0.2"],
            "security_context": {
                "privileged": False,
                "capabilities_added": ["SYS_ADMIN"],
                "network_mode": "bridge",
                "pid_mode": "private",
                "mounts": ["/srv:/srv:ro"],
                "host_mounts": ["/srv:/srv:ro"],
            },
            "resolution": {"state": "resolved", "source": "docker", "elapsed_ms": 1.5},
            "identity": {"state": "container", "reason": "cgroup_path", "source": "cgroup"},
        }
    }


def test_what_is_not_known_is_not_said_to_be_false() -> None:
    partial = Container(id=A, source="docker", name="web")
    resolution = Resolution(state="resolved", container=partial, reason="not_inspected")
    assert "security_context" not in container_fields(IDENTITY, resolution)["container"]


def test_without_any_metadata_the_kernel_s_word_and_the_reason_remain() -> None:
    resolution = Resolution(state="unavailable", reason="no_source")
    block = container_fields(IDENTITY, resolution)["container"]
    assert (block["id"], block["runtime"]) == (A, "docker")
    assert block["resolution"] == {"state": "unavailable", "reason": "no_source", "elapsed_ms": 0.0}


def test_host_and_unknown_have_no_container_id() -> None:
    for state in ("host", "unknown"):
        identity = Identity(state=state, reason="why", source="cgroup")  # type: ignore[arg-type]
        assert {
            "container": {"identity": {"state": state, "reason": "why", "source": "cgroup"}}
        } == container_fields(identity, None)


def test_a_pod_stands_in_the_orchestrator_s_block() -> None:
    container = Container(
        id=A,
        source="kubernetes",
        pod_uid="u-1",
        pod_name="web-7d4b9c6f5-abcde",
        pod_namespace="shop",
        pod_ip="10.0.0.1",
        pod_labels={"app": "web"},
        workload_kind="Deployment",
        workload_name="web",
    )
    document = container_fields(
        IDENTITY, Resolution(state="resolved", container=container), cluster_name="prod"
    )
    assert document["orchestrator"] == {
        "type": "kubernetes",
        "cluster": {"name": "prod"},
        "namespace": "shop",
        "resource": {
            "type": "pod",
            "id": "u-1",
            "name": "web-7d4b9c6f5-abcde",
            "ip": ["10.0.0.1"],
            "label": ["app:web"],
            "parent": {"type": "Deployment", "name": "web"},
        },
    }


def test_a_pod_uid_is_known_from_the_path_alone() -> None:
    identity = Identity(
        state="container",
        reason="cgroup_path",
        source="cgroup",
        container_id=A,
        pod_uid="u-1",
        qos_class="Burstable",
    )
    assert container_fields(identity, None)["orchestrator"] == {
        "type": "kubernetes",
        "resource": {"type": "pod", "id": "u-1", "qos_class": "Burstable"},
    }


def test_the_container_around_an_unknown_inner_one_is_named() -> None:
    identity = Identity(
        state="container", reason="cgroup_path", source="cgroup", container_id=B, outer_ids=(A,)
    )
    block = container_fields(identity, None, outer=WHOLE)["container"]
    assert (block["outer_ids"], block["outer"]["name"]) == ([A], "web")


def test_a_list_of_containers_has_the_same_names_without_a_process() -> None:
    assert {"id", "name", "image", "resolution"} <= metadata_fields(WHOLE)["container"].keys()
    assert "identity" not in metadata_fields(WHOLE)["container"]
