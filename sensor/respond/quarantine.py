"""Cutting a pod off: a NetworkPolicy that lets nothing in or out, and the label it goes by.

In: an alert's document. Out: the policy as YAML, and kubectl's command lines. The policy holds where the
cluster's network plugin enforces policies.
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from typing import Any, Final

from sensor.alerts.fields import text
from sensor.respond.errors import ResponseError

LABEL: Final = "sensor.quarantine"
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantine:
    """A pod to be cut off. `mark` is the label's value, the same for the same pod."""

    namespace: str
    pod: str
    mark: str

    @property
    def policy_name(self) -> str:
        """The NetworkPolicy's name."""
        return f"{LABEL.replace('.', '-')}-{self.mark}"

    def policy(self) -> str:
        """The NetworkPolicy."""
        import yaml  # noqa: PLC0415 - where it is used

        document = {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {
                "name": self.policy_name,
                "namespace": self.namespace,
                "labels": {LABEL: self.mark},
            },
            "spec": {
                "podSelector": {"matchLabels": {LABEL: self.mark}},
                "policyTypes": ["Ingress", "Egress"],
            },
        }
        text: str = yaml.safe_dump(document, sort_keys=False)
        return text

    def commands(self, file: str) -> tuple[tuple[str, ...], ...]:
        """What puts it in force: the policy first, so that the label finds it."""
        pod = ("label", "pod", self.pod, f"{LABEL}={self.mark}", "--overwrite")
        return (
            ("kubectl", "apply", "--filename", file),
            ("kubectl", "--namespace", self.namespace, *pod),
        )

    def undo(self) -> tuple[tuple[str, ...], ...]:
        """What takes it back."""
        there = ("kubectl", "--namespace", self.namespace)
        return (
            (*there, "delete", "networkpolicy", self.policy_name, "--ignore-not-found"),
            (*there, "label", "pod", self.pod, f"{LABEL}-"),
        )


def quarantine_of(document: dict[str, Any]) -> Quarantine:
    """The pod of the alert. Raises ResponseError where the alert names none.

    Names come from labels that whoever started the container wrote: what Kubernetes would not allow
    is refused, for it would be an option or another path to kubectl.
    """
    pod = text(document, "orchestrator.resource.name")
    namespace = text(document, "orchestrator.namespace")
    if not pod or not namespace:
        raise ResponseError("the alert names no pod: quarantine is for Kubernetes")
    for name in (pod, namespace):
        if not _NAME.fullmatch(name):
            raise ResponseError(f"{name[:80]!r} is no name that Kubernetes allows")
    identifier = text(document, "container.id")
    if not identifier:
        raise ResponseError("the alert names no container")
    return Quarantine(namespace=namespace, pod=pod, mark=identifier[:12])


def shell(command: tuple[str, ...]) -> str:
    """A command line to be copied."""
    return shlex.join(command)
