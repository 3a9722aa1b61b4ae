"""What speaks for an attack, what for routine, and what has to be found out: document and facts in."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sensor.alerts.exception_match import scripts
from sensor.alerts.fields import get, text, texts
from sensor.triage.container import strong_capabilities, strong_mounts, terminal_of
from sensor.triage.model import Signal, Weight
from sensor.triage.timeline import time_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sensor.triage.facts import Facts

# Programs that answer requests from the network; a search tool below one of them was not meant to be.
_SERVERS: Final = re.compile(
    r"nginx|httpd|apache2|php-fpm[\d.]*|lighttpd|caddy|haproxy|gunicorn|uwsgi|uvicorn|puma|unicorn"
    r"|java|catalina.*|dotnet|postgres|mysqld|mariadbd|redis-server|mongod|node|nodejs|beam\.smp",
    re.ASCII,
)
_LOOSE_PLACES: Final = ("/tmp/", "/var/tmp/", "/dev/shm/", "/run/shm/")  # noqa: S108 - looked for
_USUAL_AFTER: Final = 5
_DAY_S: Final = 86_400


def signals(document: dict[str, Any], facts: Facts) -> tuple[Signal, ...]:
    """The points, the alarming ones first."""
    found = [*_person(document), *_program(document), *_history(document, facts)]
    found += [*_exceptions(facts), *_neighbours(document, facts), *_reach(document)]
    order: dict[Weight, int] = {"alarming": 0, "reassuring": 1, "open": 2}
    return tuple(sorted(found, key=lambda signal: order[signal.weight]))


def _person(document: dict[str, Any]) -> Iterator[Signal]:
    entered = get(document, "sensor.entered_by_exec")
    terminal = terminal_of(document)
    if entered is True:
        yield Signal(
            weight="open",
            title="Somebody started it from outside with an exec into the container",
            detail="The engine's or the cluster's audit log says who; the sensor cannot.",
        )
    if get(document, "process.interactive") is True:
        yield Signal(
            weight="alarming",
            title=f"It has a terminal ({terminal})",
            detail="A person is typing, or something pretends to be one. Is there a ticket for it?",
        )
    elif script := next((each for each in scripts(document) if each.startswith("/")), ""):
        yield Signal(
            weight="reassuring",
            title="A script ran it, without a terminal",
            detail=f"{script}: read it, and see whether it comes with the image.",
        )


def _program(document: dict[str, Any]) -> Iterator[Signal]:
    ancestors = get(document, "sensor.ancestors")
    parents = [
        text(document, "process.parent.name"),
        *(
            text(each, "name")
            for each in (ancestors if isinstance(ancestors, list) else ())
            if isinstance(each, dict) and get(each, "in_container") is True
        ),
    ]
    server = next((name for name in parents if name and _SERVERS.fullmatch(name)), "")
    if server:
        yield Signal(
            weight="alarming",
            title=f"It descends from a server process ({server})",
            detail="A server that answers requests has little reason to start this: think of a "
            "break-in through the application.",
        )
    if get(document, "sensor.executable_memfd") is True:
        yield Signal(weight="alarming", title="The program lies in memory only, in no file")
    elif get(document, "sensor.executable_deleted") is True:
        yield Signal(weight="alarming", title="The program's file was deleted while it ran")
    executable = text(document, "process.executable")
    if executable.startswith(_LOOSE_PLACES):
        yield Signal(
            weight="alarming",
            title="The program lies where anybody may write",
            detail=executable,
        )
    if get(document, "sensor.args_truncated") is True:
        yield Signal(
            weight="alarming",
            title="It had more arguments than are recorded",
            detail="Padding a command line is a way to hide its end.",
        )


def _history(document: dict[str, Any], facts: Facts) -> Iterator[Signal]:
    similar = facts.similar
    if similar is None:
        return
    count = similar.alerts + similar.hidden
    if count <= 1:
        yield Signal(
            weight="alarming",
            title="Never seen before on this node",
            detail="The store has no other alert with this rule, program, arguments, image and user.",
        )
        return
    time = time_of(text(document, "@timestamp")) or similar.last
    hour = datetime.fromtimestamp(time, UTC).hour
    same_hour = similar.hours_utc[hour]
    often = f"{count} times since {datetime.fromtimestamp(similar.first, UTC):%Y-%m-%d}"
    if count >= _USUAL_AFTER and similar.last - similar.first > _DAY_S:
        usual = same_hour > 1
        yield Signal(
            weight="reassuring" if usual else "open",
            title=f"The same action was seen {often}",
            detail=f"{same_hour} of them in this hour of the day ({hour:02}:00 UTC)."
            if usual
            else f"But never before at this hour ({hour:02}:00 UTC).",
        )
    else:
        yield Signal(weight="open", title=f"The same action was seen {often}")
    if similar.hidden:
        yield Signal(
            weight="reassuring",
            title=f"An exception hid the same action {similar.hidden} times",
        )


def _exceptions(facts: Facts) -> Iterator[Signal]:
    for each in facts.exceptions[:3]:
        if each.fails:
            yield Signal(
                weight="open",
                title=f"The exception {each.id} is near",
                detail=f"What does not hold: {'; '.join(each.fails)}.",
            )
        else:
            yield Signal(
                weight="reassuring",
                title=f"The exception {each.id} holds for it by now",
                detail=each.reason,
            )


def _neighbours(document: dict[str, Any], facts: Facts) -> Iterator[Signal]:
    own = text(document, "rule.id")
    rules = {
        each.rule_name for each in facts.around if each.rule_id != own and each.kind == "alert"
    }
    names = sorted(name for name in rules if name)
    if names:
        yield Signal(
            weight="alarming",
            title=f"{len(names)} other rules fired in this container within an hour"
            if len(names) > 1
            else "Another rule fired in this container within an hour",
            detail="; ".join(names[:5]),
        )
    elsewhere = next(
        (each for each in facts.others if each.title.startswith("The same action")), None
    )
    if elsewhere is not None:
        places = {each.container_name or each.container_id for each in elsewhere.alerts}
        yield Signal(
            weight="open",
            title=f"The same action was seen in {len(places)} other containers of this node"
            if len(places) > 1
            else "The same action was seen in another container of this node",
            detail="Either a habit of the image, or one hand in several places.",
        )


def _reach(document: dict[str, Any]) -> Iterator[Signal]:
    if get(document, "container.security_context.privileged") is True:
        yield Signal(
            weight="alarming",
            title="The container is privileged",
            detail="Whoever is root in it is root on the node.",
        )
    if mounts := strong_mounts(document):
        yield Signal(
            weight="alarming",
            title="It sees directories or sockets of the host that give the host away",
            detail=", ".join(mounts),
        )
    if capabilities := strong_capabilities(document):
        yield Signal(
            weight="alarming",
            title="It was given strong capabilities",
            detail=", ".join(capabilities),
        )
    if not texts(document, "container.image.hash.all") and text(document, "container.id"):
        yield Signal(
            weight="open",
            title="The image's digest is not known",
            detail="Whether the image is the one you built has to be checked at the engine.",
        )
