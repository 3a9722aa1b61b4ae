"""deploy/kubernetes: what the manifests name exists in the code, and they agree with one another."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import msgspec
import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest
from rendering import KUBERNETES, charted, kustomization, kustomized

import sensor
from sensor.canary import Canary
from sensor.cli.main import cli
from sensor.config import Config, load_config
from sensor.containers.discovery import WELL_KNOWN
from sensor.metrics import Collector
from sensor.state import Latency, State
from sensor.watch import LOSSES

BASE = KUBERNETES / "base"
COMPONENTS = KUBERNETES / "components"
KUSTOMIZATIONS = sorted(KUBERNETES.rglob("kustomization.yaml"))
INSTALLABLE = [path.parent for path in KUSTOMIZATIONS if "components" not in path.parts]


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


DAEMON_SET = read(BASE / "daemonset.yaml")
POD = DAEMON_SET["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]
PORT = CONTAINER["ports"][0]["containerPort"]


def configuration(path: Path) -> Config:
    return load_config(path)


def mounts(pod: dict[str, Any]) -> set[str]:
    return {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"]}


# --- the files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=lambda path: path.parent.name)
def test_a_kustomization_names_files_that_exist_and_no_file_is_forgotten(path: Path) -> None:
    content = read(path)
    named = [*content.get("resources", []), *content.get("components", [])]
    named += [patch["path"] for patch in content.get("patches", []) if "path" in patch]
    for generator in content.get("configMapGenerator", []):
        named += [file.rpartition("=")[2] for file in generator["files"]]
    assert [each for each in named if not (path.parent / each).exists()] == []
    beside = {each.name for each in path.parent.iterdir()} - {path.name}
    assert beside - set(named) == set()


@pytest.mark.parametrize("folder", INSTALLABLE, ids=lambda path: path.name)
def test_what_is_installed_can_be_rendered(folder: Path) -> None:
    objects = kustomized(folder)
    kinds = {each["kind"] for each in objects}
    assert {"Namespace", "DaemonSet", "ServiceAccount", "ConfigMap", "NetworkPolicy"} <= kinds
    names = {each["metadata"]["name"] for each in objects if each["kind"] == "ConfigMap"}
    (daemon_set,) = (each for each in objects if each["kind"] == "DaemonSet")
    pod = daemon_set["spec"]["template"]["spec"]
    used = {each["configMap"]["name"] for each in pod["volumes"] if "configMap" in each}
    assert used <= names
    # A changed ConfigMap has another name, and so the pods are replaced.
    assert all(re.search(r"-[a-z0-9]{10}$", name) for name in used)
    assert {each["name"] for each in pod["volumes"]} == {
        mount["name"] for mount in pod["containers"][0]["volumeMounts"]
    }


# The oldest version that docs/operations.md names, and the newest that the validator knows. Of what
# comes with the Prometheus operator it knows nothing.
WAYS = {
    "base": ((), "1.25"),
    "kubernetes-api": (("kubernetes-api",), "1.25"),
    "crio": (("crio",), "1.25"),
    "k3s": (("k3s",), "1.25"),
    "least-privilege": (("least-privilege",), "1.30"),
    "monitoring": (("monitoring",), "1.25"),
}
OPERATOR = {"ServiceMonitor", "PrometheusRule"}


@pytest.mark.parametrize("way", WAYS)
def test_kubernetes_knows_every_field(way: str, tmp_path: Path) -> None:
    components, oldest = WAYS[way]
    for each in kustomized(kustomization(tmp_path, components)):
        for version in (oldest, kubernetes_validate.latest_version()):
            if each["kind"] not in OPERATOR:
                kubernetes_validate.validate(each, version, strict=True)


def test_kubernetes_knows_every_field_of_the_chart() -> None:
    for each in charted("leastPrivilege=true", "kubernetesApi=true", "monitoring.enabled=true"):
        if each["kind"] not in OPERATOR:
            kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)


def test_the_version_is_the_packages() -> None:
    content = read(BASE / "kustomization.yaml")
    assert content["images"][0]["newTag"] == sensor.__version__
    labels = {key: value for each in content["labels"] for key, value in each["pairs"].items()}
    assert labels["app.kubernetes.io/version"] == sensor.__version__


# --- the sensor's own words -----------------------------------------------------------------------------


def test_the_sensor_takes_its_arguments() -> None:
    command, *arguments = CONTAINER["args"]
    run = cli.get_command(click.Context(cli), command)
    assert run is not None
    with run.make_context(command, list(arguments)) as context:
        assert str(context.params["config_path"]) == "/etc/sensor/sensor.yaml"
    assert "/etc/sensor/sensor.yaml" in mounts(POD)


def test_the_configuration_reads_what_is_mounted() -> None:
    config = configuration(BASE / "sensor.yaml")
    assert {*config.rules, *config.alerts.exceptions} <= mounts(POD)
    assert config.output == "json"


def test_the_configuration_listens_where_it_is_asked() -> None:
    assert configuration(BASE / "sensor.yaml").metrics.listen == f"0.0.0.0:{PORT}"
    name = CONTAINER["ports"][0]["name"]
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert CONTAINER[kind]["httpGet"]["port"] == name
    service = read(COMPONENTS / "monitoring/service.yaml")["spec"]["ports"][0]
    assert (service["port"], service["targetPort"]) == (PORT, name)
    monitor = read(COMPONENTS / "monitoring/servicemonitor.yaml")["spec"]["endpoints"][0]
    assert monitor["port"] == service["name"]


def state() -> State:
    """A sensor's state with a number of each kind, as it is when all of them have been counted."""
    return State(
        counters=lambda: dict.fromkeys(LOSSES, 1),
        losses=LOSSES,
        matches=lambda: {"rule": 4},
        alerts=lambda: {("rule", "high"): 1},
        collapsed=lambda: {"rule": 1},
        held_back=lambda: {"rule": 1},
        hidden=lambda: {("rule", "exception"): 1},
        resolutions=lambda: {"docker.lookup.found": 1},
        sinks=lambda: {"stdout": {"delivered": 1, "refused": 0, "dropped": 0, "errors": 0}},
        delivery=lambda: {
            "lost": {"stdout": 0},
            "journal": {"queued": 0, "shown_first": 0, "unspooled": 0},
            "spool": {
                "documents": 1,
                "bytes": 1,
                "behind": {"http": 1},
                "evicted": 0,
                "expired": 0,
            },
        },
        rules=lambda: {"loaded": 1, "inactive": 0, "failed": 0},
        reloads=lambda: {"done": 4, "refused": 1},
        latency=Latency(),
        canary=Canary(),
        ready=True,
    )


def test_the_probes_ask_for_what_is_served() -> None:
    asked = {
        CONTAINER[kind]["httpGet"]["path"]
        for kind in ("startupProbe", "livenessProbe", "readinessProbe")
    }
    assert asked == {"/healthz/startup", "/healthz/live", "/healthz/ready"}
    for path in asked:
        state().health(path.removeprefix("/healthz/"))


def served() -> set[str]:
    """The names of all metrics that the sensor serves."""
    registry = CollectorRegistry()
    registry.register(Collector(state()))
    text = generate_latest(registry).decode()
    return set(re.findall(r"^(sensor_\w+)", text, re.MULTILINE))


def test_every_metric_that_is_watched_or_shown_is_served() -> None:
    rules = read(COMPONENTS / "monitoring/prometheusrule.yaml")["spec"]["groups"]
    dashboard = json.loads((COMPONENTS / "monitoring/dashboard.json").read_text())
    expressions = [rule["expr"] for group in rules for rule in group["rules"]]
    expressions += [
        target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])
    ]
    asked = {name for each in expressions for name in re.findall(r"\bsensor_\w+", each)}
    assert asked - served() == set()


def test_down_blind_losing_and_broken_rules_wake_somebody() -> None:
    groups = read(COMPONENTS / "monitoring/prometheusrule.yaml")["spec"]["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}
    assert {"SensorDown", "SensorBlind", "SensorLosing", "SensorRulesFailed"} <= alerts


@pytest.mark.parametrize(
    ("folder", "socket"),
    [("base", "/run/containerd/containerd.sock"), ("crio", "/run/crio/crio.sock")],
)
def test_the_runtimes_socket_is_where_the_sensor_looks(folder: str, socket: str) -> None:
    path = BASE if folder == "base" else COMPONENTS / folder
    pod = read(path / "daemonset.yaml")["spec"]["template"]["spec"]
    (mount,) = (
        each
        for each in pod["containers"][0]["volumeMounts"]
        if each.get("readOnly") and each["mountPath"] == str(Path(socket).parent)
    )
    assert socket in WELL_KNOWN
    # Without this, mounts of containers that have ended would be kept alive here.
    assert mount["mountPropagation"] == "HostToContainer"


def test_k3s_has_its_socket_under_the_same_name() -> None:
    pod = read(COMPONENTS / "k3s/daemonset.yaml")["spec"]["template"]["spec"]
    (volume,) = pod["volumes"]
    assert volume["name"] in {each["name"] for each in POD["volumes"]}
    assert f"{volume['hostPath']['path']}/containerd.sock" in WELL_KNOWN


# --- what it may do -------------------------------------------------------------------------------------


def test_the_least_privilege_is_not_privileged_and_drops_all_it_does_not_name() -> None:
    pod = read(COMPONENTS / "least-privilege/daemonset.yaml")["spec"]["template"]["spec"]
    context = pod["containers"][0]["securityContext"]
    assert context["privileged"] is False
    assert context["allowPrivilegeEscalation"] is False
    assert context["readOnlyRootFilesystem"] is True
    assert context["capabilities"]["drop"] == ["ALL"]
    assert "SYS_ADMIN" not in context["capabilities"]["add"]


def test_without_the_api_no_token_is_mounted_and_nothing_may_be_asked() -> None:
    assert POD["automountServiceAccountToken"] is False
    assert configuration(BASE / "sensor.yaml").containers.kubernetes is False
    assert not any(
        each.get("kind", "").startswith("ClusterRole")
        for path in BASE.glob("*.yaml")
        for each in yaml.safe_load_all(path.read_text())
    )


def test_the_apis_configuration_is_the_bases_but_for_one_key() -> None:
    base = msgspec.to_builtins(configuration(BASE / "sensor.yaml"))
    with_api = msgspec.to_builtins(configuration(COMPONENTS / "kubernetes-api/sensor.yaml"))
    assert with_api["containers"].pop("kubernetes") is True
    assert base["containers"].pop("kubernetes") is False
    assert with_api == base


def test_the_api_may_be_asked_for_pods_and_for_nothing_else() -> None:
    role, binding = yaml.safe_load_all((COMPONENTS / "kubernetes-api/rbac.yaml").read_text())
    assert role["rules"] == [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    assert binding["subjects"][0]["name"] == POD["serviceAccountName"]


def test_a_token_stays_readable_after_the_drop() -> None:
    """With `runAsUser` Kubernetes gives tokens to that user alone, and the sensor is another by then."""
    assert "runAsUser" not in json.dumps(DAEMON_SET)


def test_a_new_sensor_sees_before_the_old_one_ends() -> None:
    strategy = DAEMON_SET["spec"]["updateStrategy"]["rollingUpdate"]
    assert strategy == {"maxSurge": 1, "maxUnavailable": 0}
    # Two pods of one node are only possible without ports and names of the host.
    assert not any("hostPort" in port for port in CONTAINER["ports"])
    assert "hostNetwork" not in POD
