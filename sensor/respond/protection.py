"""Containers that no response touches: names, labels and namespaces that somebody listed, and our own."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sensor.containers.cgroup import identify
from sensor.respond.freezer import cgroup_lines

if TYPE_CHECKING:
    from sensor.config import Protect
    from sensor.containers.container import Container

LABEL: Final = "sensor.respond"
NEVER: Final = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class Protection:
    """What is protected. `own` is the id of the container that this process runs in, if it does."""

    names: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    own: str | None = None

    @classmethod
    def of(cls, protect: Protect, *, proc_root: Path = Path("/proc")) -> Protection:
        """From the configuration, with our own container."""
        return cls(
            names=tuple(protect.names),
            labels=tuple(protect.labels),
            namespaces=tuple(protect.namespaces),
            own=_own_container(proc_root),
        )

    def reason(self, container: Container) -> str | None:
        """Why the container must be left alone, or None.

        A container whose names or labels are not known is protected by all that could be among them.
        """
        if container.id == self.own:
            return "it is the sensor's own container"
        for labels in (container.labels, container.pod_labels):
            if labels is not None and labels.get(LABEL) == NEVER:
                return f"it has the label {LABEL}={NEVER}"
        return (
            self._by_name(container) or self._by_label(container) or self._by_namespace(container)
        )

    def _by_name(self, container: Container) -> str | None:
        names = [name for name in (container.name, container.pod_name) if name]
        if not names and self.names:
            return "its name is not known, and names are protected"
        for pattern in self.names:
            for name in names:
                if fnmatchcase(name, pattern):
                    return f"its name is protected by {pattern!r}"
        return None

    def _by_label(self, container: Container) -> str | None:
        if not self.labels:
            return None
        if container.labels is None or container.labels_dropped:
            return "not all of its labels are known, and labels are protected"
        known = {**(container.pod_labels or {}), **container.labels}
        for wanted in self.labels:
            key, has_value, value = wanted.partition("=")
            if key in known and (not has_value or known[key] == value):
                return f"its label {wanted!r} is protected"
        return None

    def _by_namespace(self, container: Container) -> str | None:
        if container.pod_namespace in self.namespaces:
            return f"the namespace {container.pod_namespace} is protected"
        return None


def _own_container(proc_root: Path) -> str | None:
    lines = cgroup_lines("self", proc_root)
    return next((found for line in lines if (found := identify(line).container_id)), None)
