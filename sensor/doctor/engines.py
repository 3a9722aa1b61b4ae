"""Checks of the container engines: whether their socket is there and answers the sensor.

The sensor reads a socket as an unprivileged user who keeps nothing but the socket's group. So that is
how it is tried here, rather than guessed from permission bits.
"""

from __future__ import annotations

import errno
import os
import pwd
import socket
import stat
from typing import TYPE_CHECKING

from sensor.containers.discovery import probe
from sensor.doctor.finding import Finding, Status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sensor.doctor.finding import Host

ANSWER_SECONDS = 2.0

# What the child that asks ends with; any other code is an errno.
_SPEAKS = {"docker": 0, "cri": 254, None: 255}
_ANSWERS = {0: "answers with Docker's API", 254: "answers with gRPC, as the CRI does"}
_NO_ANSWER = 255


def check_engines(host: Host) -> Iterator[Finding]:
    if not host.sockets:
        yield Finding(
            name="engines",
            status=Status.WARN,
            detail="no container engine's socket is here: alerts will carry the container's id only",
            fix="sudo systemctl start docker (or name the socket in the configuration)",
        )
    for path in host.sockets:
        yield _check_socket(host, path)


def _check_socket(host: Host, path: Path) -> Finding:
    try:
        status = path.stat()
    except OSError as error:
        return _finding(path, Status.WARN, str(error.strerror))
    if not stat.S_ISSOCK(status.st_mode):
        return _finding(path, Status.WARN, "not a socket")
    code = _ask_as_sensor(host, path, status.st_gid)
    if code in _ANSWERS:
        return _finding(path, Status.OK, _ANSWERS[code])
    if code == errno.EACCES and (closed := _closed_directory(path)) is not None:
        detail = f"the directory {closed} is closed to {host.user}"
        return _finding(path, Status.WARN, detail, fix=f"sudo chmod o+x {closed}")
    if code == errno.EACCES:
        mode = stat.filemode(status.st_mode)
        return _finding(
            path,
            Status.WARN,
            f"{mode} gid {status.st_gid}: not open to {host.user} with that group",
            fix=f"sudo chgrp docker {path} && sudo chmod 660 {path}",
        )
    if code == errno.ECONNREFUSED:
        fix = f"sudo systemctl restart {path.stem}"
        return _finding(path, Status.WARN, "nothing listens there", fix)
    if code == _NO_ANSWER:
        return _finding(path, Status.WARN, f"no answer within {ANSWER_SECONDS:g} s")
    return _finding(path, Status.WARN, os.strerror(code))


def _closed_directory(path: Path) -> Path | None:
    """The topmost directory above `path` that only its owner or its group may walk."""
    return next((p for p in reversed(path.parents) if not p.stat().st_mode & stat.S_IXOTH), None)


def _finding(path: Path, status: Status, detail: str, fix: str | None = None) -> Finding:
    return Finding(name=path.stem, status=status, detail=f"{path}: {detail}", fix=fix)


def _ask_as_sensor(host: Host, path: Path, gid: int) -> int:
    """Ask in a child that has become the sensor's user; returns how the child ended."""
    child = os.fork()
    if child == 0:
        code = _NO_ANSWER
        try:
            if host.euid == 0:
                user = pwd.getpwnam(host.user)
                os.setgroups([gid])
                os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
                os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
            code = _ask(path)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _ask(path: Path) -> int:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.connect(str(path))
    except TimeoutError:
        return _NO_ANSWER
    except OSError as error:
        return error.errno or _NO_ANSWER
    return _SPEAKS[probe(str(path), timeout_s=ANSWER_SECONDS)]
