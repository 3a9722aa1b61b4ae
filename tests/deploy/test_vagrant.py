"""deploy/vagrant: what the machine is made of exists, and the documentation names what can be set."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
VAGRANT = REPOSITORY / "deploy/vagrant"
VAGRANTFILE = (VAGRANT / "Vagrantfile").read_text()
SECTION = (
    (REPOSITORY / "docs/operations.md").read_text().split("### Vagrant\n")[1].split("\n## ")[0]
)


def test_vagrant_understands_the_file(tmp_path: Path) -> None:
    if shutil.which("vagrant") is None:
        pytest.skip("vagrant is not installed: the Vagrantfile was not validated")
    environment = {
        **os.environ,
        "VAGRANT_HOME": str(tmp_path),
        "VAGRANT_DOTFILE_PATH": str(tmp_path),
    }
    ran = subprocess.run(
        ["vagrant", "validate", "--ignore-provider"],
        cwd=VAGRANT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_it_is_provisioned_by_targets_that_exist() -> None:
    (targets,) = re.findall(r"make --no-print-directory -C #{CHECKOUT} (.+)", VAGRANTFILE)
    defined = re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    assert set(targets.split()) <= set(defined)


def test_every_variable_and_provider_is_documented() -> None:
    read = VAGRANTFILE + (VAGRANT / "test.sh").read_text()
    variables = set(re.findall(r"SENSOR_[A-Z_]+", read))
    assert variables == set(re.findall(r"SENSOR_[A-Z_]+", SECTION))
    providers = set(re.findall(r"config\.vm\.provider :(\w+)", VAGRANTFILE))
    (others,) = re.findall(r"%i\[(.+?)\]\.each", VAGRANTFILE)
    for provider in providers | set(others.split()):
        assert f"`{provider}`" in SECTION
