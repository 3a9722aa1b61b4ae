"""The fields a rule may name.

In: a field's name. Out: its type, where its value comes from, an example and a description; None for a
name that is neither ours nor in the Elastic Common Schema. Ours are what `ecs.py` and the stage that
resolves containers write; a test holds them together.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldInfo:
    """One field. `source` says where the sensor gets it; None for a field of ECS that it lacks.

    `type` is keyword, long, float, boolean, date, ip or object. Below an object any name is known.
    """

    type: str
    source: str | None = None
    example: str = ""
    description: str = ""


class Schema:
    """Known fields: `ours` with all about them, and those of ECS by name and type."""

    def __init__(self, ours: Mapping[str, FieldInfo]) -> None:
        self.ours = ours

    def get(self, name: str) -> FieldInfo | None:
        """Look a field up by its dotted name."""
        found = self.ours.get(name)
        if found is not None:
            return found
        parent = name.rpartition(".")[0]
        while parent:
            if (above := self.ours.get(parent)) is not None and above.type == "object":
                return FieldInfo(type="keyword", source=above.source)
            parent = parent.rpartition(".")[0]
        # ECS is searched in its text and not kept: a rule set asks for few of its 2,600 names.
        ecs = dict(_ecs_fields(_prefixes(name)))
        if name in ecs:
            return FieldInfo(type=ecs[name])
        below_object = any(ecs.get(prefix) == "object" for prefix in _prefixes(name))
        return FieldInfo(type="keyword") if below_object else None

    def names(self) -> Iterator[str]:
        """Give all known names, for suggestions."""
        yield from self.ours
        yield from (name for name, _ in _ecs_fields(None))


def _prefixes(name: str) -> frozenset[str]:
    """`a.b.c` has the prefixes -, a and a.b; - stands for the empty one."""
    parts = name.split(".")
    return frozenset([".".join(parts[:size]) or "-" for size in range(len(parts))])


def _ecs_fields(prefixes: frozenset[str] | None) -> Iterator[tuple[str, str]]:
    """Give names and types, of all fields or of those directly below one of the prefixes."""
    text = resources.files("sensor.rules").joinpath("ecs_fields.txt").read_text(encoding="utf-8")
    for line in text.splitlines():
        prefix, _, rest = line.partition(" ")
        if line.startswith("#") or (prefixes is not None and prefix not in prefixes):
            continue
        for entry in rest.split():
            name, _, kind = entry.partition(":")
            yield (name if prefix == "-" else f"{prefix}.{name}"), kind or "keyword"


_KERNEL = "kernel"
_CONTAINER = "container engine"
_CGROUP = "kernel, the process's cgroups"
_SENSOR = "sensor"
_HOST = "host"

# What is known of a process, at `process` itself and at the processes above it.
_PROCESS: tuple[tuple[str, str, str, str], ...] = (
    ("pid", "long", "1916234", "process id in the host's namespace"),
    ("entity_id", "keyword", "9c3f0c2a…", "identity that outlives the reuse of process ids"),
    ("name", "keyword", "grep", "name it was started by; in rules also the executable's own"),
    ("executable", "keyword", "/usr/bin/grep", "path of the program that runs"),
    ("args", "keyword", '["grep", "-r", "key"]', "arguments, the first one included"),
    ("args_count", "long", "3", "number of arguments"),
    ("command_line", "keyword", "grep -r key", "arguments joined with single spaces"),
    ("working_directory", "keyword", "/srv", "working directory"),
    ("interactive", "boolean", "true", "has a terminal somebody may type at"),
    ("start", "date", "2026-01-01T12:00:00.000000Z", "start of the process"),
    ("tty.char_device.major", "long", "136", "controlling terminal, major number"),
    ("tty.char_device.minor", "long", "0", "controlling terminal, minor number"),
    ("user.id", "keyword", "0", "effective user"),
    ("group.id", "keyword", "0", "effective group"),
)
_RELATIVES = {
    "parent": "the parent",
    "entry_leader": "the first process from outside: a container's entry, a login, a service",
    "session_leader": "the session's leader",
    "group_leader": "the process group's leader",
}
_FIELDS: tuple[tuple[str, str, str, str, str], ...] = (
    ("@timestamp", "date", _KERNEL, "2026-01-01T12:00:00.000000Z", "time of the exec"),
    ("ecs.version", "keyword", _SENSOR, "8.10.0", "version of the schema"),
    ("data_stream.type", "keyword", _SENSOR, "logs", "where the document belongs when indexed"),
    ("data_stream.dataset", "keyword", _SENSOR, "cloud_defend.process", "as above"),
    ("data_stream.namespace", "keyword", _SENSOR, "default", "as above"),
    ("event.id", "keyword", _SENSOR, "3ee85eee…", "identity of the event"),
    ("event.kind", "keyword", _SENSOR, "event", "always event"),
    ("event.category", "keyword", _SENSOR, '["process"]', "always process"),
    ("event.type", "keyword", _SENSOR, '["start"]', "start; info of an exec that failed"),
    ("event.action", "keyword", _SENSOR, "exec", "always exec"),
    ("event.module", "keyword", _SENSOR, "cloud_defend", "module Elastic's rules ask for"),
    ("event.dataset", "keyword", _SENSOR, "cloud_defend.process", "data set of the event"),
    (
        "event.outcome",
        "keyword",
        _KERNEL,
        "success",
        "success; failure of an exec that failed, which only rules see that name this or error.*",
    ),
    ("event.sequence", "long", _SENSOR, "42", "number of the event since the sensor's start"),
    ("error.code", "keyword", _KERNEL, "ENOENT", "why an exec failed, as C names it"),
    ("error.message", "keyword", _HOST, "No such file or directory", "the same in words"),
    (
        "process.previous.executable",
        "keyword",
        _KERNEL,
        "/usr/bin/bash",
        "program that goes on running where an exec failed",
    ),
    ("process.previous.args", "keyword", _KERNEL, '["bash"]', "what that was started with"),
    ("process.previous.args_count", "long", _KERNEL, "1", "number of those arguments"),
    ("host.id", "keyword", _HOST, "1bb9e6a9…", "machine id"),
    ("host.hostname", "keyword", _HOST, "node-1", "name of the host"),
    ("host.name", "keyword", _HOST, "node-1", "name of the host"),
    ("host.architecture", "keyword", _HOST, "x86_64", "architecture"),
    ("host.boot.id", "keyword", _HOST, "815a760f-…", "boot id"),
    ("host.os.type", "keyword", _HOST, "linux", "always linux"),
    ("host.os.kernel", "keyword", _HOST, "6.8.0", "kernel release"),
    ("user.id", "keyword", _KERNEL, "0", "effective user of the process"),
    ("user.name", "keyword", _HOST, "root", "name of that user, where it is certain"),
    ("group.id", "keyword", _KERNEL, "0", "effective group of the process"),
    ("process.real_user.id", "keyword", _KERNEL, "1000", "real user"),
    ("process.real_group.id", "keyword", _KERNEL, "1000", "real group"),
    (
        "process.entry_leader.entry_meta.type",
        "keyword",
        _KERNEL,
        "container",
        "how it came in: container, sshd, console, ssm or init",
    ),
    ("sensor.filename", "keyword", _KERNEL, "./grep", "path as it was given to execve"),
    ("sensor.args_bytes", "long", _KERNEL, "27", "size of all arguments in bytes"),
    ("sensor.args_truncated", "boolean", _KERNEL, "false", "arguments past the limit are cut off"),
    ("sensor.args_read_error", "boolean", _KERNEL, "false", "arguments could not be read whole"),
    ("sensor.args_base64", "keyword", _KERNEL, '["L/8="]', "arguments' bytes, where not UTF-8"),
    ("sensor.executable_deleted", "boolean", _KERNEL, "false", "the program has no file any more"),
    ("sensor.executable_memfd", "boolean", _KERNEL, "false", "the program lies in memory only"),
    (
        "sensor.entered_by_exec",
        "boolean",
        _CONTAINER,
        "true",
        "started from outside into a running container, as by docker exec; unknown is left out",
    ),
    ("sensor.ancestor_entity_ids", "keyword", _KERNEL, '["9c3f…"]', "ancestors, parent first"),
    ("container.id", "keyword", _CGROUP, "5f2b0c3c…", "there exactly when it ran in a container"),
    ("container.runtime", "keyword", _CGROUP, "docker", "container runtime"),
    ("container.outer_ids", "keyword", _CGROUP, '["77aa…"]', "containers around the container"),
    ("container.outer.id", "keyword", _CONTAINER, "77aa…", "the known container around it"),
    ("container.outer.name", "keyword", _CONTAINER, "kind-worker", "its name"),
    ("container.outer.image.name", "keyword", _CONTAINER, "kindest/node", "its image"),
    ("container.outer.image.tag", "keyword", _CONTAINER, '["v1.30"]', "its image's tags"),
    ("container.outer.security_context.privileged", "boolean", _CONTAINER, "true", "it is so"),
    ("container.name", "keyword", _CONTAINER, "web", "name of the container"),
    ("container.created", "date", _CONTAINER, "2026-01-01T11:00:00Z", "creation of the container"),
    ("container.restart_count", "long", _CONTAINER, "0", "times the engine started it again"),
    ("container.image.name", "keyword", _CONTAINER, "docker.io/library/nginx", "image"),
    ("container.image.tag", "keyword", _CONTAINER, '["1.27"]', "tags of the image"),
    ("container.image.hash.all", "keyword", _CONTAINER, '["sha256:…"]', "digests of the image"),
    ("container.labels", "object", _CONTAINER, "container.labels.app", "labels, by their names"),
    ("container.command", "keyword", _CONTAINER, '["nginx"]', "command of the container"),
    ("container.ip", "ip", _CONTAINER, '["172.17.0.2"]', "addresses of the container"),
    ("container.security_context.privileged", "boolean", _CONTAINER, "false", "runs privileged"),
    (
        "container.security_context.capabilities_added",
        "keyword",
        _CONTAINER,
        '["SYS_ADMIN"]',
        "capabilities beyond the usual",
    ),
    ("container.security_context.network_mode", "keyword", _CONTAINER, "host", "network mode"),
    ("container.security_context.pid_mode", "keyword", _CONTAINER, "host", "pid namespace mode"),
    (
        "container.security_context.mounts",
        "keyword",
        _CONTAINER,
        '["web:/data:rw"]',
        "source:destination:ro or rw",
    ),
    (
        "container.security_context.host_mounts",
        "keyword",
        _CONTAINER,
        '["/var/run/docker.sock:/var/run/docker.sock:ro"]',
        "paths of the host that are mounted inside: source:destination:ro or rw",
    ),
    ("container.identity.state", "keyword", _CGROUP, "container", "container, host or unknown"),
    ("container.identity.reason", "keyword", _CGROUP, "cgroup", "what the state rests on"),
    ("container.identity.source", "keyword", _CGROUP, "cgroup", "where the id was found"),
    (
        "container.identity.host_namespaces",
        "boolean",
        _KERNEL,
        "true",
        "the host's mounts all the same",
    ),
    (
        "container.identity.foreign_namespaces",
        "boolean",
        _KERNEL,
        "true",
        "not the host's pid namespace",
    ),
    ("container.identity.conflicting_ids", "keyword", _CGROUP, "[]", "other ids that were found"),
    ("container.identity.claimed_id", "keyword", _CGROUP, "5f2b…", "an id that was not believed"),
    ("container.identity.truncated", "boolean", _CGROUP, "true", "a cgroup's path was cut off"),
    ("container.resolution.state", "keyword", _SENSOR, "resolved", "outcome of asking the engine"),
    ("container.resolution.source", "keyword", _SENSOR, "docker", "which engine answered"),
    ("container.resolution.reason", "keyword", _SENSOR, "timeout", "why it is not resolved"),
    ("container.resolution.elapsed_ms", "float", _SENSOR, "3.1", "time it took"),
    ("container.resolution.disagreement", "keyword", _SENSOR, "[]", "what engines contradict in"),
    ("container.resolution.labels_dropped", "long", _SENSOR, "3", "labels beyond the limit"),
    ("orchestrator.type", "keyword", _CONTAINER, "kubernetes", "always kubernetes"),
    ("orchestrator.cluster.name", "keyword", "configuration", "production", "the cluster"),
    ("orchestrator.namespace", "keyword", _CONTAINER, "default", "namespace of the pod"),
    ("orchestrator.resource.type", "keyword", _CONTAINER, "pod", "always pod"),
    ("orchestrator.resource.id", "keyword", _CGROUP, "0f6c…", "uid of the pod"),
    ("orchestrator.resource.name", "keyword", _CONTAINER, "web-7d9f", "name of the pod"),
    ("orchestrator.resource.ip", "ip", _CONTAINER, '["10.0.0.7"]', "address of the pod"),
    ("orchestrator.resource.label", "keyword", _CONTAINER, '["app:web"]', "labels of the pod"),
    ("orchestrator.resource.parent.type", "keyword", _CONTAINER, "ReplicaSet", "what made the pod"),
    ("orchestrator.resource.parent.name", "keyword", _CONTAINER, "web", "its name"),
    ("orchestrator.resource.qos_class", "keyword", _CGROUP, "BestEffort", "class of the pod"),
)


def _ours() -> dict[str, FieldInfo]:
    fields = {
        name: FieldInfo(type=kind, source=source, example=example, description=description)
        for name, kind, source, example, description in _FIELDS
    }
    for name, kind, example, description in _PROCESS:
        fields[f"process.{name}"] = FieldInfo(
            type=kind, source=_KERNEL, example=example, description=description
        )
        for relative, whose in _RELATIVES.items():
            fields[f"process.{relative}.{name}"] = FieldInfo(
                type=kind, source=_KERNEL, example=example, description=f"{description}, of {whose}"
            )
    for relative, whose in _RELATIVES.items():
        fields[f"process.{relative}.same_as_process"] = FieldInfo(
            type="boolean",
            source=_KERNEL,
            example="false",
            description=f"{whose} is the process itself",
        )
    return dict(sorted(fields.items()))


DEFAULT_SCHEMA = Schema(_ours())
