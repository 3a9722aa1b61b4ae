"""Pods as the Kubernetes API describes them in, `Container`s out."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sensor.containers.container import (
    Container,
    bounded_labels,
    bounded_list,
    bounded_text,
    parse_image,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


class ContainerState(enum.Enum):
    """What a pod's status says of one container; "waiting" ones mostly have no id yet."""

    RUNNING = enum.auto()
    WAITING = enum.auto()
    ENDED = enum.auto()


class _Camel(msgspec.Struct, rename="camel", gc=False):
    pass


class _Owner(_Camel):
    kind: str = ""
    name: str = ""
    controller: bool | None = None


class _Metadata(_Camel):
    uid: str = ""
    name: str = ""
    namespace: str = ""
    resource_version: str = ""
    labels: dict[str, str] | None = None
    annotations: dict[str, str] | None = None
    owner_references: list[_Owner] | None = None


class _Capabilities(_Camel):
    add: list[str] | None = None


class _SecurityContext(_Camel):
    privileged: bool | None = None
    capabilities: _Capabilities | None = None


class _ContainerSpec(_Camel):
    name: str = ""
    security_context: _SecurityContext | None = None


class _Spec(_Camel):
    host_network: bool | None = None
    host_pid: bool | None = msgspec.field(default=None, name="hostPID")
    containers: list[_ContainerSpec] | None = None
    init_containers: list[_ContainerSpec] | None = None
    ephemeral_containers: list[_ContainerSpec] | None = None


class _Present(_Camel):
    """Something of which only the presence matters."""


class _StateOf(_Camel):
    running: _Present | None = None
    terminated: _Present | None = None


class _ContainerStatus(_Camel):
    name: str = ""
    image: str = ""
    image_id: str = msgspec.field(default="", name="imageID")
    container_id: str = msgspec.field(default="", name="containerID")
    state: _StateOf | None = None
    restart_count: int | None = None


class _Status(_Camel):
    pod_ip: str | None = msgspec.field(default=None, name="podIP")
    container_statuses: list[_ContainerStatus] | None = None
    init_container_statuses: list[_ContainerStatus] | None = None
    ephemeral_container_statuses: list[_ContainerStatus] | None = None


class Pod(_Camel):
    """A Pod, or what a watch sends in its place: a bookmark has `metadata` only, an error `code`."""

    metadata: _Metadata = msgspec.field(default_factory=_Metadata)
    spec: _Spec | None = None
    status: _Status | str | None = None
    code: int = 0
    message: str = ""


class PodList(_Camel):
    """The answer to a list of pods."""

    metadata: _Metadata
    items: list[Pod] = msgspec.field(default_factory=list)


class PodEvent(_Camel):
    """One line of a watch."""

    type: str
    object: Pod


# Made once, on one thread: msgspec shows a type to other threads while it is still making it, and one
# that decodes by it then ends the process.
DECODERS: Final[dict[Any, msgspec.json.Decoder[Any]]] = {
    kind: msgspec.json.Decoder(kind) for kind in (PodList, PodEvent)
}


def containers_of(
    pod: Pod, source: str = "kubernetes"
) -> Iterator[tuple[Container, ContainerState]]:
    """Yield what is known of each container of a pod that was given an id."""
    if not isinstance(pod.status, _Status):
        return
    spec = pod.spec or _Spec()
    specs = {
        container.name: container.security_context or _SecurityContext()
        for group in (spec.containers, spec.init_containers, spec.ephemeral_containers)
        for container in group or ()
    }
    labels, _ = bounded_labels(pod.metadata.labels)
    kind, workload = _workload(pod.metadata, labels)
    # The uid that a static pod's cgroups and runtime know is its file's hash; the API's mirror of
    # it has another.
    annotations = pod.metadata.annotations or {}
    pod_uid = bounded_text(annotations.get("kubernetes.io/config.hash") or pod.metadata.uid, 64)
    for group in (
        pod.status.container_statuses,
        pod.status.init_container_statuses,
        pod.status.ephemeral_container_statuses,
    ):
        for status in group or ():
            runtime, _, container_id = status.container_id.partition("://")
            if not container_id:
                continue
            context = specs.get(status.name)
            added = context.capabilities.add if context and context.capabilities else None
            name, tag, digest = parse_image(status.image)
            yield (
                Container(
                    id=container_id,
                    source=source,
                    runtime=bounded_text(runtime, 64),
                    name=bounded_text(status.name, 256),
                    image_name=name,
                    image_tag=tag,
                    image_digest=digest or bounded_text(status.image_id.partition("@")[2], 256),
                    restarts=status.restart_count,
                    privileged=bool(context.privileged) if context else None,
                    cap_add=bounded_list(added or ()) if context else None,
                    network_mode="host" if spec.host_network else "pod",
                    pid_mode="host" if spec.host_pid else "private",
                    pod_uid=pod_uid,
                    pod_name=bounded_text(pod.metadata.name, 256),
                    pod_namespace=bounded_text(pod.metadata.namespace, 256),
                    pod_ip=bounded_text(pod.status.pod_ip, 64),
                    pod_labels=labels,
                    workload_kind=kind,
                    workload_name=workload,
                ),
                _state(status.state),
            )


def _state(state: _StateOf | None) -> ContainerState:
    if state is None or (state.running is None and state.terminated is None):
        return ContainerState.WAITING
    return ContainerState.ENDED if state.running is None else ContainerState.RUNNING


def _workload(metadata: _Metadata, labels: dict[str, str]) -> tuple[str | None, str | None]:
    """Name the owner that a person knows: a Deployment's pods belong to a ReplicaSet of its."""
    owner = next((o for o in metadata.owner_references or () if o.controller), None)
    if owner is None:
        return None, None
    template = labels.get("pod-template-hash")
    if owner.kind == "ReplicaSet" and template and owner.name.endswith(f"-{template}"):
        return "Deployment", bounded_text(owner.name.removesuffix(f"-{template}"), 256)
    return bounded_text(owner.kind, 64), bounded_text(owner.name, 256)
