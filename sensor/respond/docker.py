"""Docker, and what serves its API (Podman): pause, disconnect, stop, kill, and the first two's undo."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

import msgspec
import requests
from docker.api.client import APIClient
from docker.errors import APIError, DockerException
from docker.utils import kwargs_from_env

from sensor.errors import SourceError
from sensor.respond.control import Action, Network, Seen, State

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sensor.containers.container import Container
    from sensor.containers.docker import DockerSource

_TIMEOUT_S: Final = 15
_STATES: Final = {"running": State.RUNNING, "restarting": State.RUNNING, "paused": State.PAUSED}


class _State(msgspec.Struct):
    status: str | None = msgspec.field(default=None, name="Status")


class _Settings(msgspec.Struct):
    networks: dict[str, dict[str, Any] | None] | None = msgspec.field(default=None, name="Networks")


class _Inspected(msgspec.Struct):
    """Of GET /containers/ID/json, what the source does not keep."""

    state: _State | None = msgspec.field(default=None, name="State")
    settings: _Settings | None = msgspec.field(default=None, name="NetworkSettings")


class DockerControl:
    """Acts through the daemon that the source reads from."""

    def __init__(self, source: DockerSource, *, environ: Mapping[str, str]) -> None:
        self.name = source.name
        self._source = source
        options: dict[str, Any] = {"base_url": source.url, "version": "1.41", "timeout": _TIMEOUT_S}
        if not source.url.startswith("unix://"):
            options.update(kwargs_from_env(environment=dict(environ)))
        try:
            self._client = APIClient(**options)
        except DockerException as error:
            raise SourceError(f"{self.name}: {error}"[:200]) from error
        # No proxies and no .netrc: the environment has no say about a local socket.
        self._client.trust_env = False

    def see(self, container_id: str) -> Seen | None:
        """All of it from one answer, which the source has bounded."""
        found = self._source.inspect(container_id)
        if found is None:
            return None
        container, body = found
        try:
            answer = msgspec.json.decode(body, type=_Inspected)
        except msgspec.DecodeError as error:
            raise SourceError(f"{self.name}: {error}"[:200]) from error
        networks = (answer.settings and answer.settings.networks) or {}
        return Seen(
            container=container,
            state=_STATES.get((answer.state and answer.state.status) or "", State.STOPPED),
            networks=tuple(
                _network(name, endpoint, container_id)
                for name, endpoint in networks.items()
                if endpoint
            ),
        )

    def list(self) -> tuple[Container, ...]:
        """What runs, or is paused."""
        return self._source.list()

    def refusal(self, action: Action, seen: Seen) -> str | None:
        """A container without a network of its own has none to be taken from it."""
        mode = seen.container.network_mode or ""
        if action is Action.DISCONNECT:
            if mode == "host":
                return "it uses the host's network, which cannot be taken from it: pause or stop it"
            if mode.startswith("container:"):
                return (
                    f"it uses the network of container {mode.partition(':')[2][:12]}:"
                    " disconnect that one, or pause or stop it"
                )
        return None

    def act(
        self, action: Action, seen: Seen, *, grace_s: int, networks: tuple[Network, ...]
    ) -> None:
        """Do it; what has been done already is no error."""
        container_id, client = seen.container.id, self._client
        with self._errors():
            if action is Action.PAUSE:
                client.pause(container_id)
            elif action is Action.UNPAUSE:
                client.unpause(container_id)
            elif action is Action.KILL:
                client.kill(container_id)
            elif action is Action.STOP:
                # The daemon answers when the container has ended.
                client.timeout = _TIMEOUT_S + grace_s
                client.stop(container_id, timeout=grace_s)
            elif action is Action.DISCONNECT:
                for network in seen.networks or ():
                    client.disconnect_container_from_network(
                        container_id, network.settings["id"] or network.name, force=True
                    )
            else:
                self._reconnect(container_id, networks)

    def _reconnect(self, container_id: str, networks: tuple[Network, ...]) -> None:
        failed = []
        for network in networks:
            settings = dict(network.settings)
            try:
                self._client.connect_container_to_network(
                    container_id, settings.pop("id") or network.name, **settings
                )
            except APIError as error:
                if "already exists in network" not in str(error):
                    failed.append(f"{network.name}: {error.explanation or error}"[:200])
        if failed:
            raise SourceError(f"{self.name}: not connected to {'; '.join(failed)}")

    def close(self) -> None:
        """End the session."""
        self._client.close()

    @contextlib.contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except APIError as error:
            raise SourceError(f"{self.name}: {error.explanation or error}"[:300]) from error
        except requests.Timeout as error:
            raise SourceError(
                f"{self.name}: did not answer in {self._client.timeout:g} s;"
                " what was asked for may still happen"
            ) from error
        except (requests.RequestException, DockerException, OSError, ValueError) as error:
            raise SourceError(f"{self.name}: {error}"[:200]) from error


def _network(name: str, endpoint: Mapping[str, Any], container_id: str) -> Network:
    """What connects it again as it was: what was asked for, not what the daemon chose by itself.

    An address that the daemon chose is chosen anew; the alias that is the container's own id is given
    by the daemon. Bounds are those of the API: an answer here was asked for by a person.
    """
    asked = endpoint.get("IPAMConfig") or {}
    aliases = [each for each in endpoint.get("Aliases") or () if not container_id.startswith(each)]
    links = [tuple(each.split(":", 1)) for each in endpoint.get("Links") or () if ":" in each]
    addresses = (endpoint.get("IPAddress"), endpoint.get("GlobalIPv6Address"))
    return Network(
        name=name,
        addresses=tuple(address for address in addresses if address),
        settings={
            "id": endpoint.get("NetworkID"),
            "aliases": aliases or None,
            "links": links or None,
            "ipv4_address": asked.get("IPv4Address") or None,
            "ipv6_address": asked.get("IPv6Address") or None,
            "link_local_ips": asked.get("LinkLocalIPs") or None,
            "driver_opt": endpoint.get("DriverOpts") or None,
        },
    )
