"""From a name to the engine that has the container, with engines that say nothing."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from fake_daemon import Daemon, body

from sensor.cli.respond import respond
from sensor.containers.container import Container
from sensor.containers.docker import DockerSource
from sensor.errors import SourceError
from sensor.respond.control import Action, Network, Seen, State
from sensor.respond.controls import find_named
from sensor.respond.docker import DockerControl
from sensor.respond.errors import ResponseError

if TYPE_CHECKING:
    from collections.abc import Iterator

A, B = "a" * 64, "b" * 64
INSPECTED: dict[str, Any] = {
    "Id": A,
    "Name": "/web",
    "Config": {"Image": "web:1.2"},
    "State": {"Status": "paused", "Running": True, "Pid": 42},
    "NetworkSettings": {
        "Networks": {
            "shop": {
                "NetworkID": "n1",
                "IPAddress": "10.0.0.2",
                "Aliases": ["web", A[:12]],
                "IPAMConfig": {"IPv4Address": "10.0.0.2"},
            },
            "gone": None,
        }
    },
}


@dataclass
class Listing:
    """An engine with containers by id and name; None does not answer."""

    name: str
    containers: dict[str, str] | None = field(default_factory=dict)

    def list(self) -> tuple[Container, ...]:
        if self.containers is None:
            raise SourceError(f"{self.name}: down")
        return tuple(
            Container(id=each, source=self.name, name=name)
            for each, name in self.containers.items()
        )

    def see(self, container_id: str) -> Seen | None:
        found = {each.id: each for each in self.list()}.get(container_id)
        return found and Seen(container=found, state=State.RUNNING)

    def refusal(self, action: Action, seen: Seen) -> str | None:
        raise NotImplementedError

    def act(
        self, action: Action, seen: Seen, *, grace_s: int, networks: tuple[Network, ...]
    ) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


SILENT = Listing("docker-2", None)


@pytest.mark.parametrize("wanted", ["web", A[:4], A[:12]])
@pytest.mark.parametrize("silent_first", [True, False])
def test_a_silent_engine_does_not_keep_from_a_container_of_another(
    wanted: str, *, silent_first: bool
) -> None:
    has = Listing("docker", {A: "web", B: "db"})
    engines = [SILENT, has] if silent_first else [has, SILENT]
    target, silent = find_named(engines, wanted, ["containerd: no grpcio"])
    assert (target.control, target.seen.container.id) == (has, A)
    assert silent == ["containerd: no grpcio", "docker-2: down"]


@pytest.mark.parametrize(
    ("engines", "wanted", "said"),
    [
        (
            [Listing("docker", {A: "db"}), SILENT],
            "web",
            r"may be where .* no answer: docker-2: down",
        ),
        ([SILENT], "web", "may be where .* no answer: docker-2: down"),
        ([Listing("docker", {A: "db"})], "web", "docker has no running container called web"),
        ([Listing("docker", {A: "db"})], A[:3], "docker has no running container called aaa"),
        ([Listing("docker", {A: "web"}), Listing("podman", {B: "web"})], "web", "more than one"),
        ([], "web", "no container engine's socket was found"),
    ],
)
def test_what_is_not_found_is_not_said_to_be_nowhere(
    engines: list[Any], wanted: str, said: str
) -> None:
    with pytest.raises(ResponseError, match=said):
        find_named(engines, wanted, [])


def test_one_container_that_two_engines_list_is_one() -> None:
    first, second = Listing("docker", {A: "web"}), Listing("containerd", {A: "web"})
    target, _ = find_named([first, second], "web", [])
    assert target.control is first


@pytest.fixture
def serving(daemon: Daemon) -> Daemon:
    listed = [{"Id": A, "Names": ["/web"], "Image": "web:1.2"}]
    daemon.answers["/containers/json"] = body(json.dumps(listed).encode())
    daemon.answers[f"/containers/{A}/json"] = body(json.dumps(INSPECTED).encode())
    return daemon


@pytest.fixture
def garbled(serving: Daemon, tmp_path: Path) -> Iterator[Daemon]:
    """A second daemon, which answers with nothing that could be understood."""
    with Daemon(tmp_path / "docker-2.sock") as server:
        server.answers["/"] = body(b"?")
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_docker_is_asked_once_for_a_container_and_its_networks(serving: Daemon) -> None:
    control = DockerControl(DockerSource(f"unix://{serving.path}"), environ={})
    seen = control.see(A)
    assert seen is not None
    assert (seen.container.name, seen.state) == ("web", State.PAUSED)
    assert seen.networks == (
        Network(
            name="shop",
            addresses=("10.0.0.2",),
            settings={
                "id": "n1",
                "aliases": ["web"],
                "links": None,
                "ipv4_address": "10.0.0.2",
                "ipv6_address": None,
                "link_local_ips": None,
                "driver_opt": None,
            },
        ),
    )
    assert serving.asked == ["/version", f"/containers/{A}/json"]


def test_networks_that_are_none_are_an_engine_that_answers_nonsense(serving: Daemon) -> None:
    answer = INSPECTED | {"NetworkSettings": {"Networks": {"shop": 5}}}
    serving.answers[f"/containers/{A}/json"] = body(json.dumps(answer).encode())
    control = DockerControl(DockerSource(f"unix://{serving.path}"), environ={})
    with pytest.raises(SourceError, match=r"docker: .*Networks"):
        control.see(A)


def test_the_command_goes_on_without_the_silent_one_and_names_it(
    serving: Daemon, garbled: Daemon, tmp_path: Path
) -> None:
    sockets = ["--socket", f"docker:{garbled.path}", "--socket", serving.path]
    options = ["--audit", str(tmp_path / "a"), "--dry-run", *sockets]
    done = CliRunner().invoke(respond, ["--container", "web", "--action", "kill", *options])
    assert done.exit_code == 0, done.output
    assert "container  web" in done.stdout
    assert "warning: not searched for another web: docker: " in done.stderr


def test_an_engine_whose_socket_is_missing_is_named_by_its_path(tmp_path: Path) -> None:
    missing = tmp_path / "docker.sock"
    options = ["--socket", str(missing), "--audit", str(tmp_path / "a"), "--dry-run"]
    done = CliRunner().invoke(respond, ["--container", "web", "--action", "kill", *options])
    assert isinstance(done.exception, ResponseError)
    assert f"docker: {missing}: No such file or directory: is the engine running?" in str(
        done.exception
    )
