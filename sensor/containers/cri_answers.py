"""Messages of the CRI in, `Container`s out.

What the messages lack (pid, privileged, namespaces) is in the JSON that runtimes add to a verbose
status; containerd and CRI-O agree on most of its names.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import msgspec

from sensor.containers.container import (
    Container,
    bounded_labels,
    bounded_list,
    bounded_text,
    parse_image,
    pod_of_labels,
)
from sensor.containers.source import SourceGarbageError

# Its classes are made at run time, so there is nothing in it that mypy could read.
pb: Any = importlib.import_module("sensor.containers.cri_pb2")

_KUBELET: Final = "/var/lib/kubelet/"  # volumes it makes itself: not the host's own files
_STATES: Final = frozenset({0, 1})  # created, running
_RUNNING: Final = 1
_READY: Final = 0
_NODE: Final = 2


class _Capabilities(msgspec.Struct, gc=False):
    add_capabilities: list[str] | None = None


class _SecurityContext(msgspec.Struct, gc=False):
    privileged: bool = False
    capabilities: _Capabilities | None = None


class _LinuxConfig(msgspec.Struct, gc=False):
    security_context: _SecurityContext | None = None


class _Config(msgspec.Struct, gc=False):
    linux: _LinuxConfig | None = None


class _Process(msgspec.Struct, gc=False):
    args: list[str] | None = None


class _Namespace(msgspec.Struct, gc=False):
    type: str = ""


class _LinuxSpec(msgspec.Struct, gc=False):
    namespaces: list[_Namespace] | None = None


class _Spec(msgspec.Struct, gc=False):
    process: _Process | None = None
    linux: _LinuxSpec | None = None


class Info(msgspec.Struct, rename="camel", gc=False):
    """The JSON that runtimes add to a status when it is asked for verbosely.

    `config` is containerd's, `privileged` CRI-O's; the rest is common to both.
    """

    sandbox_id: str = msgspec.field(default="", name="sandboxID")
    pid: int = 0
    privileged: bool | None = None
    config: _Config | None = None
    runtime_spec: _Spec | None = None


# Made once, on one thread: msgspec shows a type to other threads while it is still making it, and one
# that decodes by it then ends the process.
_INFO: Final = msgspec.json.Decoder(Info)


@dataclass(frozen=True, slots=True, kw_only=True)
class Pod:
    """What its sandbox says of a pod; the modes are None where the runtime does not say."""

    ip: str | None
    labels: dict[str, str]
    network_mode: str | None
    pid_mode: str | None


def info_of(answer: Any, source: str) -> Info:
    """Decode the JSON of a verbose status; raises SourceGarbageError."""
    try:
        return _INFO.decode(answer.info.get("info", "{}"))
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise SourceGarbageError(f"{source}: info: {error}"[:200]) from error


def pod_of(status: Any) -> Pod:
    """Read a PodSandboxStatus."""
    options = (
        status.linux.namespaces.options if status.linux.namespaces.HasField("options") else None
    )
    return Pod(
        ip=bounded_text(status.network.ip, 64),
        labels=bounded_labels(status.labels)[0],
        network_mode=None if options is None else ("host" if options.network == _NODE else "pod"),
        pid_mode=None if options is None else ("host" if options.pid == _NODE else "private"),
    )


def listed(
    containers: Any, sandboxes: Any, *, source: str, runtime: str | None
) -> tuple[Container, ...]:
    """Make what the two lists tell of all that runs or is about to: enough to name it."""
    pods = {item.id: bounded_labels(item.labels)[0] for item in sandboxes.items}
    told = [
        _listed_sandbox(item, pods[item.id], source, runtime)
        for item in sandboxes.items
        if item.state == _READY
    ]
    told.extend(
        _listed(item, pods.get(item.pod_sandbox_id), source, runtime)
        for item in containers.containers
        if item.state in _STATES
    )
    return tuple(told)


def container_of(
    status: Any, info: Info, pod: Pod | None, *, source: str, runtime: str | None
) -> Container:
    """Make a whole container of its status, the JSON beside it and its pod."""
    spec = info.runtime_spec or _Spec()
    context = info.config.linux.security_context if info.config and info.config.linux else None
    added = context.capabilities.add_capabilities if context and context.capabilities else None
    labels, dropped = bounded_labels(status.labels)
    name, tag, digest = parse_image(status.image.image)
    return Container(
        id=status.id,
        source=source,
        runtime=runtime,
        name=bounded_text(status.metadata.name, 256),
        image_name=name,
        image_tag=tag,
        image_digest=digest or _digest(status.image_ref),
        image_id=_image_id(status.image_ref),
        labels=labels,
        labels_dropped=dropped,
        created=_time(status.created_at),
        started=_time(status.started_at),
        restarts=_restarts(status),
        privileged=context.privileged if context else info.privileged,
        ip=pod.ip if pod else None,
        command=_command(spec),
        pid=info.pid if status.state == _RUNNING else 0,
        mounts=bounded_list(map(_mount, status.mounts)),
        host_mounts=bounded_list(
            _mount(mount) for mount in status.mounts if not mount.host_path.startswith(_KUBELET)
        ),
        network_mode=(pod and pod.network_mode) or _mode(spec, "network", "pod"),
        pid_mode=(pod and pod.pid_mode) or _mode(spec, "pid", "private"),
        cap_add=bounded_list(added or ()) if context else None,
        pod_ip=pod.ip if pod else None,
        pod_labels=pod.labels if pod else None,
        complete=True,
        **pod_of_labels(labels),
    )


def sandbox_of(status: Any, info: Info, pod: Pod, *, source: str, runtime: str | None) -> Container:
    """Make a container of a pod's sandbox: the one that only holds the pod's namespaces."""
    spec = info.runtime_spec or _Spec()
    return Container(
        id=status.id,
        source=source,
        runtime=runtime,
        labels=pod.labels,
        created=_time(status.created_at),
        privileged=info.privileged,
        ip=pod.ip,
        command=_command(spec),
        pid=info.pid if status.state == _READY else 0,
        network_mode=pod.network_mode or _mode(spec, "network", "pod"),
        pid_mode=pod.pid_mode or _mode(spec, "pid", "private"),
        pod_uid=bounded_text(status.metadata.uid, 64),
        pod_name=bounded_text(status.metadata.name, 256),
        pod_namespace=bounded_text(status.metadata.namespace, 256),
        pod_ip=pod.ip,
        pod_labels=pod.labels,
        is_sandbox=True,
        complete=True,
    )


def _listed(item: Any, pod: dict[str, str] | None, source: str, runtime: str | None) -> Container:
    labels, dropped = bounded_labels(item.labels)
    name, tag, digest = parse_image(item.image.image)
    return Container(
        id=item.id,
        source=source,
        runtime=runtime,
        name=bounded_text(item.metadata.name, 256),
        image_name=name,
        image_tag=tag,
        image_digest=digest or _digest(item.image_ref),
        labels=labels,
        labels_dropped=dropped,
        created=_time(item.created_at),
        restarts=_restarts(item),
        pod_labels=pod,
        **pod_of_labels(labels),
    )


def _listed_sandbox(
    item: Any, labels: dict[str, str], source: str, runtime: str | None
) -> Container:
    return Container(
        id=item.id,
        source=source,
        runtime=runtime,
        labels=labels,
        created=_time(item.created_at),
        pod_uid=bounded_text(item.metadata.uid, 64),
        pod_name=bounded_text(item.metadata.name, 256),
        pod_namespace=bounded_text(item.metadata.namespace, 256),
        pod_labels=labels,
        is_sandbox=True,
    )


def _restarts(told: Any) -> int | None:
    """A container that is to run again is made anew, as the next attempt."""
    return told.metadata.attempt if told.HasField("metadata") else None


def _command(spec: _Spec) -> tuple[str, ...] | None:
    return bounded_list(spec.process.args or ()) if spec.process else None


def _time(nanoseconds: int) -> str | None:
    if nanoseconds <= 0:
        return None
    try:
        when = datetime.fromtimestamp(nanoseconds // 1_000_000 / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _digest(reference: str) -> str | None:
    return bounded_text(reference.partition("@")[2], 256)


def _image_id(reference: str) -> str | None:
    return bounded_text(reference, 256) if reference.startswith("sha256:") else None


def _mount(mount: Any) -> str:
    return f"{mount.host_path}:{mount.container_path}:{'ro' if mount.readonly else 'rw'}"


def _mode(spec: _Spec, namespace: str, own: str) -> str | None:
    """Tell the host's namespace from another: a spec lists only those that are not the host's.

    (A container joins its pod's by path, so it lists one even where the pod has the host's: the
    sandbox's word comes first.)
    """
    if spec.linux is None or spec.linux.namespaces is None:
        return None
    return own if any(ns.type == namespace for ns in spec.linux.namespaces) else "host"
