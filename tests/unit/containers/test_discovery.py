"""Sockets say by themselves what they speak; a user only names them."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from sensor.containers.discovery import SourcesConfig, find_sources, probe
from sensor.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fake_daemon import Daemon

# What a gRPC server says first, whatever it is sent: an empty SETTINGS frame of HTTP/2.
SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


@pytest.fixture
def grpc_socket(tmp_path: Path) -> Iterator[str]:
    yield from _answering(f"{tmp_path}/any.sock", SETTINGS)


@pytest.fixture
def odd_socket(tmp_path: Path) -> Iterator[str]:
    yield from _answering(f"{tmp_path}/odd.sock", b"220 mail.example.org ESMTP\r\n")


def _answering(path: str, answer: bytes) -> Iterator[str]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                with connection:
                    connection.sendall(answer)
                    connection.recv(1000)

        thread = threading.Thread(target=serve)
        thread.start()
        yield path
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_probe(daemon: Daemon, grpc_socket: str, odd_socket: str, tmp_path: Path) -> None:
    assert [
        probe(daemon.path),
        probe(grpc_socket),
        probe(odd_socket),
        probe(f"{tmp_path}/none.sock"),
    ] == ["docker", "cri", None, None]


def test_a_socket_that_accepts_and_says_nothing_takes_no_longer_than_the_time(
    tmp_path: Path,
) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{tmp_path}/silent.sock")
        listener.listen()
        assert probe(f"{tmp_path}/silent.sock", timeout_s=0.05) is None


def test_sockets_that_were_named(daemon: Daemon, grpc_socket: str) -> None:
    pytest.importorskip("grpc", reason="the extra `cri` is not installed")
    config = SourcesConfig(sockets=(daemon.path, grpc_socket, f"docker:{daemon.path}"))
    sources = find_sources(config, environ={})
    assert [
        ("docker", (daemon.path,)),
        ("containerd", (grpc_socket,)),
        ("docker-2", (daemon.path,)),
    ] == [(source.name, source.socket_paths()) for source in sources]


def test_a_daemon_that_is_down_is_told_by_its_socket_s_name() -> None:
    sources = find_sources(SourcesConfig(sockets=("/nowhere/podman.sock",)), environ={})
    assert [source.name for source in sources] == ["podman"]


@pytest.mark.parametrize("spec", ["relative.sock", "", "/nowhere/x.sock", "tcp://1.2.3.4"])
def test_what_cannot_be_used_is_said_with_what_to_write(spec: str) -> None:
    with pytest.raises(ConfigurationError, match="container socket"):
        find_sources(SourcesConfig(sockets=(spec,)), environ={})


def test_no_socket_is_no_error() -> None:
    assert find_sources(SourcesConfig(sockets=()), environ={}) == []
    assert find_sources(SourcesConfig(), environ={}, well_known=("/nowhere/*.sock",)) == []


def test_well_known_places_are_looked_at_and_one_socket_is_used_once(
    daemon: Daemon, tmp_path: Path
) -> None:
    (tmp_path / "other.sock").symlink_to(daemon.path)
    sources = find_sources(
        SourcesConfig(),
        environ={"DOCKER_HOST": f"unix://{daemon.path}"},
        well_known=(f"{tmp_path}/*.sock",),
    )
    assert [("docker", (daemon.path,))] == [(s.name, s.socket_paths()) for s in sources]


def test_docker_s_own_containerd_is_used_only_where_kubernetes_is(
    daemon: Daemon, grpc_socket: str, tmp_path: Path
) -> None:
    pytest.importorskip("grpc", reason="the extra `cri` is not installed")
    for kubelet, names in ((tmp_path, ["docker", "containerd"]), (tmp_path / "no", ["docker"])):
        sources = find_sources(
            SourcesConfig(), environ={}, well_known=(daemon.path, grpc_socket), kubelet=kubelet
        )
        assert names == [source.name for source in sources]


def test_the_kubernetes_api_needs_a_pod_that_knows_its_node() -> None:
    with pytest.raises(ConfigurationError, match="NODE_NAME"):
        find_sources(SourcesConfig(sockets=(), kubernetes=True), environ={})
    in_pod = {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}
    assert find_sources(SourcesConfig(sockets=()), environ=in_pod) == []
    assert (
        find_sources(
            SourcesConfig(sockets=(), kubernetes=False), environ={**in_pod, "NODE_NAME": "n"}
        )
        == []
    )
