"""Where the sources of container metadata are: their sockets, as found or as told.

A socket says by itself what it speaks: Docker's API answers HTTP, the CRI is gRPC. So a user names
a path and nothing else, and without any the well-known places are looked at.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from sensor.errors import ConfigurationError
from sensor.memory import without_modules

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sensor.containers.source import Source

Speaks = Literal["docker", "cri"]

PROBE_TIMEOUT_S: Final = 1.0
WELL_KNOWN: Final = (
    "/var/run/docker.sock",
    "/run/docker.sock",
    "/run/user/*/docker.sock",
    "/run/podman/podman.sock",
    "/run/user/*/podman/podman.sock",
    "/run/containerd/containerd.sock",
    "/run/k3s/containerd/containerd.sock",
    "/run/crio/crio.sock",
    "/var/run/crio/crio.sock",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourcesConfig:
    """What a user may say about sources.

    `sockets`: paths, or `docker:PATH` and `cri:PATH` where a socket cannot be probed; None looks
    for them, an empty tuple uses none. `kubernetes`: None asks the API where the sensor runs in a
    pod that was told its node's name (NODE_NAME). Times are in seconds.
    """

    sockets: tuple[str, ...] | None = None
    kubernetes: bool | None = None
    node_name: str | None = None
    timeout_s: float = 2.0


def find_sources(
    config: SourcesConfig,
    *,
    environ: Mapping[str, str] = os.environ,
    well_known: Iterable[str] = WELL_KNOWN,
    kubelet: Path = Path("/var/lib/kubelet"),
) -> list[Source]:
    """Return the sources there are; reads sockets' first answers, so call it with privileges.

    Raises ConfigurationError for a socket that the user named and that cannot be used. Finding none
    is no error: ids still come from the kernel.
    """
    sources: list[Source] = []
    if config.sockets is not None:
        sources.extend(_told(spec, config) for spec in config.sockets)
    else:
        docker_host = environ.get("DOCKER_HOST", "")
        if docker_host and not docker_host.startswith("unix://"):
            sources.append(_docker(docker_host, config, environ))
        found = [docker_host.removeprefix("unix://")] if docker_host.startswith("unix://") else []
        for pattern in well_known:
            found.extend(sorted(map(str, Path("/").glob(pattern.lstrip("/")))))
        for path in _distinct(found):
            speaks = probe(path) or _by_name(path)
            if speaks == "docker":
                sources.append(_docker(f"unix://{path}", config, environ))
            elif speaks == "cri" and not (sources and not kubelet.exists()):
                # Below a Docker that serves no Kubernetes, its containerd has nothing to add.
                sources.extend(_optional_cri(path, config))
    sources.extend(_kubernetes(config, environ))
    return _renamed(sources)


def probe(path: str, *, timeout_s: float = PROBE_TIMEOUT_S) -> Speaks | None:
    """Ask a socket for its protocol; None if it does not answer or answers neither."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_s)
            connection.connect(path)
            connection.sendall(b"GET /_ping HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = connection.recv(64)
    except (OSError, ValueError):
        return None
    if answer.startswith(b"HTTP/1."):
        return "docker"
    # An HTTP/2 server opens with a SETTINGS frame (type 4) on stream 0, whatever it is sent.
    return "cri" if len(answer) >= 9 and answer[3] == 4 and answer[5:9] == bytes(4) else None


def _told(spec: str, config: SourcesConfig) -> Source:
    kind, colon, path = spec.partition(":")
    if not colon or kind not in ("docker", "cri", "unix"):
        kind, path = "unix", spec
    path = path.removeprefix("//") if path.startswith("///") else path
    if not path.startswith("/"):
        raise ConfigurationError(f"container socket {spec!r}: not an absolute path")
    speaks = kind if kind != "unix" else (probe(path) or _by_name(path))
    if speaks == "docker":
        return _docker(f"unix://{path}", config, {})
    if speaks == "cri":
        return _cri(path, config)
    reason = "does not answer"
    try:
        Path(path).stat()
    except (OSError, ValueError) as error:  # no path has a NUL
        reason = getattr(error, "strerror", None) or str(error)
    raise ConfigurationError(
        f"container socket {spec!r}: {reason}, so what it speaks is not known;"
        f" write docker:{path} or cri:{path}"
    )


def _by_name(path: str) -> Speaks | None:
    """Guess for a daemon that is down just now."""
    name = Path(path).name
    if name.startswith(("docker", "podman")):
        return "docker"
    return "cri" if name.startswith(("containerd", "crio")) else None


def _docker(url: str, config: SourcesConfig, environ: Mapping[str, str]) -> Source:
    try:
        # With these, 3 MB, requests would guess encodings. All that engines say is UTF-8.
        with without_modules("chardet", "charset_normalizer"):
            from sensor.containers.docker import DockerSource  # noqa: PLC0415 - 8 MB only where used
    except ImportError:  # an older requests insists on one of them
        from sensor.containers.docker import DockerSource  # noqa: PLC0415

    return DockerSource(url, timeout_s=config.timeout_s, environ=environ)


def _cri(path: str, config: SourcesConfig) -> Source:
    try:
        from sensor.containers.cri import CriSource  # noqa: PLC0415 - an optional extra
    except ImportError as error:
        raise ConfigurationError(
            f"container socket {path!r} speaks the CRI, which needs grpcio:"
            " install the extra `cri`, or Debian's python3-grpcio"
        ) from error
    return CriSource(path, timeout_s=config.timeout_s)


def _optional_cri(path: str, config: SourcesConfig) -> list[Source]:
    """Without grpcio, a socket that was only found is passed over: Docker's own containerd is one."""
    try:
        return [_cri(path, config)]
    except ConfigurationError:
        return []


def _kubernetes(config: SourcesConfig, environ: Mapping[str, str]) -> list[Source]:
    node_name = config.node_name or environ.get("NODE_NAME")
    in_pod = "KUBERNETES_SERVICE_HOST" in environ
    if config.kubernetes is False or (config.kubernetes is None and not (in_pod and node_name)):
        return []
    if not in_pod or not node_name:
        raise ConfigurationError(
            "the Kubernetes API is asked only from a pod that has NODE_NAME set to its node"
        )
    from sensor.containers.kubernetes import KubernetesSource  # noqa: PLC0415 - only in a pod

    return [KubernetesSource.in_cluster(node_name, timeout_s=config.timeout_s, environ=environ)]


def _distinct(paths: Iterable[str]) -> list[str]:
    """Drop what is the same socket under two names, as /var/run and /run mostly are."""
    real: dict[str, str] = {}
    for path in paths:
        real.setdefault(os.path.realpath(path), path)
    return list(real.values())


def _renamed(sources: list[Source]) -> list[Source]:
    """Give sources of one kind distinct names: the second docker is docker-2."""
    seen: dict[str, int] = {}
    for source in sources:
        kind = source.name
        seen[kind] = seen.get(kind, 0) + 1
        if seen[kind] > 1:
            source.name = f"{kind}-{seen[kind]}"
    return sources
