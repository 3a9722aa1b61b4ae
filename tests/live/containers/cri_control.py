"""The part of the CRI that starts and ends pods: what kubelet does, for tests.

Messages are made from a table at run time, so that the product's own messages stay those it reads.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from patience import patient

if TYPE_CHECKING:
    from pathlib import Path

STRING, BOOL, INT, UINT32 = 9, 8, 5, 13
NODE, POD = 2, 0
# message: {field: (number, type, is repeated)}; a name is another message, `map` two strings
MAP = "map"
MESSAGES: dict[str, dict[str, tuple[int, int | str, bool]]] = {
    "Empty": {},
    "VersionResponse": {"runtime_name": (2, STRING, False)},
    "PodSandboxMetadata": {
        "name": (1, STRING, False),
        "uid": (2, STRING, False),
        "namespace": (3, STRING, False),
    },
    "NamespaceOption": {"network": (1, INT, False), "pid": (2, INT, False), "ipc": (3, INT, False)},
    "LinuxSandboxSecurityContext": {"namespace_options": (1, "NamespaceOption", False)},
    "LinuxPodSandboxConfig": {
        "cgroup_parent": (1, STRING, False),
        "security_context": (2, "LinuxSandboxSecurityContext", False),
    },
    "PodSandboxConfig": {
        "metadata": (1, "PodSandboxMetadata", False),
        "log_directory": (3, STRING, False),
        "labels": (6, MAP, True),
        "linux": (8, "LinuxPodSandboxConfig", False),
    },
    "RunPodSandboxRequest": {"config": (1, "PodSandboxConfig", False)},
    "PodSandboxId": {"pod_sandbox_id": (1, STRING, False)},
    "ContainerMetadata": {"name": (1, STRING, False), "attempt": (2, UINT32, False)},
    "ImageSpec": {"image": (1, STRING, False)},
    "LinuxContainerSecurityContext": {"namespace_options": (3, "NamespaceOption", False)},
    "LinuxContainerConfig": {"security_context": (2, "LinuxContainerSecurityContext", False)},
    "ContainerConfig": {
        "metadata": (1, "ContainerMetadata", False),
        "image": (2, "ImageSpec", False),
        "command": (3, STRING, True),
        "labels": (9, MAP, True),
        "log_path": (11, STRING, False),
        "linux": (15, "LinuxContainerConfig", False),
    },
    "CreateContainerRequest": {
        "pod_sandbox_id": (1, STRING, False),
        "config": (2, "ContainerConfig", False),
        "sandbox_config": (3, "PodSandboxConfig", False),
    },
    "ContainerId": {"container_id": (1, STRING, False)},
    "ExecSyncRequest": {"container_id": (1, STRING, False), "cmd": (2, STRING, True)},
    "ExecSyncResponse": {"exit_code": (3, INT, False)},
}


def _classes() -> dict[str, Any]:
    package = "sensor.test.cri"
    described = descriptor_pb2.FileDescriptorProto(name="cri_control", package=package)
    described.syntax = "proto3"
    for name, fields in MESSAGES.items():
        message = described.message_type.add(name=name)
        for field, (number, kind, repeated) in fields.items():
            one = message.field.add(name=field, number=number, label=3 if repeated else 1)
            if kind == MAP:
                entry = message.nested_type.add(name=f"{field.capitalize()}Entry")
                entry.options.map_entry = True
                for key_or_value, its_number in (("key", 1), ("value", 2)):
                    entry.field.add(name=key_or_value, number=its_number, label=1, type=STRING)
                one.type, one.type_name = 11, f".{package}.{name}.{entry.name}"
            elif isinstance(kind, str):
                one.type, one.type_name = 11, f".{package}.{kind}"
            else:
                one.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(described.SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}"))
        for name in MESSAGES
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningPod:
    """A pod with one container, as it was asked for."""

    sandbox_id: str
    container_id: str
    name: str
    uid: str


class Cri:
    """A client of one runtime."""

    def __init__(self, socket: str, logs: Path) -> None:
        self._channel = grpc.insecure_channel(f"unix://{socket}")
        self._logs = logs
        self._messages = _classes()

    def version(self) -> str:
        return str(self._call("Version", "Empty", "VersionResponse").runtime_name)

    def run(
        self,
        name: str,
        image: str,
        command: list[str],
        cgroup_parent: str,
        *,
        namespace: str = "shop",
        attempt: int = 0,
    ) -> RunningPod:
        """Run a pod with one container; `{uid}` in the cgroup's parent is the pod's."""
        uid = str(uuid.uuid4())
        pod_labels = {
            "io.kubernetes.pod.name": name,
            "io.kubernetes.pod.namespace": namespace,
            "io.kubernetes.pod.uid": uid,
        }
        options = {"network": NODE, "pid": POD, "ipc": POD}
        config = self._messages["PodSandboxConfig"](
            metadata={"name": name, "uid": uid, "namespace": namespace},
            log_directory=str(self._logs / uid),
            labels={**pod_labels, "app": name},
            linux={
                "cgroup_parent": cgroup_parent.format(uid=uid),
                "security_context": {"namespace_options": options},
            },
        )
        sandbox = self._call("RunPodSandbox", "RunPodSandboxRequest", "PodSandboxId", config=config)
        container = self._call(
            "CreateContainer",
            "CreateContainerRequest",
            "ContainerId",
            pod_sandbox_id=sandbox.pod_sandbox_id,
            sandbox_config=config,
            config=self._messages["ContainerConfig"](
                metadata={"name": "app", "attempt": attempt},
                image={"image": image},
                command=command,
                labels={**pod_labels, "io.kubernetes.container.name": "app"},
                log_path="app.log",
                linux={"security_context": {"namespace_options": options}},
            ),
        )
        self._call("StartContainer", "ContainerId", "Empty", container_id=container.container_id)
        return RunningPod(
            sandbox_id=sandbox.pod_sandbox_id,
            container_id=container.container_id,
            name=name,
            uid=uid,
        )

    def execute(self, container_id: str, command: list[str]) -> int:
        answer = self._call(
            "ExecSync",
            "ExecSyncRequest",
            "ExecSyncResponse",
            container_id=container_id,
            cmd=command,
        )
        return int(answer.exit_code)

    def remove(self, pod: RunningPod) -> None:
        self._call("StopPodSandbox", "PodSandboxId", "Empty", pod_sandbox_id=pod.sandbox_id)
        self._call("RemovePodSandbox", "PodSandboxId", "Empty", pod_sandbox_id=pod.sandbox_id)

    def _call(self, method: str, request: str, response: str, **fields: Any) -> Any:
        call = self._channel.unary_unary(
            f"/runtime.v1.RuntimeService/{method}",
            request_serializer=self._messages[request].SerializeToString,
            response_deserializer=self._messages[response].FromString,
        )
        return call(self._messages[request](**fields), timeout=patient(60))
