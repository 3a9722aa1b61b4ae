"""The Debian package, built by Debian's tools, checked by lintian, installed into a minimal Debian and purged.

    sudo make test-deb

It takes packages from Debian's archive and PyPI. A package that is built already:

    sudo SENSOR_PACKAGE=dist/ebpf-container-sensor_0.1.0_amd64.deb .venv/bin/pytest tests/deploy/test_package.py
"""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from bare_root import BareRoot

import sensor

REPOSITORY = Path(__file__).parents[2]
sys.path.insert(0, str(REPOSITORY / "tests/live"))

from cgroup_of_its_own import CgroupOfItsOwn  # noqa: E402
from sensor_process import Sensor  # noqa: E402

PACKAGE = os.environ.get("SENSOR_PACKAGE")
OF_ITS_OWN = "build"
NAME = "ebpf-container-sensor"

pytestmark = pytest.mark.skipif(
    PACKAGE is None, reason="the Debian package was not tested: sudo make test-deb"
)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if PACKAGE != OF_ITS_OWN:
        return Path(str(PACKAGE)).resolve()
    folder = tmp_path_factory.mktemp("package")
    built = subprocess.run(
        [REPOSITORY / "deploy/debian/build.sh", folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stdout[-3000:]
    (found,) = folder.glob("*.deb")
    return found


@pytest.fixture(scope="module")
def root() -> Iterator[BareRoot]:
    with BareRoot() as bare:
        yield bare


@pytest.fixture(scope="module")
def installed(root: BareRoot, package: Path) -> BareRoot:
    (root.path / "root/package.deb").write_bytes(package.read_bytes())
    install(root)
    return root


def install(root: BareRoot, *options: str) -> None:
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ("apt-get", "--quiet", "update"),
        (
            "apt-get",
            *("--yes", "--no-install-recommends", *options),
            "install",
            "/root/package.deb",
        ),
    ):
        ran = root.run(*command, environment=environment)
        assert ran.returncode == 0, ran.stdout[-3000:]


def test_lintian_finds_nothing(package: Path) -> None:
    ran = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error,warning,info", package],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.returncode, ran.stdout) == (0, "")


def test_the_installed_command_says_its_version(installed: BareRoot) -> None:
    ran = installed.run("sensor", "--version")
    assert ran.returncode == 0
    assert sensor.__version__ in ran.stdout


def test_the_doctor_finds_the_machine_fit(installed: BareRoot) -> None:
    ran = installed.run("sensor", "doctor", "--config", "/etc/sensor/sensor.yaml")
    assert ran.returncode == 0, ran.stdout


def test_nothing_of_the_package_says_where_it_was_built(installed: BareRoot) -> None:
    below = installed.path / "usr/lib/ebpf-container-sensor"
    telling = [
        path
        for path in below.rglob("*")
        if path.is_file()
        and not path.is_symlink()
        and b"/debian/ebpf-container" in path.read_bytes()
    ]
    assert telling == []


def test_what_the_configuration_and_the_unit_name_can_be_read(installed: BareRoot) -> None:
    assert (installed.path / "usr/share/man/man8/sensor.8.gz").is_file()
    configuration = (installed.path / "etc/sensor/sensor.yaml").read_text()
    (named,) = re.findall(r"(/usr/share/doc/\S+\.yaml)", configuration)
    yaml.safe_load((installed.path / named.lstrip("/")).read_text())
    unit = (installed.path / f"lib/systemd/system/{NAME}.service").read_text()
    (named,) = re.findall(r"^Documentation=file://(.+)$", unit, re.MULTILINE)
    assert (installed.path / named.lstrip("/")).read_text().startswith("# Operations")


def test_the_service_starts_at_boot_as_a_user_that_exists(installed: BareRoot) -> None:
    unit = f"etc/systemd/system/multi-user.target.wants/{NAME}.service"
    assert (installed.path / unit).is_symlink()
    user = yaml.safe_load((installed.path / "etc/sensor/sensor.yaml").read_text())["user"]
    assert re.search(rf"^{user}:", (installed.path / "etc/passwd").read_text(), re.MULTILINE)


def test_every_program_that_the_unit_runs_is_there(installed: BareRoot) -> None:
    unit = (installed.path / f"lib/systemd/system/{NAME}.service").read_text()
    programs = re.findall(r"^Exec\w+=\+?(\S+)", unit, re.MULTILINE)
    assert "/usr/bin/sensor" in programs
    missing = [each for each in programs if installed.run("test", "-x", each).returncode != 0]
    assert missing == []


def test_as_the_unit_starts_it_it_alerts_on_an_exec_in_a_container(installed: BareRoot) -> None:
    """The unit's own command line, in the root; this machine's systemd has no part in it."""
    unit = (installed.path / f"lib/systemd/system/{NAME}.service").read_text()
    (command,) = re.findall(r"^ExecStart=(.+)$", unit, re.MULTILINE)
    started = Sensor(environment=installed.environment())
    started.command = installed.command(*command.split())
    marker = f"marker-{secrets.token_hex(8)}"
    container = secrets.token_hex(32)
    with started, CgroupOfItsOwn(b"docker/" + container.encode()) as cgroup:
        cgroup.run(["grep", "aws_secret_access_key", marker])
        alert = started.wait_for_argument(marker)
        assert alert["container"]["id"] == container
        assert "running as _ebpf-sensor" in started.stderr
        assert started.stop() == 0
    script = Path(__file__).with_name("served_alerts.py").read_text()
    served = installed.run("python3", "-c", script, "/var/lib/sensor/alerts.db")
    assert alert["event"]["id"] in served.stdout


def test_an_upgrade_keeps_what_the_user_changed(installed: BareRoot) -> None:
    configuration = installed.path / "etc/sensor/sensor.yaml"
    rule = installed.path / "etc/sensor/rules/mine.yml"
    before = configuration.read_text()
    try:
        configuration.write_text(before + "# changed\n")
        rule.write_text("[]\n")
        install(installed, "--reinstall")
        assert configuration.read_text() == before + "# changed\n"
        assert rule.read_text() == "[]\n"
    finally:
        configuration.write_text(before)
        rule.unlink()


def test_a_purge_leaves_nothing(package: Path) -> None:
    """In a root of its own; but for the system user, as Debian's packages do."""
    with BareRoot() as root:
        (root.path / "root/package.deb").write_bytes(package.read_bytes())
        install(root)
        (root.path / "root/package.deb").unlink()
        assert root.run("sensor", "rules", "check").returncode == 0
        (root.path / "var/lib/sensor/spool").mkdir(parents=True)
        assert any("sensor" in path for path in root.files("etc", "usr", "var"))
        purged = root.run("apt-get", "--yes", "purge", NAME)
        assert purged.returncode == 0, purged.stdout[-3000:]
        left = {path for path in root.files() if "sensor" in path.rpartition("/")[2]}
        listed = root.run("sh", "-c", "cat /var/lib/dpkg/info/*.list").stdout.splitlines()
        assert left - set(listed) == set()
