"""Storms of execs on all processors: nothing is lost, nothing told twice, the rest stays in the kernel.

The whole minute of each is in benchmarks/storm_benchmark.py, which measures the sensor's CPU, too.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

import images
import pytest
from exec_storm import NEEDLE_EVERY, PADDING, Outcome, Storm
from sensor_process import Sensor

if TYPE_CHECKING:
    from pathlib import Path

    from docker.models.containers import Container
    from testbed import Engine

EXECS = "2500"  # of each worker
PLACES = ("host", "container")
RULE = """\
name: A needle of the storm, wherever it is
id: 2f9b1f0e-0c1b-4ee3-a6f0-6ad5f1b0f3c2
description: made for a test
severity: low
risk_score: 21
query: process where process.args == "grep" and process.args == "aws_secret_access_key"
"""


@pytest.fixture(scope="module")
def storm(machine: None, tmp_path_factory: pytest.TempPathFactory) -> Storm:
    reason = images.missing_for_images()
    if reason is not None:
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("storm")
    return Storm.compile(directory, images.compile_programs(directory)["noop"])


def storms(storm: Storm, debian: Container, marker: str, *, needles: bool) -> list[Outcome]:
    """One of each place and each length of argv."""
    storm.put_into(debian)
    outcomes = [
        storm.run(
            f"{marker}-{place}-{argv[0]}",
            execs=EXECS,
            argv=argv,
            needles=needles,
            container=debian if place == "container" else None,
        )
        for place in PLACES
        for argv in PADDING
    ]
    assert [outcome.failed for outcome in outcomes] == [0, 0, 0, 0]
    return outcomes


def test_without_needles_all_of_it_stays_in_the_kernel(
    storm: Storm, debian: Container, engine: Engine, marker: str
) -> None:
    with Sensor(environment=engine.environment) as sensor:
        execs = sum(o.execs for o in storms(storm, debian, marker, needles=False))
        assert sensor.stop() == 0
    summary = sensor.stderr.splitlines()[-1]
    counts = {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", summary)}
    assert counts["execs"] >= execs
    # What is not the storm's: the sensor's canary, the engine's programs, whatever the machine runs.
    assert counts["execs"] - counts["filtered"] < execs // 100
    assert sensor.alerts_with(marker) == []
    assert summary.endswith("losses: none")


def test_with_needles_each_alerts_exactly_once(
    storm: Storm, debian: Container, engine: Engine, tmp_path: Path, marker: str
) -> None:
    rule = tmp_path / "needle.yml"
    rule.write_text(RULE)
    arguments = ("--no-builtin", "--no-limit", "--no-collapse", "--rules", rule)
    with Sensor(*arguments, environment=engine.environment) as sensor:
        outcomes = storms(storm, debian, marker, needles=True)
        for outcome in outcomes:
            sensor.wait_for_argument(outcome.needles[-1])
        assert sensor.stop() == 0
    told = Counter(alert["process"]["args"][1] for alert in sensor.alerts_with(marker))
    needles = [needle for outcome in outcomes for needle in outcome.needles]
    assert len(needles) >= sum(outcome.execs for outcome in outcomes) // NEEDLE_EVERY
    assert told == Counter(needles)
    places = {
        alert["process"]["args"][1]: "id" in alert["container"]
        for alert in sensor.alerts_with(marker)
    }
    assert places == {needle: "-container-" in needle for needle in needles}
    assert sensor.stderr.splitlines()[-1].endswith("losses: none")
