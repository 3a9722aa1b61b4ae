"""Prometheus scrapes a running sensor; what the manifests ask and show is there to be asked."""

from __future__ import annotations

import json
import os
import pwd
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from patience import patient
from receivers import Prometheus, free_port, program, until
from sensor_process import REPOSITORY, Sensor

from sensor import __version__
from sensor.watch import LOSSES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docker.models.containers import Container
    from testbed import Engine

MONITORING = REPOSITORY / "deploy/kubernetes/components/monitoring"
JOB = "ebpf-container-sensor"
RULE = "1f4b0d1e-8f0c-4b5e-9a57-5f0f6a2f3c11"
SEARCH = "key-of-the-metrics-test"

RULES = f"""\
name: The metrics test's word
id: {RULE}
description: made for a test
severity: high
risk_score: 73
max_alerts: 2
interval: 1h
query: process where process.args == "{SEARCH}"
exceptions:
  - id: known
    args: known
    reason: made for a test
    owner: the test
    expires: never
"""


def groups() -> list[Any]:
    found: list[Any] = yaml.safe_load((MONITORING / "prometheusrule.yaml").read_text())["spec"][
        "groups"
    ]
    return found


def panels() -> list[str]:
    """What the dashboard asks, with its variables filled in."""
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    return [
        target["expr"].replace("$__rate_interval", "1m").replace("$node", ".*")
        for panel in dashboard["panels"]
        for target in panel.get("targets", [])
    ]


@pytest.fixture(scope="module")
def address() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def watched(
    engine: Engine, debian: Container, address: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Sensor]:
    """A sensor with a spool and a sink that is down, after a match of each kind."""
    program("prometheus", "prometheus")
    folder = tmp_path_factory.mktemp("sensor")
    (folder / "rules.yml").write_text(RULES)
    spool = folder / "spool"
    spool.mkdir()
    nobody = pwd.getpwnam("nobody")
    os.chown(spool, nobody.pw_uid, nobody.pw_gid)
    for above in (folder, *folder.parents[:3]):
        above.chmod(above.stat().st_mode | 0o111)  # the sensor's user is not root
    (folder / "sensor.yaml").write_text(
        yaml.safe_dump(
            {
                "builtin_rules": False,
                "rules": [str(folder / "rules.yml")],
                "metrics": {"listen": address},
                "sinks": [{"type": "http", "url": f"http://127.0.0.1:{free_port()}/"}],
                "spool": {"directory": str(spool)},
            }
        )
    )
    with Sensor("--config", folder / "sensor.yaml", environment=engine.environment) as sensor:
        # find and the two that it starts are one action; the third alert is beyond the limit.
        script = (
            f"find /srv/.aws -exec /opt/noop {SEARCH} {{}} ';'; "
            f"/opt/noop {SEARCH} second; /opt/noop {SEARCH} third; "
            f"/opt/noop {SEARCH} known; /opt/launch pad:10:100000 /opt/noop noop end; "
            f"/opt/noop {SEARCH} last"
        )
        assert debian.exec_run(["bash", "-c", script]).exit_code == 0
        until(lambda: value(address, "sensor_matches_total") == 7)
        yield sensor
        sensor.stop()


def scrape(address: str) -> str:
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=patient(10)) as answer:
        text: str = answer.read().decode()
    return text


def value(address: str, name: str) -> float:
    lines = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", scrape(address), re.MULTILINE)
    return sum(map(float, lines))


@pytest.fixture(scope="module")
def prometheus(
    watched: Sensor, address: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    daemon = Prometheus(tmp_path_factory.mktemp("prometheus"), JOB, address, groups())
    daemon.start()
    try:
        until(lambda: daemon.query(f'up{{job="{JOB}"}} == 1'), 60)
        until(lambda: daemon.query("count_over_time(sensor_build_info[1m]) >= 2"), 60)
        yield daemon
    finally:
        daemon.stop()


def numbers(prometheus: Prometheus, name: str, *labels: str) -> dict[Any, float]:
    """The series of a metric, by the values of their labels."""
    return {
        tuple(series[label] for label in labels): number
        for series, number in prometheus.query(name)
    }


def test_every_match_is_in_the_series_once(prometheus: Prometheus) -> None:
    assert numbers(prometheus, "sensor_matches_total", "rule_id") == {(RULE,): 7}
    assert numbers(prometheus, "sensor_alerts_total", "rule_id", "severity") == {(RULE, "high"): 2}
    assert numbers(prometheus, "sensor_collapsed_total", "rule_id") == {(RULE,): 2}
    assert numbers(prometheus, "sensor_held_back_total", "rule_id") == {(RULE,): 2}
    assert numbers(prometheus, "sensor_hidden_total", "rule_id", "exception_id") == {
        (RULE, "known"): 1
    }
    assert numbers(prometheus, "sensor_alert_latency_seconds_count") == {(): 2}
    assert numbers(prometheus, "sensor_truncated_total")[()] >= 1


def test_what_waits_for_a_sink_that_is_down_shows(prometheus: Prometheus) -> None:
    assert numbers(prometheus, "sensor_spool_behind_documents", "sink") == {("http",): 2}
    assert numbers(prometheus, "sensor_spool_documents") == {(): 2}
    assert numbers(prometheus, "sensor_spool_bytes")[()] > 1000
    assert numbers(prometheus, "sensor_journal_queue_documents") == {(): 0}
    assert numbers(prometheus, "sensor_sink_failing_seconds", "sink")["http",] > 0
    assert numbers(prometheus, "sensor_sink_failing_seconds", "sink")["stdout",] == 0
    assert numbers(prometheus, "sensor_sink_documents_total", "sink", "result") == {
        ("stdout", "delivered"): 2,
        ("stdout", "refused"): 0,
        ("stdout", "dropped"): 0,
        ("http", "delivered"): 0,
        ("http", "refused"): 0,
        ("http", "dropped"): 0,
    }
    losses = numbers(prometheus, "sensor_delivery_losses_total", "stage")
    assert losses == {(stage,): 0 for stage in ("stdout", "http", "encoding", "journal", "spool")}


def test_what_the_sensor_says_of_itself(prometheus: Prometheus) -> None:
    assert numbers(prometheus, "sensor_execs_total")[()] >= 7
    assert numbers(prometheus, "sensor_losses_total", "stage").keys() == {
        (stage,) for stage in LOSSES
    }
    assert numbers(prometheus, "sensor_rules", "state") == {
        ("loaded",): 1,
        ("inactive",): 0,
        ("failed",): 0,
    }
    assert numbers(prometheus, "sensor_build_info", "version") == {(__version__,): 1}
    assert numbers(prometheus, "time() - sensor_last_canary_timestamp_seconds < 600")
    assert numbers(prometheus, "sensor_blind") == {(): 0}
    resolutions = numbers(prometheus, "sensor_container_resolutions_total", "source", "result")
    assert resolutions["docker", "watch.seed"] >= 1
    assert resolutions["docker", "lookup.found"] >= 1
    assert numbers(prometheus, "sensor_judged_total", "place")["container",] >= 7


def test_every_rule_of_the_manifests_is_healthy_and_none_but_the_limit_fires(
    prometheus: Prometheus,
) -> None:
    def evaluated() -> Any:
        found = prometheus.ask("rules")["groups"]
        rules = [rule for group in found for rule in group["rules"]]
        return rules if all(rule["health"] == "ok" for rule in rules) else None

    rules = until(evaluated, 60)
    assert len(rules) == sum(len(group["rules"]) for group in groups())
    assert {rule["name"] for rule in rules if rule["state"] == "firing"} == set()


@pytest.mark.parametrize("expression", panels())
def test_every_panel_of_the_dashboard_can_be_asked(prometheus: Prometheus, expression: str) -> None:
    answer = prometheus.query(expression)
    # Rates need two scrapes; some series are filtered by a comparison.
    assert answer or "rate(" in expression or "increase(" in expression


def test_promtool_finds_nothing_wrong_with_the_metrics(watched: Sensor, address: str) -> None:
    checked = subprocess.run(
        [program("promtool", "prometheus"), "check", "metrics"],
        input=scrape(address),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, "", "")


def test_promtool_finds_nothing_wrong_with_the_rules(tmp_path: Path) -> None:
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": groups()}))
    checked = subprocess.run(
        [program("promtool", "prometheus"), "check", "rules", "--lint=all", "--lint-fatal", path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
