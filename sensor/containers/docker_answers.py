"""The bytes of Docker's API in, `Container`s and `Change`s out; Podman's answers are the same.

Only the fields named here are decoded, so an answer costs what is kept of it and not what was sent.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from sensor.containers.container import (
    Container,
    bounded_labels,
    bounded_list,
    bounded_text,
    parse_image,
    pod_of_labels,
)
from sensor.containers.source import Change, SourceGarbageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sensor.containers.source import ChangeKind


T = TypeVar("T")

# What an event's attributes hold beside the container's labels.
_NOT_LABELS: Final = frozenset(
    {"containerExitCode", "execID", "exitCode", "image", "name", "oldName", "podId", "signal"}
)
_CHANGES: Final[Mapping[str, ChangeKind]] = {
    "start": "start",
    "rename": "rename",
    "update": "update",
    "die": "die",
    "died": "die",
    "destroy": "destroy",
    "remove": "destroy",
    "exec_create": "exec",
    "exec": "exec",
}
_SHORT_ID: Final = re.compile(r"[0-9a-f]{12,64}")


class _Answer(msgspec.Struct, rename="pascal", gc=False):
    pass


class _Component(_Answer):
    name: str = ""


class Version(_Answer):
    api_version: str = ""
    components: list[_Component] | None = None

    @property
    def is_podman(self) -> bool:
        return any(component.name == "Podman Engine" for component in self.components or ())


class _Config(_Answer):
    image: str | None = None
    labels: dict[str, str] | None = None


class _State(_Answer):
    running: bool = False
    pid: int = 0
    started_at: str | None = None


class _HostConfig(_Answer):
    privileged: bool = False
    network_mode: str | None = None
    pid_mode: str | None = None
    cap_add: list[str] | None = None
    cgroup_parent: str | None = None


class _Mount(_Answer):
    type: str | None = None
    source: str | None = None
    destination: str | None = None
    rw: bool = msgspec.field(default=True, name="RW")


class _Network(_Answer):
    ip_address: str | None = msgspec.field(default=None, name="IPAddress")


class _Networks(_Answer):
    ip_address: str | None = msgspec.field(default=None, name="IPAddress")
    networks: dict[str, _Network | None] | None = None


class Inspected(_Answer):
    """GET /containers/ID/json."""

    id: str
    name: str | None = None
    created: str | None = None
    image: str | None = None
    path: str | None = None
    args: list[str] | None = None
    config: _Config | None = None
    state: _State | None = None
    host_config: _HostConfig | None = None
    mounts: list[_Mount] | None = None
    network_settings: _Networks | None = None
    restart_count: int | None = None


class Listed(_Answer):
    """One element of GET /containers/json."""

    id: str
    names: list[str] | None = None
    image: str | None = None
    image_id: str | None = msgspec.field(default=None, name="ImageID")
    labels: dict[str, str] | None = None
    created: int | None = None


class Image(_Answer):
    """GET /images/ID/json."""

    repo_tags: list[str] | None = None
    repo_digests: list[str] | None = None


class _Actor(_Answer):
    id: str = msgspec.field(default="", name="ID")
    attributes: dict[str, str] | None = None


class Event(msgspec.Struct, gc=False):
    """One line of GET /events. `action` carries the command after a colon for execs."""

    type: str = msgspec.field(default="", name="Type")
    action: str = msgspec.field(default="", name="Action")
    actor: _Actor | None = msgspec.field(default=None, name="Actor")
    time_nano: int = msgspec.field(default=0, name="timeNano")


# Made once, on one thread: msgspec shows a type to other threads while it is still making it, and one
# that decodes by it then ends the process.
_DECODERS: Final[dict[Any, msgspec.json.Decoder[Any]]] = {
    kind: msgspec.json.Decoder(kind) for kind in (Version, Inspected, list[Listed], Image, Event)
}


def decode(body: bytes, kind: type[T], source: str) -> T:
    """Decode one answer; raises SourceGarbageError for whatever is not of this kind."""
    try:
        answer: T = _DECODERS[kind].decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SourceGarbageError(f"{source}: {error}"[:200]) from error
    return answer


def inspected(answer: Inspected, image: Image | None, *, source: str, runtime: str) -> Container:
    """Make a whole container of an inspect and, where it could be had, its image's."""
    config = answer.config or _Config()
    state = answer.state or _State()
    host = answer.host_config or _HostConfig()
    labels, dropped = bounded_labels(config.labels)
    reference = config.image
    if image is not None and image.repo_tags and _is_image_id(reference):
        reference = image.repo_tags[0]
    name, tag, digest = parse_image(reference)
    if digest is None and image is not None and image.repo_digests:
        digest = parse_image(image.repo_digests[0])[2]
    mounts = [mount for mount in answer.mounts or () if mount.destination]
    return Container(
        id=answer.id,
        source=source,
        runtime=runtime,
        name=_name([answer.name or ""]),
        image_name=name,
        image_tag=tag,
        image_digest=digest,
        image_id=bounded_text(_with_algorithm(answer.image), 256),
        labels=labels,
        labels_dropped=dropped,
        created=timestamp(answer.created),
        started=timestamp(state.started_at),
        restarts=answer.restart_count,
        privileged=host.privileged,
        ip=_address(answer.network_settings),
        command=bounded_list([answer.path, *(answer.args or ())] if answer.path else ()),
        pid=state.pid if state.running else 0,
        mounts=bounded_list(map(_mount, mounts)),
        host_mounts=bounded_list(_mount(mount) for mount in mounts if mount.type == "bind"),
        network_mode=bounded_text(host.network_mode),
        pid_mode=bounded_text(host.pid_mode) or "private",
        cap_add=bounded_list(host.cap_add or ()),
        cgroup_parent=bounded_text(host.cgroup_parent),
        is_sandbox=labels.get("io.kubernetes.docker.type") == "podsandbox",
        complete=True,
        **pod_of_labels(labels),
    )


def listed(answers: Iterable[Listed], *, source: str, runtime: str) -> tuple[Container, ...]:
    """Make what a list tells of each container: enough to name it."""
    containers = []
    for answer in answers:
        labels, dropped = bounded_labels(answer.labels)
        name, tag, digest = parse_image(answer.image)
        containers.append(
            Container(
                id=answer.id,
                source=source,
                runtime=runtime,
                name=_name(answer.names or ()),
                image_name=name,
                image_tag=tag,
                image_digest=digest,
                image_id=bounded_text(_with_algorithm(answer.image_id), 256),
                labels=labels,
                labels_dropped=dropped,
                created=_of_seconds(answer.created),
                **pod_of_labels(labels),
            )
        )
    return tuple(containers)


def change(event: Event, *, source: str, runtime: str) -> Change | None:
    """Make a change of an event; None for those that change nothing that is kept."""
    actor = event.actor
    if event.type != "container" or actor is None or not actor.id:
        return None
    action, _, _ = event.action.partition(":")
    attributes = actor.attributes or {}
    if action == "create":
        return Change(kind="create", containers=(_created(actor.id, attributes, source, runtime),))
    kind = _CHANGES.get(action)
    if kind is None:
        return None
    return Change(
        kind=kind,
        container_id=actor.id,
        name=bounded_text(attributes.get("name", "").lstrip("/")),
        exec_id=bounded_text(attributes.get("execID"), 64),
    )


def timestamp(text: str | None) -> str | None:
    """Return an engine's time in UTC with milliseconds; None for Go's zero time and nonsense."""
    try:
        when = datetime.fromisoformat(text or "").astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return None if when.year <= 1970 else _iso(when)


def _of_seconds(seconds: int | None) -> str | None:
    try:
        return _iso(datetime.fromtimestamp(seconds, UTC)) if seconds else None
    except (ValueError, OverflowError, OSError):
        return None


def _iso(when: datetime) -> str:
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _created(
    container_id: str, attributes: Mapping[str, str], source: str, runtime: str
) -> Container:
    labels, dropped = bounded_labels(
        {key: text for key, text in attributes.items() if key not in _NOT_LABELS}
    )
    name, tag, digest = parse_image(attributes.get("image"))
    return Container(
        id=container_id,
        source=source,
        runtime=runtime,
        name=_name([attributes.get("name", "")]),
        image_name=name,
        image_tag=tag,
        image_digest=digest,
        labels=labels,
        labels_dropped=dropped,
        **pod_of_labels(labels),
    )


def _name(names: Iterable[str]) -> str | None:
    """Take the container's own name: links add names like `/other/alias`."""
    own = [name.removeprefix("/") for name in names if "/" not in name.removeprefix("/")]
    return bounded_text(own[0], 256) if own else None


def _mount(mount: _Mount) -> str:
    return f"{mount.source or ''}:{mount.destination}:{'rw' if mount.rw else 'ro'}"


def _address(settings: _Networks | None) -> str | None:
    if settings is None:
        return None
    if settings.ip_address:
        return bounded_text(settings.ip_address, 64)
    for network in (settings.networks or {}).values():
        if network is not None and network.ip_address:
            return bounded_text(network.ip_address, 64)
    return None


def _is_image_id(reference: str | None) -> bool:
    """Tell `docker run <image id>`, which names no image, from a reference."""
    return reference is not None and (
        reference.startswith("sha256:") or _SHORT_ID.fullmatch(reference) is not None
    )


def _with_algorithm(image_id: str | None) -> str | None:
    """Podman leaves the algorithm out of an image id."""
    return image_id if not image_id or ":" in image_id else f"sha256:{image_id}"
