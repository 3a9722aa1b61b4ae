"""Checks of what is installed: BCC for this interpreter, and the user the sensor becomes."""

from __future__ import annotations

import pwd
import subprocess
from typing import TYPE_CHECKING

from sensor.doctor.finding import Finding, Status

if TYPE_CHECKING:
    from sensor.doctor.finding import Host

# In a process of its own: the import brings LLVM in, and only the loader may have that.
IMPORT_BCC = """
import bcc
print(bcc.__version__ if hasattr(bcc, "BPF") else "foreign " + str(bcc.__file__))
"""
IMPORT_SECONDS = 60


def check_bcc(host: Host) -> Finding:
    try:
        ran = subprocess.run(
            [host.python, "-c", IMPORT_BCC],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=IMPORT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding(name="bcc", status=Status.FAIL, detail=f"{host.python}: {error}")
    if ran.returncode != 0:
        reason = ran.stderr.strip().splitlines()[-1:] or [f"exit code {ran.returncode}"]
        return Finding(
            name="bcc",
            status=Status.FAIL,
            detail=f"{host.python}: {reason[0]}",
            fix=_bcc_fix(host),
        )
    answer = ran.stdout.strip()
    if answer.startswith("foreign "):
        return Finding(
            name="bcc",
            status=Status.FAIL,
            detail=f"{answer.removeprefix('foreign ')} is another project named bcc",
            fix=f"{host.python} -m pip uninstall bcc",
        )
    return Finding(name="bcc", status=Status.OK, detail=f"BCC {answer} in {host.python}")


def _bcc_fix(host: Host) -> str:
    if (host.dist_packages / "bcc").is_dir():
        # It is installed, so this interpreter does not look where Debian puts it.
        return "rm -r .venv && make venv (python3 -m venv --system-site-packages)"
    return "sudo apt-get install python3-bpfcc"


def check_user(host: Host) -> Finding:
    try:
        entry = pwd.getpwnam(host.user)
    except KeyError:
        return Finding(
            name="user",
            status=Status.FAIL,
            detail=f"no user {host.user!r}, which the sensor becomes once it runs",
            fix=f"sudo useradd --system --no-create-home --shell /usr/sbin/nologin {host.user}",
        )
    return Finding(
        name="user",
        status=Status.OK,
        detail=f"{host.user} (uid {entry.pw_uid}), which the sensor becomes once it runs",
    )
