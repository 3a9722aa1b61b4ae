"""deploy/helm: whatever is switched on, the chart makes what the kustomizations make, object by object."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from rendering import CHART, charted, kustomization, kustomized, program, run

import sensor
from sensor.config import load_config

Objects = dict[tuple[str, str], Any]

# What each side says of itself: who made an object, and what it is part of.
OWN_LABELS = re.compile(
    r"^(app\.kubernetes\.io/(name|component|version|managed-by|instance)|helm\.sh/chart)$"
)
HASH = re.compile(r"-[2456789bcdfghkmt]{10}$")  # kustomize adds it to the names of ConfigMaps

WAYS = {
    "base": ((), []),
    "least-privilege": (("least-privilege",), ["leastPrivilege=true"]),
    "kubernetes-api": (("kubernetes-api",), ["kubernetesApi=true"]),
    "monitoring": (("monitoring",), ["monitoring.enabled=true"]),
    "k3s": (("k3s",), ["runtime=k3s"]),
    "crio": (("crio",), ["runtime=crio"]),
    "all": (
        ("least-privilege", "kubernetes-api", "monitoring", "k3s"),
        ["leastPrivilege=true", "kubernetesApi=true", "monitoring.enabled=true", "runtime=k3s"],
    ),
}


def comparable(objects: list[Any]) -> Objects:
    """What is to be the same, by kind and name."""
    found: Objects = {}
    for each in objects:
        metadata = each["metadata"]
        labels = metadata.pop("labels", {})
        metadata["labels"] = {key: labels[key] for key in labels if not OWN_LABELS.match(key)}
        if each["kind"] == "Namespace":  # helm makes the namespace itself, before all else
            continue
        if each["kind"] == "ConfigMap":
            metadata["name"] = HASH.sub("", metadata["name"])
            each["data"] = {
                name: yaml.safe_load(text) if name.endswith((".yaml", ".json")) else text
                for name, text in each.get("data", {}).items()
            }
        if each["kind"] == "DaemonSet":
            template = each["spec"]["template"]
            annotations = template["metadata"]["annotations"]
            for key in [key for key in annotations if key.startswith("checksum/")]:
                del annotations[key]
            for volume in template["spec"]["volumes"]:
                if "configMap" in volume:
                    volume["configMap"]["name"] = HASH.sub("", volume["configMap"]["name"])
            template["spec"]["volumes"].sort(key=lambda volume: volume["name"])
            template["spec"]["containers"][0]["volumeMounts"].sort(key=lambda mount: mount["name"])
        key = (each["kind"], metadata["name"])
        assert key not in found
        found[key] = each
    return found


@pytest.mark.parametrize("way", WAYS)
def test_the_chart_makes_what_the_kustomization_makes(way: str, tmp_path: Path) -> None:
    components, settings = WAYS[way]
    made = comparable(charted(*settings))
    expected = comparable(kustomized(kustomization(tmp_path, components)))
    assert made.keys() == expected.keys()
    for key, each in expected.items():
        assert made[key] == each, key


def test_the_chart_is_clean_and_of_the_packages_version() -> None:
    run(program("helm"), "lint", "--strict", CHART)
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (sensor.__version__, sensor.__version__)


def test_every_object_says_whose_it_is() -> None:
    for each in charted("kubernetesApi=true", "monitoring.enabled=true"):
        labels = each["metadata"]["labels"]
        assert labels["app.kubernetes.io/name"] == "ebpf-container-sensor"
        assert labels["app.kubernetes.io/managed-by"] == "Helm"


def daemon_set(*settings: str) -> Any:
    (found,) = (each for each in charted(*settings) if each["kind"] == "DaemonSet")
    return found


@pytest.mark.parametrize(
    "setting", [r"rules.ours\.yml=x", r"exceptions.ours\.yml=x", "config.strict=true"]
)
def test_a_change_of_what_it_reads_replaces_the_pods(setting: str) -> None:
    before, after = (
        each["spec"]["template"]["metadata"]["annotations"]
        for each in (daemon_set(), daemon_set(setting))
    )
    assert before != after


def test_rules_and_configuration_arrive(tmp_path: Path) -> None:
    maps = {
        each["metadata"]["name"]: each["data"]
        for each in charted(
            r"rules.ours\.yml=name: Ours", "config.strict=true", "kubernetesApi=true"
        )
        if each["kind"] == "ConfigMap" and "data" in each
    }
    assert maps["sensor-rules"] == {"ours.yml": "name: Ours"}
    (path := tmp_path / "sensor.yaml").write_text(maps["sensor-config"]["sensor.yaml"])
    config = load_config(path)
    assert (config.strict, config.containers.kubernetes) == (True, True)


def test_a_digest_goes_before_a_tag() -> None:
    digest = f"sha256:{'0' * 64}"
    pod = daemon_set("image.repository=registry/sensor", f"image.digest={digest}")["spec"][
        "template"
    ]
    assert pod["spec"]["containers"][0]["image"] == f"registry/sensor@{digest}"


@pytest.mark.parametrize(
    "setting", ["leastPriviledge=true", "runtime=docker", "image.digest=latest"]
)
def test_a_value_that_means_nothing_is_refused(setting: str) -> None:
    helm = program("helm")
    done = subprocess.run(
        [helm, "template", "sensor", CHART, "--set", setting],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert setting.partition("=")[0].rpartition(".")[2] in done.stderr


def test_the_schema_knows_every_value_and_no_other() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    assert set(schema["properties"]) - {"global"} == set(values)
