"""Identity and metadata in, the ECS blocks `container.*` and `orchestrator.*` out.

Names that ECS has are used as ECS means them; what it lacks stands below
`container.security_context`, `container.identity`, `container.resolution` and
`orchestrator.resource.parent.name`, and is described in docs/containers.md. What is not known is
left out: a rule must be able to tell "not privileged" from "not known".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sensor.containers.identity import Identity
from sensor.containers.resolver import Resolution

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sensor.containers.container import Container

Document = dict[str, Any]


def container_fields(
    identity: Identity,
    resolution: Resolution | None,
    *,
    outer: Container | None = None,
    cluster_name: str | None = None,
) -> Document:
    """Return `{"container": …}`, with `"orchestrator"` beside it where there is a pod.

    `container.id` is there exactly when the identity's state is "container". `outer` is what is
    known of the container around it: the only one an engine of the host can speak for when the
    inner one is of an engine inside. No API tells a cluster's name; it is whatever the
    configuration calls it.
    """
    container = resolution.container if resolution is not None else None
    block: Document = {}
    if identity.container_id is not None:
        block["id"] = identity.container_id
        block["runtime"] = (container.runtime if container else None) or identity.runtime
        block["outer_ids"] = list(identity.outer_ids)
        if container is not None:
            block.update(_metadata(container))
        if outer is not None:
            block["outer"] = _present(
                {
                    "id": outer.id,
                    "name": outer.name,
                    "image": _image(outer),
                    "security_context": _present({"privileged": outer.privileged}),
                }
            )
        if resolution is not None:
            block["resolution"] = _resolution(resolution)
    block["identity"] = _present(
        {
            "state": identity.state,
            "reason": identity.reason,
            "source": identity.source,
            "host_namespaces": identity.host_namespaces or None,
            "foreign_namespaces": identity.foreign_namespaces or None,
            "conflicting_ids": list(identity.conflicting_ids),
            "claimed_id": identity.claimed_id,
            "truncated": identity.truncated or None,
        }
    )
    document: Document = {"container": _present(block)}
    orchestrator = _orchestrator(identity, container, cluster_name)
    if orchestrator:
        document["orchestrator"] = orchestrator
    return document


def metadata_fields(container: Container) -> Document:
    """Return the blocks for a container that a source knows, without a process: for lists."""
    identity = Identity(
        state="container",
        reason="source",
        source=container.source,
        container_id=container.id,
        runtime=container.runtime,
        pod_uid=container.pod_uid,
    )
    resolution = Resolution(state="resolved", container=container, source=container.source)
    document = container_fields(identity, resolution)
    del document["container"]["identity"]
    return document


def _metadata(container: Container) -> Document:
    return {
        "name": container.name,
        "created": container.created,
        "restart_count": container.restarts,
        "image": _image(container),
        "labels": dict(container.labels or {}),
        "command": list(container.command or ()),
        "ip": [container.ip] if container.ip else [],
        "security_context": _present(
            {
                "privileged": container.privileged,
                "capabilities_added": list(container.cap_add or ()),
                "network_mode": container.network_mode,
                "pid_mode": container.pid_mode,
                "mounts": list(container.mounts or ()),
                "host_mounts": list(container.host_mounts or ()),
            }
        ),
    }


def _image(container: Container) -> Document:
    tags = [container.image_tag] if container.image_tag else []
    hashes = [h for h in (container.image_digest, container.image_id) if h]
    return _present(
        {
            "name": container.image_name,
            "tag": tags,
            "hash": _present({"all": list(dict.fromkeys(hashes))}),
        }
    )


def _resolution(resolution: Resolution) -> Document:
    container = resolution.container
    return _present(
        {
            "state": resolution.state,
            "source": resolution.source,
            "reason": resolution.reason,
            "elapsed_ms": resolution.elapsed_ms,
            "disagreement": list(resolution.disagreement),
            "labels_dropped": (container.labels_dropped if container else 0) or None,
        }
    )


def _orchestrator(
    identity: Identity, container: Container | None, cluster_name: str | None
) -> Document:
    pod_uid = (container.pod_uid if container else None) or identity.pod_uid
    pod_name = container.pod_name if container else None
    if pod_uid is None and pod_name is None:
        return {}
    resource: Document = {"type": "pod", "id": pod_uid, "name": pod_name}
    namespace = None
    if container is not None:
        namespace = container.pod_namespace
        resource["ip"] = [container.pod_ip] if container.pod_ip else []
        resource["label"] = [f"{key}:{text}" for key, text in (container.pod_labels or {}).items()]
        resource["parent"] = _present(
            {"type": container.workload_kind, "name": container.workload_name}
        )
    if identity.qos_class is not None:
        resource["qos_class"] = identity.qos_class
    return _present(
        {
            "type": "kubernetes",
            "cluster": _present({"name": cluster_name}),
            "namespace": namespace,
            "resource": _present(resource),
        }
    )


def _present(block: Mapping[str, Any]) -> Document:
    """Leave out what is not known or empty; False and 0 are known."""
    return {key: value for key, value in block.items() if value not in (None, [], {})}
