"""What an engine or the Kubernetes API knows about one container, as one small frozen value.

Every source makes `Container`s; nothing else of an engine's answer is kept. Everything in it was
written by whoever started the container, so it is cut to a bound here, once, for all sources.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Final, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_LABELS: Final = 64
MAX_LABEL_KEY: Final = 256
MAX_LABEL_VALUE: Final = 512
MAX_TEXT: Final = 1024
MAX_ITEMS: Final = 32
MAX_EXEC_IDS: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container. None: not known (yet); an empty tuple or mapping: known to have none.

    `id` is whole. `created` and `started` are RFC 3339 in UTC as the engine said them. `pid` is
    that of the container's first process in the host's pid namespace, 0 when it does not run.
    `mounts` are `source:destination:ro|rw`, `host_mounts` those of them that come from the host's
    file system. `complete`: False where an event or a list told of it and privileged, pid, mounts
    and the like are still to be asked for. `labels_dropped` counts what the bounds cut off.
    `workload_*` is the pod's owner (Deployment, DaemonSet, …).
    """

    id: str
    source: str
    runtime: str | None = None
    name: str | None = None
    image_name: str | None = None
    image_tag: str | None = None
    image_digest: str | None = None
    image_id: str | None = None
    labels: Mapping[str, str] | None = None
    labels_dropped: int = 0
    created: str | None = None
    started: str | None = None
    restarts: int | None = None
    privileged: bool | None = None
    ip: str | None = None
    command: tuple[str, ...] | None = None
    pid: int | None = None
    mounts: tuple[str, ...] | None = None
    host_mounts: tuple[str, ...] | None = None
    network_mode: str | None = None
    pid_mode: str | None = None
    cap_add: tuple[str, ...] | None = None
    cgroup_parent: str | None = None
    exec_ids: tuple[str, ...] = ()
    pod_uid: str | None = None
    pod_name: str | None = None
    pod_namespace: str | None = None
    pod_ip: str | None = None
    pod_labels: Mapping[str, str] | None = None
    workload_kind: str | None = None
    workload_name: str | None = None
    is_sandbox: bool = False
    complete: bool = False


def bounded_text(text: str | None, limit: int = MAX_TEXT) -> str | None:
    """Cut a text to `limit` characters; empty and None are both "not known"."""
    if not text:
        return None
    return text if len(text) <= limit else text[: limit - 1] + "…"


def bounded_list(items: Iterable[str]) -> tuple[str, ...]:
    """Keep the first MAX_ITEMS texts, each cut to MAX_TEXT."""
    kept: list[str] = []
    for item in items:
        if len(kept) == MAX_ITEMS:
            break
        kept.append(bounded_text(item) or "")
    return tuple(kept)


def bounded_labels(labels: Mapping[str, str] | None) -> tuple[dict[str, str], int]:
    """Return the labels within the bounds, and how many were left out.

    Kubernetes' own come first: they name the pod, and must not be crowded out by somebody's 10 MB.
    """
    if not labels:
        return {}, 0
    names = [name for name in labels if len(name) <= MAX_LABEL_KEY]
    if len(labels) > MAX_LABELS:
        names.sort(key=lambda name: (not name.startswith("io.kubernetes."), name))
    kept: dict[str, str] = {}
    for name in names:
        if len(kept) == MAX_LABELS:
            break
        # Containers share their labels' names, and each answer brings them anew.
        kept[sys.intern(name)] = bounded_text(labels[name], MAX_LABEL_VALUE) or ""
    return kept, len(labels) - len(kept)


def parse_image(reference: str | None) -> tuple[str | None, str | None, str | None]:
    """Split an image reference into (name, tag, digest).

    `registry:5000/team/web:1.2@sha256:…` keeps the registry in the name. Without tag and digest the
    tag is `latest`, as engines read it. A bare image id is a digest without a name.
    """
    if not reference:
        return None, None, None
    if reference.startswith("sha256:"):
        return None, None, bounded_text(reference)
    name, _, digest = reference.partition("@")
    head, slash, last = name.rpartition("/")
    last, _, tag = last.partition(":")
    if not tag and not digest:
        tag = "latest"
    return (
        bounded_text(head + slash + last),
        bounded_text(tag, 128),
        bounded_text(digest, 256),
    )


class PodFields(TypedDict, total=False):
    """The part of a `Container` that the labels of a pod's container tell."""

    pod_uid: str
    pod_name: str
    pod_namespace: str


def pod_of_labels(labels: Mapping[str, str]) -> PodFields:
    """Read the pod from the labels that kubelet gives each of its containers."""
    fields_of: PodFields = {}
    if uid := labels.get("io.kubernetes.pod.uid"):
        fields_of["pod_uid"] = uid
    if name := labels.get("io.kubernetes.pod.name"):
        fields_of["pod_name"] = name
    if namespace := labels.get("io.kubernetes.pod.namespace"):
        fields_of["pod_namespace"] = namespace
    return fields_of


# What identifies a container to its reader. The rest differs between sources by nature.
_COMPARED: Final = (
    "name",
    "image_name",
    "image_tag",
    "privileged",
    "pod_uid",
    "pod_name",
    "pod_namespace",
)


def disagreements(containers: Iterable[Container]) -> tuple[str, ...]:
    """Say, as `name: docker says 'a', containerd says 'b'`, where sources contradict each other."""
    known = list(containers)
    said = []
    for field in _COMPARED:
        values = {c.source: v for c in known if (v := _comparable(c, field)) is not None}
        if len(set(values.values())) > 1:
            told = ", ".join(f"{source} says {value!r}" for source, value in values.items())
            said.append(f"{field}: {told}")
    return tuple(said)


def _comparable(container: Container, field: str) -> object:
    value = getattr(container, field)
    if field == "name" and container.runtime == "docker" and str(value).startswith("k8s_"):
        # cri-dockerd's k8s_<container>_<pod>_<namespace>_<uid>_<attempt> for what the CRI calls
        # <container>: the same name, longer.
        return str(value).split("_")[1]
    if field == "image_name" and value is not None:
        # "redis", "library/redis" and "docker.io/library/redis" are one image.
        return str(value).removeprefix("docker.io/").removeprefix("library/")
    return value


def merge(containers: Iterable[Container]) -> Container | None:
    """Make one of what several sources know: the first one's word, filled up from the others."""
    merged: Container | None = None
    for container in containers:
        if merged is None:
            merged = container
            continue
        missing = {
            field.name: getattr(container, field.name)
            for field in fields(Container)
            if getattr(merged, field.name) is None and getattr(container, field.name) is not None
        }
        missing["complete"] = merged.complete or container.complete
        merged = replace(merged, **missing)
    return merged
