"""The project's own files: what a newcomer runs first must hold."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

import sensor

REPOSITORY = Path(__file__).parents[2]
INSTALL = REPOSITORY / "deploy/install-packages.sh"

PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[^\w.-]", each, maxsplit=1)[0].lower() for each in requirements}


def test_the_unrelated_bcc_of_pypi_is_never_asked_for() -> None:
    project = PYPROJECT["project"]
    wanted = [project["dependencies"], *project["optional-dependencies"].values()]
    assert all({"bcc", "bpfcc"}.isdisjoint(names(each)) for each in wanted)


def test_every_package_is_packaged() -> None:
    """What is not listed is missing from an installed sensor, and only there."""
    folders = {path.parent for path in (REPOSITORY / "sensor").rglob("*.py")}
    found = {".".join(folder.relative_to(REPOSITORY).parts) for folder in folders}
    assert set(PYPROJECT["tool"]["setuptools"]["packages"]) == found | {"sensor._bpf"}


def test_every_data_file_of_the_package_is_packaged() -> None:
    """What no pattern covers is missing from an installed sensor, and only there."""
    setuptools = PYPROJECT["tool"]["setuptools"]
    elsewhere = setuptools["package-dir"]
    covered = {
        path
        for package, patterns in setuptools["package-data"].items()
        for pattern in patterns
        for path in (REPOSITORY / elsewhere.get(package, package.replace(".", "/"))).glob(pattern)
    }
    data = {
        path
        for folder in ("sensor", "bpf")
        for path in (REPOSITORY / folder).rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc", ".md")
    }
    assert data - covered == set()


def test_the_version_stands_in_two_places_alike() -> None:
    assert sensor.__version__ == PYPROJECT["project"]["version"]


def test_the_licence_is_the_one_that_is_declared() -> None:
    assert PYPROJECT["project"]["license"] == {"text": "Apache-2.0"}
    assert "Version 2.0, January 2004" in (REPOSITORY / "LICENSE").read_text()


def test_continuous_integration_runs_the_test_command_and_nothing_else() -> None:
    lines = (REPOSITORY / ".ci/run").read_text().splitlines()
    commands = [line for line in lines if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == ["export CI=true", "exec make test"]


def test_each_target_that_the_documents_name_exists() -> None:
    targets = set(
        re.findall(r"^([a-z-]+):.*## ", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    )
    assert {"help", "venv", "run", "demo", "test", "lint", "bench", "clean"} <= targets
    for document in [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")]:
        named = re.findall(r"(?:^|`|sudo )make ([a-z-]+)", document.read_text(), re.MULTILINE)
        assert set(named) <= targets, document.name


def test_make_alone_lists_the_targets() -> None:
    ran = subprocess.run(["make", "-C", REPOSITORY], capture_output=True, text=True, check=True)
    assert re.search(r"^  run +\S", ran.stdout, re.MULTILINE)


def test_links_between_documents_lead_somewhere() -> None:
    for document in [*REPOSITORY.glob("*.md"), *REPOSITORY.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


@pytest.mark.parametrize(
    "record", sorted((REPOSITORY / "docs/decisions").glob("*.md")), ids=lambda path: path.stem
)
def test_a_decision_says_why_and_what_follows(record: Path) -> None:
    headings = re.findall(r"^## (.+)$", record.read_text(), re.MULTILINE)
    assert headings[:3] == ["Context", "Decision", "Consequences"]


# --- install-packages.sh ----------------------------------------------------------------------------


class Machine:
    """A machine made of stand-ins for dpkg-query, apt-cache, apt-get and id, which keep a log."""

    def __init__(self, directory: Path) -> None:
        self._bin = directory / "bin"
        self._bin.mkdir()
        self.log = directory / "log"
        self.log.touch()
        self.policy = directory / "policy-rc.d"
        self._list = directory / "packages.txt"
        # What the script itself uses; nothing else of the real machine is on its PATH.
        for tool in ("bash", "sed", "chmod", "rm"):
            found = shutil.which(tool)
            assert found is not None
            (self._bin / tool).symlink_to(found)
        self.stand_in("id", "echo 0")
        self.stand_in("dpkg-query", "printf not-installed")
        self.stand_in("apt-cache", "true")
        self.stand_in("apt-get", f'echo "apt-get $*" >> {self.log}')

    def stand_in(self, name: str, script: str) -> None:
        path = self._bin / name
        path.write_text(f"#!/bin/bash\n{script}\n")
        path.chmod(0o755)

    def without(self, name: str) -> None:
        (self._bin / name).unlink()

    def install(self, packages: str) -> subprocess.CompletedProcess[str]:
        self._list.write_text(packages)
        return subprocess.run(
            [INSTALL, self._list],
            capture_output=True,
            text=True,
            check=False,
            env={"PATH": str(self._bin), "POLICY_RC_D": str(self.policy)},
        )

    def calls(self) -> list[str]:
        return self.log.read_text().splitlines()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


INSTALL_BOTH = "apt-get install --yes --no-install-recommends one two"


def test_only_what_is_missing_is_installed(machine: Machine) -> None:
    machine.stand_in("dpkg-query", '[ "${!#}" = one ] && printf installed || exit 1')
    ran = machine.install("# a list\none\n\ntwo  # why\n")
    assert (ran.returncode, ran.stdout) == (0, "installing Debian packages: two\n")
    assert machine.calls() == ["apt-get install --yes --no-install-recommends two"]


def test_where_all_is_there_apt_is_not_called(machine: Machine) -> None:
    machine.stand_in("dpkg-query", "printf installed")
    ran = machine.install("one\ntwo\n")
    assert (ran.returncode, ran.stdout, machine.calls()) == (0, "", [])


def test_without_root_the_command_is_told(machine: Machine) -> None:
    machine.stand_in("id", "echo 1000")
    ran = machine.install("one\ntwo\n")
    assert (ran.returncode, machine.calls()) == (1, [])
    assert ran.stderr == "Debian packages are missing: sudo apt-get install one two\n"


def test_empty_package_lists_are_updated_first(machine: Machine) -> None:
    machine.stand_in("apt-cache", "exit 100")
    assert machine.install("one\ntwo\n").returncode == 0
    assert machine.calls() == ["apt-get update", INSTALL_BOTH]


def test_old_package_lists_are_updated_when_a_download_fails(machine: Machine) -> None:
    machine.stand_in(
        "apt-get",
        f'echo "apt-get $*" >> {machine.log}\n[ "$1" = update ] || [ -e {machine.log}.second ]'
        f" || {{ : > {machine.log}.second; exit 100; }}",
    )
    assert machine.install("one\ntwo\n").returncode == 0
    assert machine.calls() == [INSTALL_BOTH, "apt-get update", INSTALL_BOTH]


def test_a_package_that_cannot_be_installed_is_a_failure(machine: Machine) -> None:
    machine.stand_in("apt-get", '[ "$1" = update ] || exit 100')
    assert machine.install("one\n").returncode != 0


def test_a_daemon_that_comes_along_is_kept_from_starting(machine: Machine) -> None:
    """Debian asks this file before a package's service is started; afterwards it is gone again."""
    machine.stand_in("apt-get", f"{machine.policy}; echo $? >> {machine.log}")
    machine.install("one\n")
    assert (machine.calls(), machine.policy.exists()) == (["101"], False)


def test_a_policy_of_the_machine_is_left_alone(machine: Machine) -> None:
    machine.policy.write_text("#!/bin/bash\nexit 0\n")
    machine.install("one\n")
    assert machine.policy.read_text() == "#!/bin/bash\nexit 0\n"


def test_on_another_distribution_the_packages_are_named(machine: Machine) -> None:
    machine.without("apt-get")
    ran = machine.install("one\ntwo  # why\n")
    assert ran.returncode == 0
    assert ran.stderr.splitlines()[1:] == ["  one", "  two"]


def test_the_scripts_are_executable() -> None:
    for script in (INSTALL, REPOSITORY / ".ci/run"):
        assert os.access(script, os.X_OK)
