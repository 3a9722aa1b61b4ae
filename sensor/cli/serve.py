"""`sensor serve`: the store's alerts as a live page, on loopback and for who has the token."""

from __future__ import annotations

import ipaddress
import os
import pwd
import secrets
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sensor.cli.alert_store import StorePlace, store_options
from sensor.errors import ConfigurationError

if TYPE_CHECKING:
    from sensor.triage.knowledge import Knowledge

_TOKEN_MIN = 16


@click.command("serve", short_help="Serve a live page of alerts, with a report on each.")
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="127.0.0.1:8477",
    show_default=True,
    help="Where to serve; port 0 takes a free one.",
)
@click.option(
    "--name",
    "names",
    multiple=True,
    help="A name under which the page is reached, besides its address.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file with the token; default: a new one at each start.",
)
@click.option(
    "--certificate", type=click.Path(path_type=Path, dir_okay=False), help="Serve TLS: PEM file."
)
@click.option("--key", type=click.Path(path_type=Path, dir_okay=False), help="Its key: PEM file.")
@click.option("--plain", is_flag=True, help="Serve without TLS where others can listen in, too.")
@click.option("--secrets", "with_secrets", is_flag=True, help="Also what redaction cuts out.")
@store_options
def serve(
    store_place: StorePlace,
    listen: str,
    names: tuple[str, ...],
    token_file: Path | None,
    certificate: Path | None,
    key: Path | None,
    plain: bool,
    with_secrets: bool,
) -> None:
    """Serve a live page of alerts with a report behind each; read only.

    Open the link it prints. Needs the extra `serve`. As root it becomes the store's owner first.
    """
    try:
        import uvicorn  # noqa: PLC0415 - an extra

        from sensor.serve.access import Access  # noqa: PLC0415
        from sensor.serve.app import make_app  # noqa: PLC0415
        from sensor.serve.desk import Desk  # noqa: PLC0415
    except ImportError as error:
        raise ConfigurationError(
            f"`sensor serve` needs more packages ({error.name} is missing): "
            "the extra `serve` of the Python package; in a checkout: "
            ".venv/bin/pip install --editable '.[serve]'"
        ) from error
    host, port = _address(listen)
    if (certificate is None) != (key is None):
        raise ConfigurationError("--certificate and --key go together")
    if certificate is None and not plain and not ipaddress.ip_address(host).is_loopback:
        raise ConfigurationError(
            f"{listen} can be reached from outside: give --certificate and --key, or say --plain"
        )
    token = _token(token_file)
    store_place.open().close()
    desk = Desk(store_place.path, _knowledge(store_place, with_secrets=with_secrets))
    bound = _bind(host, port)
    port = bound.getsockname()[1]
    access = Access(
        token=token,
        hosts=_hosts(host, port, names),
        # Ports share a host's cookies.
        cookie=f"sensor-serve-{port}",
        secure=certificate is not None,
    )
    config = uvicorn.Config(
        make_app(desk, access),
        http="h11",
        ws="none",
        lifespan="off",
        log_level="warning",
        access_log=False,  # it would hold the token
        server_header=False,
        proxy_headers=False,
        limit_concurrency=64,
        timeout_graceful_shutdown=1,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    try:
        config.load()
    except OSError as error:
        raise ConfigurationError(f"the certificate cannot be used: {error}") from error
    _become_owner(store_place.path)
    shown = names[0] if names else f"[{host}]" if ":" in host else host
    scheme = "https" if certificate else "http"
    click.echo(f"{scheme}://{shown}:{port}/login?token={token}")
    uvicorn.Server(config).run(sockets=[bound])
    desk.close()


def _knowledge(place: StorePlace, *, with_secrets: bool) -> Knowledge:
    from sensor.config import Config, load_config  # noqa: PLC0415 - help is quick
    from sensor.triage.knowledge import Knowledge  # noqa: PLC0415

    config = load_config(place.configuration) if place.configuration else Config()
    return Knowledge.load(config, redactor=None if with_secrets else place.redactor())


def _address(listen: str) -> tuple[str, int]:
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        if host != "localhost":
            raise ConfigurationError(f"--listen {listen}: ADDRESS:PORT is expected") from None
        host = "127.0.0.1"
    if not port.isdecimal() or not port.isascii() or int(port) > 65535:
        raise ConfigurationError(f"--listen {listen}: not a port")
    return host, int(port)


def _token(path: Path | None) -> str:
    if path is None:
        return secrets.token_urlsafe(32)
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}") from error
    if len(token) < _TOKEN_MIN or not token.isascii() or not token.isprintable():
        raise ConfigurationError(f"{path}: a token is {_TOKEN_MIN} plain characters or more")
    return token


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
        bound.listen()  # before the link is printed: who reads it may come at once
    except OSError as error:
        raise ConfigurationError(f"{host}:{port}: {error.strerror}") from error
    bound.set_inheritable(True)
    return bound


def _hosts(host: str, port: int, names: tuple[str, ...]) -> frozenset[str]:
    """What a browser may put into its Host header."""
    known = {f"[{host}]" if ":" in host else host, *(name.lower() for name in names)}
    if ipaddress.ip_address(host).is_loopback:
        known.add("localhost")
    return frozenset({f"{each}:{port}" for each in known} | (known if port in (80, 443) else set()))


def _become_owner(store: Path) -> None:
    """Of root only what the store's owner may do is kept: what is parsed here is an attacker's."""
    if os.geteuid() != 0:
        return
    owner = store.stat().st_uid
    if owner == 0:
        click.echo("the store belongs to root, so this stays root", err=True)
        return
    from sensor.kernel.privileges import drop  # noqa: PLC0415 - for root only

    try:
        name = pwd.getpwuid(owner).pw_name
    except KeyError as error:
        raise ConfigurationError(f"{store}: its owner, {owner}, is no user here") from error
    drop(name)
