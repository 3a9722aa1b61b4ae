"""deploy/Dockerfile and what it names: files, flags, extras and paths are those of the code."""

from __future__ import annotations

import json
import re
import tomllib
from fnmatch import fnmatch
from itertools import chain
from pathlib import Path

import click

from sensor.cli.main import cli
from sensor.config import load_config

REPOSITORY = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
# One instruction a line, without comments.
DOCKERFILE = re.sub(
    r"\\\n",
    " ",
    re.sub(r"^#.*\n", "", (REPOSITORY / "deploy/Dockerfile").read_text(), flags=re.MULTILINE),
)


def instructions(name: str) -> list[str]:
    return re.findall(rf"^{name} +(.+)$", DOCKERFILE, re.MULTILINE)


def copied() -> set[str]:
    """What is copied from the context."""
    return {
        source
        for line in instructions("COPY")
        if not line.startswith("--from=")
        for source in line.split()[:-1]
    }


def test_what_is_copied_exists() -> None:
    assert [each for each in copied() if not (REPOSITORY / each).exists()] == []


def test_the_context_is_what_is_copied_and_no_more() -> None:
    lines = (REPOSITORY / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {line.removeprefix("!") for line in rules if line.startswith("!")} == copied()


def test_the_command_starts_a_sensor_with_flags_that_exist() -> None:
    command, *arguments = json.loads(instructions("CMD")[-1])
    run = cli.get_command(click.Context(cli), command)
    assert run is not None
    with run.make_context(command, arguments) as context:
        assert context.params["output"] == "json"


def test_the_health_check_asks_where_the_command_listens() -> None:
    arguments = json.loads(instructions("CMD")[-1])
    listen = arguments[arguments.index("--listen") + 1]
    assert f"http://{listen}/healthz/ready" in instructions("HEALTHCHECK")[0]


def test_the_configuration_is_where_the_command_looks() -> None:
    arguments = json.loads(instructions("CMD")[-1])
    target = arguments[arguments.index("--config") + 1]
    sources = [line.split()[0] for line in instructions("COPY") if line.split()[-1] == target]
    assert sources == ["deploy/sensor.yaml"]
    load_config(REPOSITORY / sources[0])


def test_the_extras_exist() -> None:
    default = dict(line.split("=", 1) for line in instructions("ARG") if "=" in line)["EXTRAS"]
    assert set(default.split(",")) <= set(PYPROJECT["project"]["optional-dependencies"])


def test_no_stage_but_the_last_is_the_image_and_pip_is_not_in_it() -> None:
    last = DOCKERFILE[DOCKERFILE.rindex("\nFROM ") :]
    assert last.startswith("\nFROM scratch")
    assert "pip" not in last
    assert "--without-pip" in DOCKERFILE


def test_every_pinned_package_is_one_that_is_wanted() -> None:
    """A pin is for a dependency, or for what a dependency brings where Debian's is too old."""
    pins = re.findall(
        r"^([\w-]+)==", (REPOSITORY / "deploy/constraints.txt").read_text(), re.MULTILINE
    )
    project = PYPROJECT["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    wanted = {re.split(r"[^\w-]", each, maxsplit=1)[0] for each in chain.from_iterable(lists)}
    assert set(pins) - wanted <= {"anyio", "certifi", "typing_extensions"}
    assert pins == sorted(pins)


def test_wheels_of_a_developer_are_not_committed() -> None:
    ignored = (REPOSITORY / "deploy/wheels/.gitignore").read_text().splitlines()
    assert "*" in ignored
    assert not any(fnmatch("x.whl", each.removeprefix("!")) for each in ignored if each[0] == "!")


def test_the_image_has_debians_package_where_debian_has_one() -> None:
    """So that security fixes come with Debian's, and pip brings little."""
    installed = set(re.findall(r"\bpython3-[\w-]+", instructions("RUN")[0]))
    assert {"python3-bpfcc", "python3-yaml", "python3-click", "python3-lark"} <= installed


def test_every_flag_of_the_command_to_run_it_is_explained() -> None:
    section = (REPOSITORY / "README.md").read_text().split("## In a container")[1].split("\n## ")[0]
    command = section.split("```console")[1].split("```")[0].split("ebpf-container-sensor")[0]
    table = section.split("| flag |")[1]
    for flag, value in re.findall(r"--([a-z-]+) ([^\s\\]+)", command):
        if flag in {"name", "restart"}:
            continue  # Docker's own, and what they say
        named = re.findall(r"\w[\w.-]*", value)
        assert f"--{flag}" in table or any(f"{each}`" in table for each in named), flag
    for flag in re.findall(r"--read-only|--privileged", command):
        assert flag in table


def test_the_script_that_builds_it_passes_arguments_that_exist() -> None:
    script = (REPOSITORY / "deploy/image.sh").read_text()
    passed = set(re.findall(r'--build-arg "?(\w+)=', script)) | set(
        re.findall(r"for variable in (.+);", script)[0].split()
    )
    declared = {each.split("=")[0] for each in instructions("ARG")}
    assert passed - {"variable"} == declared
