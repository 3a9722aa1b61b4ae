"""`sensor doctor`: each check against a machine made of fixture directories, sockets and interpreters."""

from __future__ import annotations

import json
import os
import resource
import socket
import stat
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from sensor.cli.doctor import doctor
from sensor.doctor import engines, kernel, software
from sensor.doctor import examine as examine_module
from sensor.doctor.examine import examine
from sensor.doctor.finding import Finding, Host, Status
from sensor.errors import ProbeError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to become another user")

HYBRID = """\
24 1 0:22 / /proc rw,nosuid - proc proc rw
30 1 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw,nsdelegate
33 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
"""
V2 = "31 30 0:27 / /sys/fs/cgroup rw shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "33 30 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """The root of a healthy machine: `proc/` and `sys/`."""
    btf = tmp_path / "sys/kernel/btf/vmlinux"
    btf.parent.mkdir(parents=True)
    btf.write_bytes(b"\x9f\xeb\x01\x00" + bytes(2044))
    (tmp_path / "sys/kernel/security").mkdir()
    (tmp_path / "sys/kernel/security/lockdown").write_text("none [integrity] confidentiality\n")
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/mountinfo").write_text(HYBRID)
    return tmp_path


def host(machine: Path, **changes: object) -> Host:
    parts: dict[str, object] = {
        "proc_root": machine / "proc",
        "sys_root": machine / "sys",
        "dist_packages": machine / "dist-packages",
        "euid": 0,
        "release": "6.1.0-50-amd64",
        "sockets": (),
    }
    return Host(**(parts | changes))  # type: ignore[arg-type]


def test_root_is_ok_and_anybody_else_is_told_to_use_sudo(machine: Path) -> None:
    assert kernel.check_root(host(machine)).status is Status.OK
    finding = kernel.check_root(host(machine, euid=1000))
    assert (finding.status, "uid 1000" in finding.detail) == (Status.FAIL, True)
    assert finding.fix is not None
    assert finding.fix.startswith("sudo ")


@pytest.mark.parametrize(
    ("release", "status"),
    [
        ("5.8.0", Status.OK),
        ("5.10.0-32-cloud-amd64", Status.OK),
        ("6.18.44", Status.OK),
        ("10.0", Status.OK),
        ("5.7.19", Status.FAIL),
        ("4.19.0-27-amd64", Status.FAIL),
        ("unheard-of", Status.WARN),
    ],
)
def test_kernels_from_5_8_on_are_good(machine: Path, release: str, status: Status) -> None:
    assert kernel.check_kernel(host(machine, release=release)).status is status


def test_older_kernels_do_not_preempt_the_program(machine: Path) -> None:
    assert kernel.check_preemption(host(machine, release="6.18.44")).status is Status.OK


def test_newer_ones_are_asked_whether_they_let_it_be_prevented(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = host(machine, release="7.2.13", euid=0)
    fd = os.open("/", os.O_PATH)
    monkeypatch.setattr(kernel, "open_events", lambda _: {"exec": fd})
    assert kernel.check_preemption(newer).status is Status.OK
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)

    def refuse(_: object) -> dict[str, int]:
        raise ProbeError("perf_event_open: Permission denied")

    monkeypatch.setattr(kernel, "open_events", refuse)
    finding = kernel.check_preemption(newer)
    assert finding.status is Status.WARN
    assert "perf_event_open: Permission denied" in finding.detail
    assert "CAP_SYS_ADMIN" in (finding.fix or "")
    assert kernel.check_preemption(host(machine, release="7.2.13", euid=7)).detail.startswith("not")


def test_btf_is_recognised_by_its_content(machine: Path) -> None:
    path = machine / "sys/kernel/btf/vmlinux"
    assert kernel.check_btf(host(machine)) == Finding(
        name="btf", status=Status.OK, detail=f"{path}, 2 KiB"
    )
    path.write_bytes(b"\x7fELF")
    assert kernel.check_btf(host(machine)).detail == f"{path}: not BTF"
    path.unlink()
    missing = kernel.check_btf(host(machine))
    assert (missing.status, missing.detail) == (Status.FAIL, f"{path}: No such file or directory")
    assert "CONFIG_DEBUG_INFO_BTF" in (missing.fix or "")


def test_a_missing_libbpf_is_one_finding_with_its_package(machine: Path) -> None:
    [finding] = kernel.check_libbpf_and_bpf(host(machine, libbpf="libbpf-of-nobody.so.9"))
    assert (finding.name, finding.status) == ("libbpf", Status.FAIL)
    assert finding.fix == "sudo apt-get install libbpf1"


def test_a_library_that_is_not_libbpf_is_not_taken_for_it(machine: Path) -> None:
    [finding] = kernel.check_libbpf_and_bpf(host(machine, libbpf="libc.so.6"))
    assert finding.status is Status.FAIL


@AS_ROOT
def test_bpf_is_really_tried(machine: Path) -> None:
    libbpf, bpf = kernel.check_libbpf_and_bpf(host(machine))
    assert (libbpf.status, bpf.status) == (Status.OK, Status.OK)


@AS_ROOT
def test_a_refused_bpf_call_says_what_is_missing() -> None:
    """In a process that has lost CAP_BPF and CAP_SYS_ADMIN while it is still root."""
    program = (
        "from sensor.doctor.finding import Host\n"
        "from sensor.doctor.kernel import check_libbpf_and_bpf as check\n"
        "_, bpf = check(Host())\n"
        "print(bpf.status, bpf.detail, bpf.fix, sep='|')\n"
    )
    ran = subprocess.run(
        ["setpriv", "--bounding-set", "-all", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
    )
    status, detail, fix = ran.stdout.split("|")
    assert status == "fail"
    assert "Operation not permitted" in detail
    assert "CAP_BPF" in fix


def test_bpf_is_not_tried_without_root(machine: Path) -> None:
    _, bpf = kernel.check_libbpf_and_bpf(host(machine, euid=1000))
    assert (bpf.status, bpf.detail) == (Status.WARN, "not tried: that needs root")


@pytest.mark.parametrize(
    ("text", "status", "detail"),
    [
        ("[none] integrity confidentiality\n", Status.OK, "none"),
        ("none [integrity] confidentiality\n", Status.OK, "integrity"),
        ("none integrity [confidentiality]\n", Status.FAIL, "BPF may not read kernel memory"),
        (None, Status.OK, "no lockdown state"),
    ],
)
def test_only_confidentiality_locks_the_sensor_out(
    machine: Path, text: str | None, status: Status, detail: str
) -> None:
    path = machine / "sys/kernel/security/lockdown"
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    finding = kernel.check_lockdown(host(machine))
    assert (finding.status, detail in finding.detail) == (status, True)


@pytest.mark.parametrize(
    ("mountinfo", "status", "detail"),
    [
        (HYBRID, Status.OK, "v1 with the unified hierarchy beside it (hybrid)"),
        (V2, Status.OK, "v2"),
        (V1, Status.OK, "v1"),
        ("24 1 0:22 /cgroup2 /proc rw - proc cgroup2 rw\n", Status.WARN, "no cgroup file system"),
        (None, Status.WARN, "mountinfo: No such file or directory"),
    ],
)
def test_cgroup_version_comes_from_the_mounts(
    machine: Path, mountinfo: str | None, status: Status, detail: str
) -> None:
    path = machine / "proc/self/mountinfo"
    if mountinfo is None:
        path.unlink()
    else:
        path.write_text(mountinfo)
    finding = kernel.check_cgroup(host(machine))
    assert finding.status is status
    assert finding.detail.startswith(detail)


def test_memlock_is_told_and_never_a_failure(machine: Path) -> None:
    small = kernel.check_memlock(host(machine, memlock=8 << 20))
    unlimited = kernel.check_memlock(host(machine, memlock=resource.RLIM_INFINITY))
    assert (small.status, small.detail.split(" (")[0]) == (Status.OK, "8192 KiB")
    assert (unlimited.status, unlimited.detail.split(" (")[0]) == (Status.OK, "unlimited")


def interpreter(directory: Path, module: str | None) -> str:
    """A Python that finds `module` (source text) as bcc, or no bcc at all."""
    modules = directory / "modules"
    modules.mkdir(exist_ok=True)
    if module is not None:
        (modules / "bcc.py").write_text(module)
    path = directory / "python"
    # -S: without site-packages, so that a BCC which is really installed is not found instead.
    path.write_text(f'#!/bin/sh\nPYTHONPATH={modules} exec {sys.executable} -S "$@"\n')
    path.chmod(0o755)
    return str(path)


def test_bcc_is_imported_by_the_interpreter_that_will_load_it(machine: Path) -> None:
    python = interpreter(machine, "BPF = object\n__version__ = '0.99'\n")
    finding = software.check_bcc(host(machine, python=python))
    assert (finding.status, finding.detail) == (Status.OK, f"BCC 0.99 in {python}")


def test_without_bcc_the_package_to_install_is_named(machine: Path) -> None:
    finding = software.check_bcc(host(machine, python=interpreter(machine, None)))
    assert finding.status is Status.FAIL
    assert "No module named 'bcc'" in finding.detail
    assert finding.fix == "sudo apt-get install python3-bpfcc"


def test_an_installed_bcc_that_the_environment_hides_means_another_fix(machine: Path) -> None:
    (machine / "dist-packages/bcc").mkdir(parents=True)
    finding = software.check_bcc(host(machine, python=interpreter(machine, None)))
    assert "make venv" in (finding.fix or "")


def test_the_unrelated_project_named_bcc_is_recognised(machine: Path) -> None:
    python = interpreter(machine, "__version__ = '1.0'\n")
    finding = software.check_bcc(host(machine, python=python))
    assert (finding.status, "another project" in finding.detail) == (Status.FAIL, True)
    assert finding.fix == f"{python} -m pip uninstall bcc"


def test_a_bcc_whose_library_is_broken_says_why(machine: Path) -> None:
    python = interpreter(machine, "raise OSError('libbcc.so.0: cannot open')\n")
    finding = software.check_bcc(host(machine, python=python))
    assert (finding.status, "libbcc.so.0: cannot open" in finding.detail) == (Status.FAIL, True)


def test_an_interpreter_that_is_not_there_is_a_finding(machine: Path) -> None:
    finding = software.check_bcc(host(machine, python=str(machine / "nowhere")))
    assert (finding.status, "No such file" in finding.detail) == (Status.FAIL, True)


def test_the_user_to_become_must_exist(machine: Path) -> None:
    assert software.check_user(host(machine)).status is Status.OK
    finding = software.check_user(host(machine, user="no-such-user"))
    assert finding.status is Status.FAIL
    assert (finding.fix or "").startswith("sudo useradd --system")


# --- engines ----------------------------------------------------------------------------------------

HTTP_OK = b"HTTP/1.0 200 OK\r\nApi-Version: 1.41\r\n\r\nOK"
SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


@pytest.fixture
def public(tmp_path: Path) -> Path:
    """A directory whose path any user may walk; pytest's own are closed to others."""
    for parent in tmp_path.parents:
        if parent.stat().st_uid == os.geteuid() and not parent.stat().st_mode & stat.S_IXOTH:
            parent.chmod(0o711)
    tmp_path.chmod(0o711)
    return tmp_path


@contextmanager
def listening(path: Path, answer: bytes | None) -> Iterator[None]:
    """A server at `path` that answers each request with `answer`, or never where that is None."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        path.chmod(0o666)
        server.listen()

        def serve() -> None:
            held = []
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                if answer is None:
                    held.append(connection)
                else:
                    # One that only looks whether somebody listens is gone already.
                    with connection, suppress(OSError):
                        connection.recv(4096)
                        connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def engine_finding(machine: Path, path: Path) -> Finding:
    [finding] = engines.check_engines(host(machine, sockets=(path,), euid=os.geteuid()))
    return finding


@pytest.mark.parametrize(
    ("answer", "detail"),
    [
        (HTTP_OK, "answers with Docker's API"),
        (SETTINGS, "answers with gRPC, as the CRI does"),
    ],
)
def test_an_engine_that_answers_is_ok(
    machine: Path, public: Path, answer: bytes, detail: str
) -> None:
    path = public / "engine.sock"
    with listening(path, answer):
        finding = engine_finding(machine, path)
    assert finding == Finding(name="engine", status=Status.OK, detail=f"{path}: {detail}")


def test_an_engine_that_speaks_something_else_does_not_count(machine: Path, public: Path) -> None:
    path = public / "engine.sock"
    with listening(path, b"220 mail.example ESMTP\r\n"):
        finding = engine_finding(machine, path)
    assert (finding.status, "no answer" in finding.detail) == (Status.WARN, True)


def test_an_engine_that_hangs_is_given_up(
    machine: Path, public: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "ANSWER_SECONDS", 0.05)
    path = public / "engine.sock"
    with listening(path, None):
        finding = engine_finding(machine, path)
    assert (finding.status, "no answer" in finding.detail) == (Status.WARN, True)


@AS_ROOT
def test_a_socket_that_the_unprivileged_sensor_cannot_open_is_a_warning(
    machine: Path, public: Path
) -> None:
    """Root could open it, and the sensor will not be root by then."""
    path = public / "engine.sock"
    with listening(path, HTTP_OK):
        path.chmod(0o600)
        finding = engine_finding(machine, path)
    assert finding.status is Status.WARN
    assert "srw------- gid 0" in finding.detail
    assert finding.fix == f"sudo chgrp docker {path} && sudo chmod 660 {path}"


@AS_ROOT
def test_a_closed_directory_above_the_socket_is_named(machine: Path, public: Path) -> None:
    """Podman's and Docker's own containerd's lie in one; the socket's own bits do not matter then."""
    directory = public / "closed"
    directory.mkdir(mode=0o700)
    path = directory / "engine.sock"
    with listening(path, HTTP_OK):
        finding = engine_finding(machine, path)
    assert finding.status is Status.WARN
    assert finding.detail == f"{path}: the directory {directory} is closed to nobody"
    assert finding.fix == f"sudo chmod o+x {directory}"


@AS_ROOT
def test_the_group_of_the_socket_opens_it(machine: Path, public: Path) -> None:
    path = public / "engine.sock"
    with listening(path, HTTP_OK):
        os.chown(path, 0, 4242)
        path.chmod(0o660)
        finding = engine_finding(machine, path)
    assert finding.status is Status.OK


def test_a_socket_that_nobody_listens_on_is_told_from_one_that_is_missing(
    machine: Path, public: Path
) -> None:
    path = public / "engine.sock"
    with listening(path, HTTP_OK):
        pass
    finding = engine_finding(machine, path)
    assert finding.detail == f"{path}: nothing listens there"
    path.unlink()
    assert engine_finding(machine, path).detail == f"{path}: No such file or directory"


def test_without_any_engine_alerts_have_less(machine: Path) -> None:
    [finding] = engines.check_engines(host(machine))
    assert (finding.name, finding.status) == ("engines", Status.WARN)


def test_a_file_in_the_place_of_a_socket(machine: Path, public: Path) -> None:
    path = public / "engine.sock"
    path.touch()
    assert engine_finding(machine, path).detail == f"{path}: not a socket"


def test_docker_host_names_the_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "other.sock"
    path.touch()
    monkeypatch.setenv("DOCKER_HOST", f"unix://{path}")
    assert Host().sockets[0] == path


# --- the command ------------------------------------------------------------------------------------

GOOD = Finding(name="kernel", status=Status.OK, detail="6.1")
POOR = Finding(name="docker", status=Status.WARN, detail="no socket", fix="start it")
BAD = Finding(name="btf", status=Status.FAIL, detail="not mounted", fix="sudo mount it")


def run(
    monkeypatch: pytest.MonkeyPatch, findings: list[Finding], *arguments: str
) -> tuple[int, str]:
    monkeypatch.setattr(examine_module, "examine", lambda _: findings)
    result = CliRunner().invoke(doctor, arguments)
    return result.exit_code, result.output


def test_each_finding_is_a_line_with_its_fix_below(monkeypatch: pytest.MonkeyPatch) -> None:
    code, output = run(monkeypatch, [GOOD, POOR])
    assert code == 0
    assert output.splitlines() == [
        "ok    kernel  6.1",
        "warn  docker  no socket",
        "              fix: start it",
        "1 ok, 1 warn, 0 fail",
    ]


def test_one_failure_makes_the_exit_code_1(monkeypatch: pytest.MonkeyPatch) -> None:
    code, output = run(monkeypatch, [GOOD, BAD, POOR])
    assert (code, output.splitlines()[-1]) == (1, "1 ok, 1 warn, 1 fail")


def test_json_carries_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    code, output = run(monkeypatch, [GOOD, BAD], "--json")
    assert (code, json.loads(output)) == (
        1,
        {
            "ok": False,
            "checks": [
                {"name": "kernel", "status": "ok", "detail": "6.1", "fix": None},
                {
                    "name": "btf",
                    "status": "fail",
                    "detail": "not mounted",
                    "fix": "sudo mount it",
                },
            ],
        },
    )


def test_the_configuration_names_user_and_sockets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sensor.yaml"
    path.write_text("user: games\ncontainers:\n  sockets: ['docker:/srv/a.sock', /srv/b.sock]\n")
    asked: list[Host] = []
    monkeypatch.setattr(examine_module, "examine", lambda host: asked.append(host) or [GOOD])
    CliRunner().invoke(doctor, ["--config", str(path)], catch_exceptions=False)
    [host] = asked
    assert host.user == "games"
    assert [str(socket) for socket in host.sockets] == ["/srv/a.sock", "/srv/b.sock"]


def test_a_broken_configuration_is_exit_code_2(tmp_path: Path) -> None:
    path = tmp_path / "sensor.yaml"
    path.write_text("usr: games\n")
    result = CliRunner().invoke(doctor, ["--config", str(path)])
    assert (result.exit_code, f"{path}: usr" in result.output) == (2, True)


def test_a_machine_without_anything_is_examined_to_the_end(tmp_path: Path) -> None:
    """No check raises, and each thing that stops the sensor has a fix."""
    nothing = host(
        tmp_path,
        euid=1000,
        release="4.9.0",
        libbpf="libbpf-of-nobody.so.9",
        python=str(tmp_path / "python"),
        user="no-such-user",
    )
    failed = {finding.name for finding in examine(nothing) if finding.status is Status.FAIL}
    assert failed == {"root", "kernel", "btf", "libbpf", "bcc", "user"}
