"""deploy/kubernetes and deploy/helm as the objects that a cluster would be given."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_tools
import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
CHART = DEPLOY / "helm/ebpf-container-sensor"
NAMESPACE = "ebpf-container-sensor"


def program(name: str) -> str:
    """The path of kubectl or helm; without it the test does not run."""
    found = kubernetes_tools.find(name)
    if found is None:
        pytest.skip(kubernetes_tools.MISSING.format(name))
    return found


def run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def kustomized(folder: Path) -> list[Any]:
    """The objects of a kustomization."""
    return list(yaml.safe_load_all(run(program("kubectl"), "kustomize", folder)))


def kustomization(folder: Path, components: tuple[str, ...], **more: Any) -> Path:
    """Write a kustomization of the base with components into an empty folder, as a user would."""
    content = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        # kustomize takes no absolute paths.
        "resources": [os.path.relpath(KUBERNETES / "base", folder)],
        "components": [
            os.path.relpath(KUBERNETES / "components" / name, folder) for name in components
        ],
        **more,
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(content))
    return folder


def charted(*settings: str) -> list[Any]:
    """The objects of the chart with `--set` for each of `settings`."""
    arguments = [argument for setting in settings for argument in ("--set", setting)]
    release = [program("helm"), "template", "sensor", CHART, "--namespace", NAMESPACE]
    return [each for each in yaml.safe_load_all(run(*release, *arguments)) if each]
