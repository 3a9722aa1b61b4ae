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

from sensor.doctor.finding import Finding, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sensor.doctor.finding import EngineSocket, Host

ANSWER_SECONDS = 2.0
NO_ANSWER = 255

HTTP_PING = b"GET /_ping HTTP/1.0\r\nHost: localhost\r\n\r\n"
# The preface of HTTP/2 and an empty SETTINGS frame; the server answers with a SETTINGS frame of its own.
HTTP2_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
HTTP2_SETTINGS = 4


def check_engines(host: Host) -> Iterator[Finding]:
    present = [engine for engine in host.sockets if engine.path.exists()]
    absent = ", ".join(engine.name for engine in host.sockets if engine not in present)
    if not present:
        yield Finding(
            name="engines",
            status=Status.WARN,
            detail=f"no socket of {absent}: alerts will carry the container's id only",
            fix="sudo systemctl start docker (or set DOCKER_HOST=unix://PATH)",
        )
    for engine in present:
        yield _check_engine(host, engine)


def _check_engine(host: Host, engine: EngineSocket) -> Finding:
    try:
        status = engine.path.stat()
    except OSError as error:
        return _finding(engine, Status.WARN, str(error.strerror))
    if not stat.S_ISSOCK(status.st_mode):
        return _finding(engine, Status.WARN, "not a socket")
    result = _ask_as_sensor(host, engine, status.st_gid)
    mode = stat.filemode(status.st_mode)
    match result:
        case 0:
            return _finding(engine, Status.OK, "answers")
        case errno.EACCES:
            # Who asks is not root any more, whatever this command runs as.
            return _finding(
                engine,
                Status.WARN,
                f"{mode} gid {status.st_gid}: not open to the sensor's user with that group",
                fix=f"sudo chgrp docker {engine.path} && sudo chmod 660 {engine.path}",
            )
        case errno.ECONNREFUSED:
            return _finding(
                engine,
                Status.WARN,
                "nothing listens there",
                fix=f"sudo systemctl restart {engine.name}",
            )
        case code if code == NO_ANSWER:
            return _finding(engine, Status.WARN, f"no answer within {ANSWER_SECONDS:.0f} s")
        case _:
            return _finding(engine, Status.WARN, os.strerror(result))


def _finding(engine: EngineSocket, status: Status, detail: str, fix: str | None = None) -> Finding:
    return Finding(name=engine.name, status=status, detail=f"{engine.path}: {detail}", fix=fix)


def _ask_as_sensor(host: Host, engine: EngineSocket, gid: int) -> int:
    """0 where it answered, `NO_ANSWER`, or an errno."""
    child = os.fork()
    if child == 0:
        code = NO_ANSWER
        try:
            if host.euid == 0:
                user = pwd.getpwnam(host.user)
                os.setgroups([gid])
                os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
                os.setresuid(user.pw_uid, user.pw_uid, user.pw_uid)
            code = _ask(engine)
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _ask(engine: EngineSocket) -> int:
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(ANSWER_SECONDS)
            connection.connect(str(engine.path))
            connection.sendall(HTTP_PING if engine.http else HTTP2_HELLO)
            answer = connection.recv(64)
    except TimeoutError:
        return NO_ANSWER
    except OSError as error:
        return error.errno or NO_ANSWER
    if engine.http:
        answered = answer.startswith(b"HTTP/") and b" 200 " in answer
    else:
        answered = len(answer) > 3 and answer[3] == HTTP2_SETTINGS
    return 0 if answered else NO_ANSWER
