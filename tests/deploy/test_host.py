"""deploy/systemd and deploy/debian: unit, package and documentation agree with the code and one another."""

from __future__ import annotations

import configparser
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest
import yaml

import sensor
from sensor import loop
from sensor.cli.main import cli
from sensor.config import load_config

REPOSITORY = Path(__file__).parents[2]
DEBIAN = REPOSITORY / "deploy/debian"
UNIT = REPOSITORY / "deploy/systemd/ebpf-container-sensor.service"
TMPFILES = REPOSITORY / "deploy/systemd/ebpf-container-sensor.tmpfiles"
OPERATIONS = (REPOSITORY / "docs/operations.md").read_text()
README = (REPOSITORY / "README.md").read_text()


def service() -> dict[str, str]:
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    return dict(parser["Service"])


def capabilities() -> set[str]:
    """Those of the Kubernetes variant, as the kernel names them."""
    path = REPOSITORY / "deploy/kubernetes/components/least-privilege/daemonset.yaml"
    pod = yaml.safe_load(path.read_text())["spec"]["template"]["spec"]
    added = pod["containers"][0]["securityContext"]["capabilities"]["add"]
    return {f"CAP_{name}" for name in added}


def test_the_unit_starts_a_sensor_with_flags_that_exist() -> None:
    program, command, *arguments = shlex.split(service()["ExecStart"])
    assert program == "/usr/bin/sensor"
    run = cli.get_command(click.Context(cli), command)
    assert run is not None
    with run.make_context(command, arguments) as context:
        assert str(context.params["config_path"]) == "/etc/sensor/sensor.yaml"


def test_a_wrong_configuration_is_not_tried_again_and_again() -> None:
    """2 is the exit code for what the user wrote."""
    assert service()["RestartPreventExitStatus"] == "2"


def test_started_means_ready_and_a_stalled_sensor_is_started_anew() -> None:
    assert (service()["Type"], service()["NotifyAccess"]) == ("notify", "main")
    # The loop's longest sleep is far below half of it, the last words' delivery below it.
    assert int(service()["WatchdogSec"]) > 2 * (loop._LAST_WORDS_S + loop._POLL_S)
    assert service()["Restart"] == "always"


def test_a_reload_may_signal_the_user_that_the_sensor_has_become() -> None:
    """The unit's capabilities lack CAP_KILL; `+` runs the command without the unit's limits."""
    assert "CAP_KILL" not in service()["CapabilityBoundingSet"]
    assert service()["ExecReload"] == "+/bin/kill -HUP $MAINPID"


def test_systemd_understands_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: the unit was not verified")
    unit = tmp_path / UNIT.name
    # It would look for the program on this machine.
    unit.write_text(UNIT.read_text().replace("/usr/bin/sensor", "/bin/true"))
    ran = subprocess.run(
        ["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_score_of_the_documentation_is_the_one_that_systemd_gives() -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed: the unit was not scored")
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", UNIT]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    (score,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", ran.stdout)
    assert f"`systemd-analyze security` gives it {score}" in " ".join(OPERATIONS.split())


def test_all_three_ways_in_use_the_same_capabilities_and_the_documentation_names_them() -> None:
    assert set(service()["CapabilityBoundingSet"].split()) == capabilities()
    command = README.split("```console\n# docker run")[1].split("```")[0]
    documented = re.findall(r"--cap-add ([A-Z_]+) ", command)
    assert {f"CAP_{name}" for name in documented} == capabilities()
    table = OPERATIONS.split("## What each permission is for")[1].split("\n## ")[0]
    assert capabilities() <= set(re.findall(r"CAP_\w+", table))


def test_the_packages_configuration_is_valid_and_its_folders_are_in_the_package() -> None:
    config = load_config(DEBIAN / "sensor.yaml")
    folders = {f"/{line}" for line in (DEBIAN / "ebpf-container-sensor.dirs").read_text().split()}
    assert {*config.rules, *config.alerts.exceptions, "/etc/sensor/config.d"} == folders


def test_the_user_is_the_same_everywhere() -> None:
    config = load_config(DEBIAN / "sensor.yaml")
    user = (DEBIAN / "ebpf-container-sensor.sysusers").read_text().split()[1]
    kind, path, mode, owner, group, _ = TMPFILES.read_text().splitlines()[-1].split()
    assert (config.user, config.user, config.user) == (user, owner, group)
    assert (kind, path, mode) == ("d", config.spool.directory, "0700")
    assert service()["ReadWritePaths"] == f"-{path}"


def test_the_version_is_the_packages() -> None:
    changelog = (DEBIAN / "changelog").read_text()
    assert changelog.startswith(f"ebpf-container-sensor ({sensor.__version__}) ")


def test_the_package_depends_on_what_the_build_finds_in_debian() -> None:
    """Otherwise pip would leave out, for the build has it, what the installed package lacks."""
    control = (DEBIAN / "control").read_text()
    build = control[control.index("Build-Depends:") : control.index("\n\nPackage:")]
    depends = control[control.index("\nDepends:") : control.index("\nRecommends:")]
    found = set(re.findall(r" (python3-[\w-]+)", build)) - {"python3-pip", "python3-venv"}
    assert found <= set(re.findall(r" (python3-[\w-]+)", depends))


def test_the_list_that_make_deb_installs_from_is_the_build_dependencies() -> None:
    control = (DEBIAN / "control").read_text()
    build = control[control.index("Build-Depends:") : control.index("\nStandards-Version")]
    wanted = set(re.findall(r"^ ([\w-]+)", build, re.MULTILINE))
    # Virtual packages of debhelper, and what every Debian has that builds.
    wanted = {"debhelper" if each == "debhelper-compat" else each for each in wanted}
    wanted = {each for each in wanted if not each.startswith("dh-sequence-")} - {"python3"}
    listed = set(re.findall(r"^([\w-]+)", (DEBIAN / "apt-packages.txt").read_text(), re.MULTILINE))
    assert listed - {"build-essential"} == wanted


def test_bcc_is_debians() -> None:
    control = (DEBIAN / "control").read_text()
    assert re.search(r"^Depends:\n(?: .+\n)*? python3-bpfcc,", control, re.MULTILINE)


def test_the_package_brings_the_program_that_a_reload_runs() -> None:
    """A minimal Debian has no /bin/kill."""
    assert "/bin/kill" in service()["ExecReload"]
    control = (DEBIAN / "control").read_text()
    assert re.search(r"^Depends:\n(?: .+\n)*? procps,", control, re.MULTILINE)


def test_every_metric_and_health_check_of_the_documentation_is_the_codes() -> None:
    metrics = (REPOSITORY / "sensor/metrics.py").read_text()
    named = set(re.findall(r"`/healthz/(\w+)`", OPERATIONS))
    assert named == {"startup", "live", "ready"}
    for name in set(re.findall(r"`sensor_(\w+?)(?:_total)?(?:\{[\w,=\"]+\})?`", OPERATIONS)):
        assert f'"{name}"' in metrics or f'"sensor_{name}"' in metrics, name


def test_every_setting_that_the_documentation_names_exists() -> None:
    reference = yaml.safe_load((REPOSITORY / "deploy/sensor.yaml").read_text())
    for section, key in re.findall(
        r"`(kernel|containers|alerts|metrics|spool|store)\.([a-z_]+)", OPERATIONS
    ):
        assert key in reference[section], f"{section}.{key}"
