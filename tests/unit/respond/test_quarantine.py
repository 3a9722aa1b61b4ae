"""A pod's quarantine: a policy that lets nothing through, and command lines that are safe to run."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from sensor.respond.errors import ResponseError
from sensor.respond.quarantine import quarantine_of, shell

ID = "e" * 64


def alert(pod: str = "web-7d9", namespace: str = "shop") -> dict[str, Any]:
    return {
        "container": {"id": ID},
        "orchestrator": {"namespace": namespace, "resource": {"name": pod, "type": "pod"}},
    }


def test_the_policy_denies_both_directions_for_the_marked_pod_alone() -> None:
    found = quarantine_of(alert())
    policy = yaml.safe_load(found.policy())
    assert policy["metadata"]["namespace"] == "shop"
    assert policy["spec"] == {
        "podSelector": {"matchLabels": {"sensor.quarantine": ID[:12]}},
        "policyTypes": ["Ingress", "Egress"],
    }
    assert found.commands("p.yaml") == (
        ("kubectl", "apply", "--filename", "p.yaml"),
        (
            *("kubectl", "--namespace", "shop", "label", "pod", "web-7d9"),
            *(f"sensor.quarantine={ID[:12]}", "--overwrite"),
        ),
    )


def test_undo_takes_away_both() -> None:
    delete, unlabel = map(shell, quarantine_of(alert()).undo())
    assert f"delete networkpolicy sensor-quarantine-{ID[:12]}" in delete
    assert unlabel == "kubectl --namespace shop label pod web-7d9 sensor.quarantine-"


@pytest.mark.parametrize(
    "document",
    [
        alert(pod="--all"),
        alert(pod="a b"),
        alert(namespace="../x"),
        alert(pod="web\n"),
        alert(pod=""),
        alert() | {"container": {}},
        {},
    ],
)
def test_what_kubernetes_would_not_allow_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(ResponseError):
        quarantine_of(document)
