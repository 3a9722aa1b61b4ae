"""The Python mirror against the C header, as the host's compiler lays it out."""

from __future__ import annotations

import ctypes as ct
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from sensor.kernel import layout

BPF = Path(__file__).resolve().parents[3] / "bpf"
HEADER = BPF / "events.h"
STRUCTS = (
    "Span",
    "Header",
    "Args",
    "Cgroup",
    "Process",
    "Exec",
    "Image",
    "Proc",
    "Recent",
    "Recorder",
    "Config",
    "Bank",
)
ENUMS = {
    "kind": layout.Kind,
    "flag": layout.Flag,
    "role": layout.Role,
    "mode": layout.Mode,
    "plan": layout.Plan,
    "stat": layout.Stat,
}
PREFIX = {
    "kind": "KIND",
    "flag": "F",
    "role": "ROLE",
    "mode": "MODE",
    "plan": "PLAN",
    "stat": "STAT",
}
CONSTANTS = {
    "ABI_VERSION": "ABI_VERSION",
    "COMM_LEN": "COMM_LEN",
    "INLINE_LEN": "INLINE_LEN",
    "CHUNK_LEN": "CHUNK_LEN",
    "CHUNKS_MAX": "CHUNKS_MAX",
    "ARGS_MAX": "ARGS_MAX",
    "IMAGE_LEN": "IMAGE_LEN",
    "FILENAME_LEN": "FILENAME_LEN",
    "PROCS_WAYS": "PROCS_WAYS",
    "NAMES_MAX": "NAMES_MAX",
    "CGROUPS": "CGROUPS",
    "CGROUP_HOST": "CGROUP_HOST",
    "FILTER_BANK": "FILTER_BANK",
    "FILTER_PATHS": "FILTER_PATHS",
    "FILTER_PLAN_SHIFT": "FILTER_PLAN_SHIFT",
    "FILTER_HOST_SHIFT": "FILTER_HOST_SHIFT",
    "FILTER_HOST_STATE": "FILTER_HOST_STATE",
    "FILTER_STATE": "FILTER_STATE",
    "FAILED_ARGS_LEN": "FAILED_ARGS_LEN",
    "FAILED_ARGS": "FAILED_ARGS",
    "HIERARCHIES": "HIERARCHIES",
    "PROCESSES": "PROCESSES",
    "BANKS": "BANKS",
    "CLASSES": "CLASSES",
    "STATES_MAX": "STATES_MAX",
    "STATE_START": "STATE_START",
    "STATE_HIT": "STATE_HIT",
    "STAT_COUNT": "STAT_COUNT",
}


def run_c(tmp_path: Path, lines: list[str]) -> list[str]:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.fail("no C compiler: apt-get install gcc libc6-dev")
    source = tmp_path / "layout.c"
    body = "\n".join(lines)
    source.write_text(
        f'#include <stddef.h>\n#include <stdio.h>\n#include "{HEADER}"\nint main(void)\n{{\n{body}\n}}\n'
    )
    program = tmp_path / "layout"
    subprocess.run(
        [compiler, "-Wall", "-Wextra", "-Wpadded", "-Werror", "-o", program, source], check=True
    )
    return subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()


def test_offsets_and_sizes_are_those_of_the_header(tmp_path: Path) -> None:
    lines, expected = [], []
    for name in STRUCTS:
        struct = getattr(layout, name)
        c_name = f"struct sensor_{name.lower()}"
        lines.append(f'printf("{name} %zu\\n", sizeof({c_name}));')
        expected.append(f"{name} {ct.sizeof(struct)}")
        for field, *_ in struct._fields_:
            lines.append(
                f'printf("{name}.{field} %zu %zu\\n", offsetof({c_name}, {field}), '
                f"sizeof((({c_name} *)0)->{field}));"
            )
            member = getattr(struct, field)
            expected.append(f"{name}.{field} {member.offset} {member.size}")
    assert expected == run_c(tmp_path, lines)


def test_every_field_of_the_header_is_mirrored() -> None:
    text = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL)
    for name, body in re.findall(r"struct sensor_(\w+) \{(.*?)\n\};", text, flags=re.DOTALL):
        declared = [
            variable.strip().split("[")[0]
            for declaration in re.findall(r"(?:__u\d+|char|struct \w+) ([\w, \[\]\*]+);", body)
            for variable in declaration.split(",")
        ]
        mirrored = [field for field, *_ in getattr(layout, name.capitalize())._fields_]
        assert [f for f in declared if f != "first"] == mirrored, name


def test_constants_are_those_of_the_header(tmp_path: Path) -> None:
    lines = [f'printf("%lld\\n", (long long)SENSOR_{c});' for c in CONSTANTS.values()]
    lines.append('printf("%llu\\n", (unsigned long long)SENSOR_CGROUP_V1);')
    expected = [str(getattr(layout, name)) for name in (*CONSTANTS, "CGROUP_V1")]
    assert expected == run_c(tmp_path, lines)


@pytest.mark.parametrize("enum", ENUMS)
def test_enumerators_are_those_of_the_header(enum: str, tmp_path: Path) -> None:
    text = HEADER.read_text()
    prefix = f"SENSOR_{PREFIX[enum]}_"
    block = re.search(rf"enum sensor_{enum} \{{(.*?)\}};", text, flags=re.DOTALL)
    assert block is not None
    names = [
        name
        for name in re.findall(rf"{prefix}(\w+) =", block.group(1))
        if name not in ("INVALID", "COUNT")
    ]
    assert names == [member.name for member in ENUMS[enum]]
    lines = [f'printf("%d\\n", {prefix}{name});' for name in names]
    assert [str(member.value) for member in ENUMS[enum]] == run_c(tmp_path, lines)
