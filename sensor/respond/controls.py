"""From the sources of container metadata to what can act: sources in, controls and targets out."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sensor.alerts.escape import visible
from sensor.errors import SourceError
from sensor.respond.errors import ResponseError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sensor.containers.source import Source
    from sensor.respond.control import Control, Seen


_NO_ENGINE = "no container engine's socket was found; name one with --socket PATH"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A container, and the engine that can act on it."""

    control: Control
    seen: Seen


def make_controls(
    sources: Iterable[Source],
    *,
    environ: Mapping[str, str] = os.environ,
    proc_root: Path = Path("/proc"),
) -> tuple[list[Control], list[str]]:
    """The controls, and what is wrong with the engines that have none."""
    controls: list[Control] = []
    troubles: list[str] = []
    for source in sources:
        try:
            control = _control(source, environ, proc_root)
        except SourceError as error:
            troubles.append(str(error))
        else:
            if control is not None:
                controls.append(control)
    return controls, troubles


def find_named(
    controls: Sequence[Control], wanted: str, troubles: Sequence[str]
) -> tuple[Target, list[str]]:
    """The container of a name, or of the beginning of an id of four characters or more.

    Returns with it what is wrong with the engines that did not answer: they may have another of that
    name. Raises ResponseError where none, or more than one, is found.
    """
    silent = list(troubles)
    matches: dict[str, Control] = {}
    for control in controls:
        try:
            listed = control.list()
        except SourceError as error:
            silent.append(str(error))
            continue
        for each in listed:
            if each.name == wanted or (len(wanted) >= 4 and each.id.startswith(wanted)):
                matches.setdefault(each.id, control)
    shown = visible(wanted, 80)
    if len(matches) > 1:
        ids = ", ".join(sorted(each[:12] for each in matches))
        raise ResponseError(f"{shown} is more than one container: {ids}")
    if matches:
        [(container_id, control)] = matches.items()
        return find_target([control], container_id, ()), silent
    if silent:
        raise ResponseError(
            f"no container called {shown} was found; it may be where there was no answer:"
            f" {'; '.join(silent)}"
        )
    if not controls:
        raise ResponseError(_NO_ENGINE)
    asked = ", ".join(control.name for control in controls)
    raise ResponseError(f"{asked} has no running container called {shown}")


def find_target(controls: Sequence[Control], container_id: str, troubles: Sequence[str]) -> Target:
    """Ask the engines in turn. Raises ResponseError where none has it, with the silent ones named."""
    silent = list(troubles)
    for control in controls:
        try:
            seen = control.see(container_id)
        except SourceError as error:
            silent.append(str(error))
            continue
        if seen is not None:
            return Target(control=control, seen=seen)
    if silent:
        raise ResponseError(f"container {container_id[:12]} was not found: {'; '.join(silent)}")
    asked = ", ".join(control.name for control in controls)
    if not asked:
        raise ResponseError(_NO_ENGINE)
    raise ResponseError(
        f"container {container_id[:12]} is gone: {asked} knows of none such, there is nothing to isolate"
    )


def _control(source: Source, environ: Mapping[str, str], proc_root: Path) -> Control | None:
    if source.name.startswith(("docker", "podman")):
        from sensor.containers.docker import DockerSource  # noqa: PLC0415 - where it is used
        from sensor.respond.docker import DockerControl  # noqa: PLC0415

        return DockerControl(source, environ=environ) if isinstance(source, DockerSource) else None
    if source.name.startswith(("containerd", "cri-o")):
        from sensor.containers.cri import CriSource  # noqa: PLC0415 - an optional extra
        from sensor.respond.cri import CriControl  # noqa: PLC0415

        return CriControl(source, proc_root=proc_root) if isinstance(source, CriSource) else None
    return None
