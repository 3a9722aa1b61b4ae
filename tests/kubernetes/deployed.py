"""The sensor on the node: installed and removed by kubectl, its alerts read from its pods' standard output."""

from __future__ import annotations

import json
import os
import re
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from node import Node, NodeError, cgroups, wait_for

sys.path.append(str(Path(__file__).parents[1] / "deploy"))

from rendering import NAMESPACE, kustomization

DAEMON_SET = "ebpf-container-sensor"
IMAGE = "docker.io/library/ebpf-container-sensor:0.1.0"
ALERT_SECONDS = 30
UID = re.compile(r"^Uid:\t(\d+)", re.MULTILINE)

# What the node's Kubernetes, 1.20, is too old for. All else is as the user gets it. Of two sensors that overlap
# while one takes over from the other, a test of its own sees to.
TOO_OLD = [
    {
        "op": "replace",
        "path": "/spec/updateStrategy/rollingUpdate",
        "value": {"maxUnavailable": 1},
    }
]
# The machine's other containers, which may be of other tests, use up no limit of a rule.
NO_LIMIT = [
    {
        "op": "add",
        "path": "/spec/template/spec/containers/0/env/-",
        "value": {"name": "SENSOR_ALERTS__LIMIT", "value": "false"},
    }
]
TOO_OLD_LEAST_PRIVILEGE = [
    {"op": "remove", "path": "/spec/template/spec/securityContext/appArmorProfile"}
]


class Log:
    """What one container wrote, read on from where it was read before. Held open, it outlives its name."""

    def __init__(self, path: Path) -> None:
        self._file = path.open(errors="replace")
        self._lines: list[tuple[str, str]] = []
        self._text = ""  # of a line of the file that is not at its end
        self._begun = ""  # of a line of the container's that goes on in the file's next

    def lines(self) -> list[tuple[str, str]]:
        *whole, self._text = (self._text + self._file.read()).split("\n")
        for line in whole:
            # Each has a time, an output, and F for a whole line or P for one that goes on.
            _, stream, part, text = line.split(" ", 3)
            self._begun += text
            if part == "F":
                self._lines.append((stream, self._begun))
                self._begun = ""
        return self._lines


class Deployed:
    """One installation; `components` as in deploy/kubernetes, `rules` more of them by their file's name."""

    def __init__(self, node: Node, folder: Path, components: Sequence[str] = ()) -> None:
        self._node = node
        self._folder = folder
        self._components = tuple(components)
        self._logs: dict[str, dict[Path, Log]] = {}

    def configure(self, rules: dict[str, str] | None = None, **more: Any) -> Path:
        """Write the kustomization; `more` are further keys of it. Returns its folder."""
        patches = [
            *TOO_OLD,
            *NO_LIMIT,
            *(TOO_OLD_LEAST_PRIVILEGE if "least-privilege" in self._components else ()),
        ]
        for name, text in (rules or {}).items():
            (self._folder / name).write_text(text)
        generator = {
            "name": "sensor-rules",
            "namespace": NAMESPACE,
            "behavior": "merge",
            "files": sorted(rules or {}),
        }
        return kustomization(
            self._folder,
            self._components,
            patches=[{"target": {"kind": "DaemonSet"}, "patch": json.dumps(patches)}],
            configMapGenerator=[generator] if rules else [],
            **more,
        )

    def apply(self, *options: str) -> list[str]:
        """`kubectl apply -k`; returns what it says of each object."""
        return self._node.kubectl("apply", "--kustomize", self._folder, *options).splitlines()

    def delete(self) -> None:
        """`kubectl delete -k`; returns when all is gone."""
        self._node.kubectl("delete", "--kustomize", self._folder, "--ignore-not-found", "--wait")

    def roll_out(self, name: str = DAEMON_SET) -> None:
        """Wait until each node has a pod as it was last applied, and it is ready."""
        try:
            rolled = ("rollout", "status", f"daemonset/{name}", "--timeout=180s")
            self._node.kubectl("--namespace", NAMESPACE, *rolled)
        except NodeError as error:
            said = [line for pod in self.pods() for _, line in self.lines(pod)[-10:]]
            raise NodeError("\n".join([str(error), *said])) from error

    def pods(self) -> list[str]:
        """The names of its pods that are not on their way out."""
        return [
            pod["metadata"]["name"]
            for pod in self._node.json("--namespace", NAMESPACE, "get", "pods")["items"]
            if "deletionTimestamp" not in pod["metadata"]
        ]

    def pod(self) -> dict[str, Any]:
        (name,) = self.pods()
        return dict(self._node.json("--namespace", NAMESPACE, "get", "pod", name))

    def lines(self, pod: str) -> list[tuple[str, str]]:
        """What a pod of it wrote: the output, and the line. Asked for once, it is there when the pod is gone."""
        logs = self._logs.setdefault(pod, {})
        for path in self._node.logs(NAMESPACE, pod, "sensor"):
            if path not in logs:
                logs[path] = Log(path)
        return [line for log in logs.values() for line in log.lines()]

    def alerts(self, pod: str) -> list[dict[str, Any]]:
        found = []
        for stream, line in self.lines(pod):
            if stream == "stdout":
                found.append(json.loads(line))  # nothing but documents
        return found

    def await_alert(
        self, fits: Callable[[dict[str, Any]], bool], pod: str | None = None
    ) -> dict[str, Any]:
        """The first alert that fits; of the only pod, if none is named."""
        name = pod or self.pods()[0]

        def find() -> dict[str, Any] | None:
            return next((alert for alert in self.alerts(name) if fits(alert)), None)

        try:
            return wait_for(find, "the alert", ALERT_SECONDS)
        except NodeError as error:
            last = "\n".join(line for _, line in self.lines(name)[-10:])
            raise NodeError(f"{error}; the last of the sensor's lines:\n{last}") from error

    def metrics(self) -> dict[str, float]:
        """What a scrape of the pod's port gives: each sample by its name with labels."""
        path = f"/api/v1/namespaces/{NAMESPACE}/pods/{self.pods()[0]}:9477/proxy/metrics"
        text = self._node.kubectl("get", "--raw", path)
        samples = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, _, value in samples}

    def processes(self) -> list[int]:
        """The ids of the sensor's processes, as the machine counts them."""
        container = self.pod()["status"]["containerStatuses"][0]["containerID"].rpartition("/")[2]
        found: set[int] = set()
        for each in cgroups():
            for path in each.rglob(f"{container}/cgroup.procs"):
                found.update(map(int, path.read_text().split()))
        return sorted(found)

    def memory(self) -> float:
        """Its proportional set size in MB."""
        total = 0
        for pid in self.processes():
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
            total += int(re.findall(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)[0])
        return total / 1024

    def processor_seconds(self) -> float:
        """The time its processes have used so far."""
        ticks = 0
        for pid in self.processes():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def mentions(word: str) -> Callable[[dict[str, Any]], bool]:
    """Whether an alert is of a command line with `word`."""
    return lambda alert: word in alert.get("process", {}).get("command_line", "")


def everything(node: Node) -> set[str]:
    """All objects of the cluster, but those that come and go by themselves."""
    kinds = node.kubectl("api-resources", "--verbs=list", "--output=name").split()
    passing = (
        "events",
        "events.events.k8s.io",
        "leases.coordination.k8s.io",
        "pods",
        "componentstatuses",
    )
    wanted = ",".join(kind for kind in kinds if kind not in passing)
    return set(node.kubectl("get", wanted, "--all-namespaces", "--output=name").split())


def pause(seconds: float) -> None:
    """Let a measurement go on for a while."""
    with suppress(InterruptedError):
        time.sleep(seconds)
