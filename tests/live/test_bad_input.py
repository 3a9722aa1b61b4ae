"""What is missing or malformed gives a clear message or a flagged event, and nothing else is lost."""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import images
import pytest
from cgroup_of_its_own import CgroupOfItsOwn
from docker_engine import DockerEngine, missing_for_engine
from patience import patient
from sensor_process import SENSOR, Sensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from docker.models.containers import Container
    from sensor_process import Alert
    from testbed import Engine, Trees

AS_NOBODY = [
    *("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"),
    # Enough to run a sensor that lies in somebody's home, and no more.
    *("--inh-caps", "-all,+dac_read_search", "--ambient-caps", "-all,+dac_read_search"),
]
BCC = Path("/usr/lib/python3/dist-packages/bcc")


def in_own_mounts(script: str) -> list[str]:
    """A prefix that runs a command where `script` has changed what is mounted."""
    shell = ["sh", "-ec", script + '\nexec "$@"', "sh"]
    return ["unshare", "--mount", "--propagation", "private", *shell]


def refused(*arguments: str | Path, prefix: Sequence[str] = (), code: int) -> str:
    """Start a sensor that must end by itself with `code`; returns what it said."""
    sensor = Sensor(*arguments, prefix=prefix).spawn()
    assert (sensor.wait(patient(60)), sensor.alerts) == (code, [])
    said = sensor.stderr
    assert "Traceback" not in said
    assert "sensor ready" not in said
    return said


# --- the machine ------------------------------------------------------------------------------------


def test_without_root() -> None:
    said = refused(prefix=AS_NOBODY, code=1)
    assert "root" in said
    assert len(said.splitlines()) <= 3, said


def test_without_btf() -> None:
    said = refused(prefix=in_own_mounts("mount -t tmpfs none /sys/kernel/btf"), code=1)
    assert "BTF" in said


@pytest.mark.skipif(not BCC.is_dir(), reason="BCC is not where Debian installs it")
def test_without_bcc() -> None:
    hide = (
        f"mount -t tmpfs none {BCC}\n"
        f"""echo "raise ModuleNotFoundError(\\"No module named 'bcc'\\")" > {BCC}/__init__.py"""
    )
    said = refused(prefix=in_own_mounts(hide), code=1)
    assert "python3-bpfcc" in said


# --- what the user wrote ----------------------------------------------------------------------------

RULE = """\
name: {name}
id: {id}
description: made for a test
severity: low
risk_score: 21
query: |
  {query}
"""


def rule(name: str, query: str) -> str:
    identifier = f"00000000-0000-4000-8000-{secrets.token_hex(6)}"
    return RULE.format(name=name, id=identifier, query=query)


def test_all_errors_of_all_rule_files_at_once(tmp_path: Path) -> None:
    """Each with its file, line and column, and a caret below the place."""
    first, second = tmp_path / "first.yml", tmp_path / "second.yml"
    first.write_text(rule("first", 'process where process.name == "grep" and and true'))
    second.write_text(rule("second", 'process where process.nmae == "grep"'))
    said = refused("--strict", "--rules", tmp_path, code=2)
    # The query's first line is the seventh of the file.
    assert f"{first}:7:44" in said
    assert f"{second}:7:" in said
    assert [line.strip() for line in said.splitlines()].count("^") >= 1


def test_a_rule_file_that_is_no_yaml(tmp_path: Path) -> None:
    path = tmp_path / "broken.yml"
    path.write_text("name: [unclosed\nquery: x\n")
    assert f"{path}:" in refused("--strict", "--rules", path, code=2)


def test_a_rule_path_that_does_not_exist(tmp_path: Path) -> None:
    path = tmp_path / "nowhere.yml"
    assert str(path) in refused("--rules", path, code=2)


def test_a_folder_without_rules_is_told_to_give_no_alerts(tmp_path: Path) -> None:
    sensor = Sensor("--no-builtin", "--rules", tmp_path, "--duration", "0").spawn()
    assert sensor.wait(patient(60)) == 0
    assert "warning: no rule is in force, so there will be no alert\n" in sensor.stderr


def test_a_disk_that_is_full_for_a_recording() -> None:
    said = []
    with subprocess.Popen(
        [SENSOR, "record", "--file", "/dev/full"], stderr=subprocess.PIPE, text=True
    ) as recording:
        try:
            assert recording.stderr is not None
            for line in recording.stderr:
                said.append(line)
                if "sensor ready" in line:  # where somebody's exec came before, it never is
                    subprocess.run(["/bin/true"], check=True)
            recording.wait(patient(60))
        finally:
            recording.kill()
    assert recording.returncode == 1
    assert said[-1] == "error: /dev/full: No space left on device; 0 documents were written\n"
    assert not [line for line in said if "Traceback" in line]


def test_an_unknown_configuration_key(tmp_path: Path) -> None:
    path = tmp_path / "sensor.yaml"
    path.write_text("containers:\n  sokcets: []\n")
    said = refused("--config", path, code=2)
    assert str(path) in said
    assert "containers" in said
    assert "sokcets" in said


def test_an_unknown_flag() -> None:
    ran = subprocess.run([SENSOR, "run", "--no-such-flag"], capture_output=True, check=False)
    assert (ran.returncode, b"--no-such-flag" in ran.stderr) == (2, True)


# --- Docker -----------------------------------------------------------------------------------------


@pytest.fixture
def own_engine(trees: Trees) -> Iterator[DockerEngine]:
    """An engine of the test's own, to be stopped and locked."""
    reason = missing_for_engine()
    if reason is not None:
        pytest.skip(reason)
    with DockerEngine() as engine:
        client = engine.client()
        trees.import_into(client)
        client.close()
        yield engine


def waiting_container(engine: DockerEngine, marker: str) -> Container:
    """A container that searches as soon as somebody writes to its /tmp/go, without the engine."""
    client = engine.client()
    script = f"mkfifo /tmp/go; touch /tmp/ready; read x < /tmp/go; grep aws_access_key_id {marker}"
    container = client.containers.run(
        images.BUSYBOX, ["sh", "-c", script], name=f"waits-{marker}", detach=True
    )
    # Waits for the script's second command without asking again and again.
    assert container.exec_run(["sh", "-c", "until [ -e /tmp/ready ]; do :; done"]).exit_code == 0
    container.reload()
    return container


def go(container: Container) -> None:
    Path(f"/proc/{container.attrs['State']['Pid']}/root/tmp/go").write_text("now\n")


def test_docker_stopped_before(own_engine: DockerEngine, marker: str) -> None:
    """The alert has the id, which comes from the kernel, and says why it has no more."""
    container = waiting_container(own_engine, marker)
    own_engine.crash()
    with Sensor(environment={"DOCKER_HOST": own_engine.host}) as sensor:
        go(container)
        alert = sensor.wait_for_argument(marker)
        assert alert["container"]["id"] == container.id
        assert "name" not in alert["container"]
        assert sensor.stop() == 0
    assert "docker" in sensor.stderr.lower()
    assert "Traceback" not in sensor.stderr


def test_docker_stopped_and_started_while_running(own_engine: DockerEngine, marker: str) -> None:
    """What was known stays known, and a daemon that is back is used again."""
    container = waiting_container(own_engine, marker)
    with Sensor(environment={"DOCKER_HOST": own_engine.host}) as sensor:
        container.exec_run(["grep", "aws_access_key_id", f"before-{marker}"])
        sensor.wait_for_argument(f"before-{marker}")
        own_engine.crash()
        go(container)
        alert = sensor.wait_for_alert(
            lambda alert: (
                alert.get("process", {}).get("args") == ["grep", "aws_access_key_id", marker]
            )
        )
        assert (alert["container"]["id"], alert["container"]["name"]) == (
            container.id,
            container.name,
        )
        own_engine.start()
        client = own_engine.client()
        fresh = client.containers.run(
            images.BUSYBOX, ["sleep", "1000000"], name=f"fresh-{marker}", detach=True
        )
        fresh.exec_run(["grep", "aws_access_key_id", f"after-{marker}"])
        alert = sensor.wait_for_argument(f"after-{marker}")
        assert alert["container"]["name"] == fresh.name
        assert sensor.stop() == 0
    assert "Traceback" not in sensor.stderr


def test_a_socket_without_permission(own_engine: DockerEngine, marker: str) -> None:
    """Root could open it, but the sensor is not root any more when it asks."""
    container = waiting_container(own_engine, marker)
    os.chown(own_engine.socket, 0, 0)
    own_engine.socket.chmod(0o600)
    with Sensor(environment={"DOCKER_HOST": own_engine.host}) as sensor:
        go(container)
        alert = sensor.wait_for_argument(marker)
        assert alert["container"]["id"] == container.id
        assert "name" not in alert["container"]
        assert sensor.stop() == 0
    assert str(own_engine.socket) in sensor.stderr
    assert "Traceback" not in sensor.stderr


# --- what a process can do --------------------------------------------------------------------------


@pytest.fixture
def watching(engine: Engine, tmp_path: Path) -> Iterator[Sensor]:
    """A sensor with a rule for the program `noop`, whose argv need not hold anything."""
    path = tmp_path / "noop.yml"
    path.write_text(rule("Noop in a container", 'process where process.name == "noop"'))
    with Sensor("--rules", path, environment=engine.environment) as sensor:
        yield sensor
        assert sensor.stop() == 0
        assert "Traceback" not in sensor.stderr


def is_noop(alert: Alert) -> bool:
    return bool(alert.get("process", {}).get("name") == "noop")


def test_argc_0_is_an_event_like_any_other(debian: Container, watching: Sensor) -> None:
    """Kernels from 5.18 on turn argc 0 into one empty argument; older ones leave it at none."""
    debian.exec_run(["/opt/launch", "plain", "/opt/noop"])
    alert = watching.wait_for_alert(is_noop)
    assert alert["process"]["args"] in ([""], [])
    assert alert["process"]["executable"] == "/opt/noop"


def test_empty_arguments_are_kept(debian: Container, watching: Sensor) -> None:
    debian.exec_run(["/opt/launch", "plain", "/opt/noop", "", "", "x", ""])
    assert watching.wait_for_alert(is_noop)["process"]["args"] == ["", "", "x", ""]


def test_100_000_arguments(debian: Container, watching: Sensor, marker: str) -> None:
    """200 KB of argv: whole up to the sensor's limit, and said so where it is not."""
    debian.exec_run(
        ["/opt/launch", "pad:100000:1", "/bin/grep", "@grep", f"@aws_access_key_id-{marker}"]
    )
    alert = watching.wait_for_alert(
        lambda alert: (
            alert.get("process", {}).get("name") == "grep"
            and alert["process"]["args_count"] >= 100_000
        )
    )
    assert alert["process"]["args"][:3] == ["grep", "x", "x"]


def test_an_argv_over_every_limit_is_flagged(debian: Container, watching: Sensor) -> None:
    """1 MB before the needle. It may not be seen, but never without a word."""
    debian.exec_run(["/opt/launch", "pad:10:100000", "/opt/noop", "noop", "end"])
    alert = watching.wait_for_alert(is_noop)
    assert alert["process"]["args"][0] == "noop"
    assert alert["process"]["args"][-1] != "end"
    assert "truncated" in str(alert)


@pytest.mark.parametrize(
    "odd", [b"odd \xff\xfe", b"\x1b[2J\x07", "ä\u202e".encode(), b"'\"\\$(reboot)", b"%s%n"]
)
def test_a_cgroup_with_odd_bytes_in_its_name(
    odd: bytes, sensor: Sensor, marker: str, settle: Callable[[], None]
) -> None:
    """Below a container's cgroup it is that container's; the name goes nowhere as it is."""
    container_id = secrets.token_hex(32)
    with CgroupOfItsOwn(b"docker/" + container_id.encode() + b"/" + odd) as cgroup:
        cgroup.run(["grep", "aws_access_key_id", marker])
    alert = sensor.wait_for_argument(marker)
    assert alert["container"]["id"] == container_id
    settle()


@pytest.mark.parametrize(
    "path", [b"\xff" * 255, b"docker/\xff" + b"0" * 63, b"docker/" + b"g" * 64]
)
def test_a_cgroup_that_is_no_container(path: bytes, settle: Callable[[], None]) -> None:
    """The sensor goes on; what it makes of such a name is the business of its own tests."""
    with CgroupOfItsOwn(path) as cgroup:
        cgroup.run(["grep", "aws_access_key_id"])
    settle()


# --- the end ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_a_summary(engine: Engine, number: signal.Signals) -> None:
    with Sensor(environment=engine.environment) as sensor:
        subprocess.run(["true"], check=True)
        assert sensor.stop(number) == 0
    summary = sensor.stderr.splitlines()[-1]
    assert re.search(r"execs=[1-9]\d* .*alerts=0 losses: ", summary), summary


def test_duration_ends_it(engine: Engine) -> None:
    with Sensor("--duration", "1", environment=engine.environment) as sensor:
        assert sensor.wait(patient(15)) == 0
    assert "sensor ended: execs=" in sensor.stderr


def test_a_reader_that_goes_away_is_no_crash(engine: Engine) -> None:
    """`sensor run | head -1`: a closed pipe ends it with a message at most."""
    shell = f"'{SENSOR}' run --output json --duration 2 | true"
    ran = subprocess.run(
        ["bash", "-c", shell],
        capture_output=True,
        env=os.environ | engine.environment,
        check=False,
    )
    assert b"Traceback" not in ran.stderr
