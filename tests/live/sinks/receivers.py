"""Real receivers and scrapers, from Debian's packages, each on loopback until its `stop`."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from patience import patient

if TYPE_CHECKING:
    from collections.abc import Callable


def until(condition: Callable[[], Any], seconds: float = 20.0) -> Any:
    """Wait for what another process does; its value, or a failure after the time."""
    deadline = time.monotonic() + patient(seconds)
    while not (value := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)
    return value


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def program(name: str, package: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed: apt-get install {package}")
    return path


class Daemon:
    """A program that runs until the test ends."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.command = command
        self.log = log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log.open("ab") as stream:
            self.process = subprocess.Popen(self.command, stdout=stream, stderr=stream)

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait(patient(10))
            self.process = None

    def listens(self, port: int) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log.read_text()
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            return False
        return True


class Alertmanager(Daemon):
    """Prometheus Alertmanager, which notifies nobody."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        (folder / "am.yml").write_text("route: {receiver: none}\nreceivers: [{name: none}]\n")
        command = [
            program("prometheus-alertmanager", "prometheus-alertmanager"),
            f"--config.file={folder / 'am.yml'}",
            f"--storage.path={folder / 'am'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--cluster.listen-address=",
        ]
        super().__init__(command, folder / "am.log")

    def start(self) -> None:
        super().start()
        until(lambda: self.listens(self.port))

    def ask(self, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(self.url + path)
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=patient(10)) as response:
            return json.loads(response.read())

    def alerts(self) -> list[Any]:
        found: list[Any] = self.ask("/api/v2/alerts")
        return found


RSYSLOG = """
global(workDirectory="{folder}" defaultNetstreamDriverCAFile="{folder}/cert"
       defaultNetstreamDriverCertFile="{folder}/cert" defaultNetstreamDriverKeyFile="{folder}/key"
       net.enableDNS="off")
module(load="imuxsock" SysSock.Use="off")
module(load="imudp")
module(load="imtcp" maxSessions="10")
module(load="imptcp")
module(load="mmjsonparse")
template(name="parsed" type="list" option.jsonf="on") {{
  property(outname="facility" name="syslogfacility" format="jsonf")
  property(outname="severity" name="syslogseverity" format="jsonf")
  property(outname="time" name="timereported" dateFormat="rfc3339" format="jsonf")
  property(outname="host" name="hostname" format="jsonf")
  property(outname="app" name="app-name" format="jsonf")
  property(outname="kind" name="msgid" format="jsonf")
  property(outname="parsed" name="$.parsed" format="jsonf")
  property(outname="id" name="$!event!id" format="jsonf")
  property(outname="user" name="$!user!name" format="jsonf")
  property(outname="message" name="msg" format="jsonf")
}}
ruleset(name="keep") {{
  action(type="mmjsonparse")
  set $.parsed = $parsesuccess;
  action(type="omfile" file="{folder}/out" template="parsed")
}}
input(type="imuxsock" Socket="{folder}/socket" ruleset="keep")
input(type="imuxsock" Socket="{folder}/socket5424" useSpecialParser="off" ignoreTimestamp="off"
      ruleset="keep")
input(type="imudp" address="127.0.0.1" port="{udp}" ruleset="keep")
input(type="imptcp" address="127.0.0.1" port="{tcp}" ruleset="keep")
input(type="imtcp" address="127.0.0.1" port="{tls}" ruleset="keep"
      streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="anon")
"""


class Rsyslog(Daemon):
    """rsyslogd on a local socket, UDP, TCP and TLS; `messages` is what it understood."""

    def __init__(self, folder: Path) -> None:
        path = program("rsyslogd", "rsyslog rsyslog-openssl")
        self.folder = folder
        self.udp, self.tcp, self.tls = free_port(), free_port(), free_port()
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1",
             "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
             "-keyout", folder / "key", "-out", folder / "cert"],
            check=True, capture_output=True,
        )  # fmt: skip
        ports = {"udp": self.udp, "tcp": self.tcp, "tls": self.tls}
        (folder / "rsyslog.conf").write_text(RSYSLOG.format(folder=folder, **ports))
        command = [path, "-n", "-f", str(folder / "rsyslog.conf"), "-i", str(folder / "pid")]
        super().__init__(command, folder / "rsyslog.log")

    def start(self) -> None:
        super().start()
        until(lambda: self.listens(self.tcp) and self.listens(self.tls))

    def messages(self) -> list[Any]:
        try:
            lines = (self.folder / "out").read_bytes().splitlines()
        except FileNotFoundError:
            return []
        return [json.loads(line) for line in lines]


class Prometheus(Daemon):
    """Prometheus, which scrapes one target each second and evaluates `groups` of rules."""

    def __init__(self, folder: Path, job: str, target: str, groups: list[Any]) -> None:
        path = program("prometheus", "prometheus")
        self.port = free_port()
        (folder / "rules.yml").write_text(yaml.safe_dump({"groups": groups}))
        configuration = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [
                {
                    "job_name": job,
                    "static_configs": [{"targets": [target], "labels": {"node": "a-node"}}],
                }
            ],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        command = [
            path,
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        super().__init__(command, folder / "prometheus.log")

    def start(self) -> None:
        super().start()
        until(lambda: self.listens(self.port) and self._is_ready())

    def _is_ready(self) -> bool:
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}/-/ready", timeout=patient(10)
            ):
                return True
        except urllib.error.HTTPError:  # it listens before it can answer
            return False

    def ask(self, path: str, **parameters: str) -> Any:
        """The `data` of an answer of its API; an error is an assertion."""
        query = urllib.parse.urlencode(parameters)
        try:
            with urllib.request.urlopen(
                f"http://127.0.0.1:{self.port}/api/v1/{path}?{query}", timeout=patient(10)
            ) as response:
                return json.loads(response.read())["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """The series that an expression gives now, each with its value."""
        return [
            (each["metric"], float(each["value"][1]))
            for each in self.ask("query", query=expression)["result"]
        ]
