"""deploy/kubernetes on a real node: `kubectl apply -k`, alerts with the pod, a new rule, nothing left behind."""

from __future__ import annotations

import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import kubernetes_tools
import pytest
from deployed import DAEMON_SET, UID, Deployed, everything, mentions, pause
from measured import Measured
from node import NODE, Node, NodeError, wait_for
from rendering import CHART, NAMESPACE

WAYS = {
    "base": (),
    "least-privilege": ("least-privilege",),
    "least-privilege, kubernetes-api": ("least-privilege", "kubernetes-api"),
}
# One rule that tells of each turn of a loop, and what it is changed to.
LOOP = """
name: A turn of the loop
id: 5c1f2c0e-5d5f-4f1c-a6a5-0c6f9e8f5a01
description: Each start of a program by the test's loop.
severity: low
max_alerts: 100000
query: |
  process where event.type == "start" and container.id like "?*" and process.args : "turn-*"
"""
CHANGED = LOOP.replace("A turn of the loop", "A turn, changed")


STORM_SECONDS = 10


def marker() -> str:
    return f"aws_secret_access_key_{uuid.uuid4().hex[:10]}"


@pytest.fixture(scope="module")
def before(node: Node) -> set[str]:
    """The cluster's objects before the sensor came."""
    return everything(node)


@pytest.fixture(scope="module", params=WAYS)
def sensor(
    request: pytest.FixtureRequest,
    node: Node,
    before: set[str],
    tmp_path_factory: pytest.TempPathFactory,
    measured: Measured,
    say: Callable[[str], None],
) -> Iterator[Deployed]:
    assert before
    deployed = Deployed(node, tmp_path_factory.mktemp("kustomization"), WAYS[request.param])
    deployed.configure()
    started = time.monotonic()
    deployed.apply()
    deployed.roll_out()
    measured.ready(request.param, time.monotonic() - started)
    say(f"{request.param}: ready {time.monotonic() - started:.1f} s after `kubectl apply`")
    yield deployed
    deployed.delete()


@pytest.fixture
def way(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The components of the installation that the test runs on."""
    return WAYS[request.node.callspec.params["sensor"]]


def pods_of_the_shop(node: Node) -> dict[str, dict[str, Any]]:
    """Each pod of pods.yaml, by the name of the pod or of its Deployment."""
    found = node.json("--namespace", "shop", "get", "pods")["items"]
    return {
        pod["metadata"]["labels"]["app"]
        if "labels" in pod["metadata"]
        else pod["metadata"]["name"]: pod
        for pod in found
        if pod["status"]["phase"] == "Running"
    }


def test_the_server_takes_every_object_and_sees_no_change(sensor: Deployed) -> None:
    said = sensor.apply("--dry-run=server")
    assert len(said) >= 8
    assert [line for line in said if not line.endswith("unchanged (server dry run)")] == []


@pytest.mark.parametrize("name", ["web", "burstable", "guaranteed"])
def test_a_search_by_kubectl_exec_is_told_with_its_pod(
    sensor: Deployed, node: Node, name: str, way: tuple[str, ...]
) -> None:
    pod = pods_of_the_shop(node)[name]
    word = marker()
    search = ("--", "grep", "-r", word, "/srv/.aws")
    with pytest.raises(NodeError, match="exit code 1"):  # it finds nothing
        node.kubectl("--namespace", "shop", "exec", pod["metadata"]["name"], *search)
    alert = sensor.await_alert(mentions(word))
    assert alert["rule"]["name"] == "AWS Credentials Searched For Inside A Container"
    assert alert["process"]["args"] == ["grep", "-r", word, "/srv/.aws"]
    assert alert["host"]["name"] == NODE
    assert alert["sensor"]["entered_by_exec"] is True

    container, orchestrator = alert["container"], alert["orchestrator"]
    (status,) = pod["status"]["containerStatuses"]
    assert f"containerd://{container['id']}" == status["containerID"]
    assert container["name"] == "app"
    assert container["image"]["name"] == "docker.io/sensor-test/busybox"
    assert container["image"]["tag"] == ["1.0"]
    assert orchestrator["type"] == "kubernetes"
    assert orchestrator["namespace"] == "shop"
    resource = orchestrator["resource"]
    assert (resource["type"], resource["name"]) == ("pod", pod["metadata"]["name"])
    assert resource["id"] == pod["metadata"]["uid"]
    assert resource["qos_class"].lower() == pod["status"]["qosClass"].lower()
    if name == "web" and "kubernetes-api" in way:
        assert resource["parent"] == {"type": "Deployment", "name": "web"}
        assert {"app:web", "team:payments"} <= set(resource["label"])


def test_a_search_by_a_pods_own_entry_point_is_told(sensor: Deployed, node: Node) -> None:
    word = marker()
    name = f"search-{word[-10:]}"
    container = {
        "name": "search",
        "image": "sensor-test/busybox:1.0",
        "command": ["grep", "-r", word, "/srv/.aws"],
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"restartPolicy": "Never", "containers": [container]},
    }
    node.apply(pod)
    try:
        alert = sensor.await_alert(mentions(word))
        assert alert["orchestrator"]["namespace"] == "shop"
        assert alert["orchestrator"]["resource"]["name"] == name
        assert alert["container"]["name"] == "search"
        assert alert["container"]["image"]["name"] == "docker.io/sensor-test/busybox"
        assert alert["sensor"].get("entered_by_exec") is not True
    finally:
        node.kubectl("--namespace", "shop", "delete", "pod", name, "--grace-period=0", "--force")


def test_its_metrics_are_scraped_and_count_the_alert(sensor: Deployed, node: Node) -> None:
    before = sensor.metrics()
    pod = pods_of_the_shop(node)["web"]["metadata"]["name"]
    word = marker()
    node.kubectl("--namespace", "shop", "exec", pod, "--", "sh", "-c", f"grep -r {word} /srv; true")
    sensor.await_alert(mentions(word))
    after = sensor.metrics()
    counted = [name for name in after if name.startswith("sensor_alerts_total")]
    assert counted
    assert sum(after[name] - before.get(name, 0) for name in counted) >= 1
    assert after["sensor_blind"] == 0


def test_what_runs_on_is_nobody_and_has_no_capability(sensor: Deployed) -> None:
    processes = sensor.processes()
    assert processes
    for pid in processes:
        status = Path(f"/proc/{pid}/status").read_text()
        fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        match = UID.search(status)
        assert match is not None
        assert match[1] != "0"
        assert {fields[name] for name in ("CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
        assert fields["NoNewPrivs"] == "1"


def test_its_memory_and_time_at_rest_and_under_a_storm(
    request: pytest.FixtureRequest, sensor: Deployed, node: Node, measured: Measured
) -> None:
    def used(seconds: float) -> float:
        before = sensor.processor_seconds()
        pause(seconds)
        return (sensor.processor_seconds() - before) / seconds

    name = request.node.callspec.params["sensor"]
    measured.add(f"{name}: processor time at rest, share of a core", f"{used(STORM_SECONDS):.1%}")
    measured.add(f"{name}: memory at rest, PSS", f"{sensor.memory():.0f} MB")
    before = sensor.metrics()["sensor_execs_total"]
    pod = pods_of_the_shop(node)["web"]["metadata"]["name"]
    storm = "while [ ! -e /tmp/end ]; do /bin/true; done; rm /tmp/end"
    loop = node.start("--namespace", "shop", "exec", pod, "--", "sh", "-c", storm)
    try:
        share = used(STORM_SECONDS)
    finally:
        node.kubectl("--namespace", "shop", "exec", pod, "--", "touch", "/tmp/end")
        loop.wait()
    after = sensor.metrics()
    rate = (after["sensor_execs_total"] - before) / STORM_SECONDS
    measured.add(f"{name}: processor time at about {rate:.0f} execs a second", f"{share:.1%}")
    measured.add(f"{name}: memory after it, PSS", f"{sensor.memory():.0f} MB")
    lost = {sample: count for sample, count in after.items() if "losses_total" in sample and count}
    assert lost == {}


def test_it_may_ask_the_api_for_pods_alone_and_without_the_component_for_nothing(
    sensor: Deployed, node: Node, way: tuple[str, ...]
) -> None:
    account = f"--as=system:serviceaccount:{NAMESPACE}:ebpf-container-sensor"

    def may(verb: str, what: str) -> bool:
        asked = node.answer("auth", "can-i", verb, what, account, "--all-namespaces")
        assert asked in ("yes", "no")
        return asked == "yes"

    assert may("list", "pods") is ("kubernetes-api" in way)
    assert may("watch", "pods") is ("kubernetes-api" in way)
    assert not may("get", "secrets")
    assert not may("create", "pods")
    mounts = sensor.pod()["spec"]["containers"][0]["volumeMounts"]
    token = any("serviceaccount" in mount["mountPath"] for mount in mounts)
    assert token is ("kubernetes-api" in way)


def test_a_changed_rule_is_rolled_out(sensor: Deployed, node: Node) -> None:
    (old,) = sensor.pods()
    sensor.configure({"loop.yml": LOOP})
    sensor.apply()
    sensor.roll_out()
    (new,) = sensor.pods()
    assert new != old
    pod = pods_of_the_shop(node)["web"]["metadata"]["name"]
    node.kubectl("--namespace", "shop", "exec", pod, "--", "/bin/true", "turn-0")
    alert = sensor.await_alert(mentions("turn-0"))
    assert alert["rule"]["name"] == "A turn of the loop"
    assert alert["orchestrator"]["resource"]["name"] == pod


def test_removal_leaves_nothing_behind(sensor: Deployed, node: Node, before: set[str]) -> None:
    processes = sensor.processes()
    sensor.delete()
    wait_for(lambda: everything(node) <= before, "the objects are gone")
    assert everything(node) == before
    assert [pid for pid in processes if Path(f"/proc/{pid}").exists()] == []


def test_no_exec_is_missed_while_a_new_sensor_takes_over(
    node: Node, before: set[str], tmp_path: Path
) -> None:
    """The order of `maxSurge: 1`, done here by hand, because the DaemonSets of this Kubernetes cannot: the new
    pod on the same node, ready; then the old one's end."""
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    old, new = Deployed(node, tmp_path / "old"), Deployed(node, tmp_path / "new")
    old.configure({"loop.yml": LOOP})
    old.apply()
    old.roll_out()
    (old_pod,) = old.pods()
    pod = pods_of_the_shop(node)["web"]["metadata"]["name"]
    turns = (
        "i=0; while [ ! -e /tmp/end ]; do i=$((i + 1)); /bin/true turn-$i-; sleep 0.02; done;"
        "rm /tmp/end; echo $i"
    )
    loop = node.start("--namespace", "shop", "exec", pod, "--", "sh", "-c", turns)
    try:
        old.await_alert(mentions("turn-5-"))
        pair = {"takes-over": "true"}
        new.configure(
            {"loop.yml": CHANGED},
            nameSuffix="-new",
            labels=[{"includeSelectors": True, "pairs": pair}],
        )
        new.apply()
        new.roll_out(f"{DAEMON_SET}-new")
        (new_pod,) = set(new.pods()) - {old_pod}
        seen = new.await_alert(mentions("turn-"), new_pod)
        assert seen["rule"]["name"] == "A turn, changed"
        delete = ("delete", "daemonset", DAEMON_SET, "--wait")
        node.kubectl("--namespace", NAMESPACE, *delete)
        wait_for(lambda: old_pod not in all_pods(node), "the old pod is gone")
        pause(1)  # turns that the new one alone can tell of
        node.kubectl("--namespace", "shop", "exec", pod, "--", "touch", "/tmp/end")
        said, _ = loop.communicate(timeout=30)
        count = int(said)
        new.await_alert(mentions(f"turn-{count}-"), new_pod)
    finally:
        loop.kill()
        loop.wait()
        logs = {name: turns_told(old, name) for name in (old_pod, *new.pods())}
        new.delete()
        old.delete()
    told = set().union(*logs.values())
    assert set(range(1, count + 1)) - told == set()
    assert logs[old_pod] & logs[new_pod], "they did not overlap"
    assert logs[new_pod] - logs[old_pod]
    wait_for(lambda: everything(node) <= before, "the objects are gone")


def test_the_chart_is_installed_upgraded_and_removed(
    node: Node, before: set[str], tmp_path: Path
) -> None:
    helm = kubernetes_tools.find("helm")
    assert helm is not None, kubernetes_tools.MISSING.format("helm")
    chart = Path(shutil.copytree(CHART, tmp_path / "chart"))
    # The chart refuses a Kubernetes as old as this one, which lacks the surge.
    description = chart / "Chart.yaml"
    description.write_text(re.sub("(?m)^kubeVersion:.*\n", "", description.read_text()))
    settings = [
        "updateStrategy.rollingUpdate.maxSurge=null,updateStrategy.rollingUpdate.maxUnavailable=1"
    ]
    place = ("--namespace", NAMESPACE)
    node.helm(helm, "install", "sensor", chart, *place, "--create-namespace", "--set", *settings)
    deployed = Deployed(node, tmp_path)
    try:
        deployed.roll_out()
        (tmp_path / "loop.yml").write_text(LOOP)
        rule = f"rules.loop\\.yml={tmp_path}/loop.yml"
        node.helm(helm, "upgrade", "sensor", chart, *place, "--set", *settings, "--set-file", rule)
        deployed.roll_out()
        pod = pods_of_the_shop(node)["web"]["metadata"]["name"]
        node.kubectl("--namespace", "shop", "exec", pod, "--", "/bin/true", "turn-0-helm")
        alert = deployed.await_alert(mentions("turn-0-helm"))
        assert alert["orchestrator"]["resource"]["name"] == pod
    finally:
        node.helm(helm, "uninstall", "sensor", *place, "--wait")
        node.kubectl("delete", "namespace", NAMESPACE, "--wait")
    wait_for(lambda: everything(node) <= before, "the objects are gone")


def all_pods(node: Node) -> set[str]:
    found = node.json("--namespace", NAMESPACE, "get", "pods")["items"]
    return {pod["metadata"]["name"] for pod in found}


def turns_told(sensor: Deployed, pod: str) -> set[int]:
    """The numbers of the loop's turns that a pod of the sensor told of."""
    lines = [alert.get("process", {}).get("args", []) for alert in sensor.alerts(pod)]
    return {
        int(argument.split("-")[1])
        for args in lines
        for argument in args
        if argument.startswith("turn-")
    }
