"""A process and its ancestors in, out whether it came into its container from outside.

`docker exec`, `kubectl exec` and `crictl exec` all end in a runtime (runc, crun) outside the
container that starts a process inside of it. Such a process descends from the runtime, its shim or
its monitor without the container's first process in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sensor.containers.container import Container
    from sensor.event import Process

# As the kernel's comm has them: 15 characters at most.
_RUNTIMES: Final = ("containerd-shim", "conmon", "runc", "crun", "docker-init", "dockerd", "podman")


def entered_by_exec(
    process: Process, ancestors: Sequence[Process], container: Container | None
) -> bool | None:
    """Tell an exec into the container from the container's own tree.

    `ancestors` starts with the parent and may be cut off. Returns None where it cannot be told: the
    container's first pid is not known, or the ancestors end before they leave the container. A
    process whose parents inside the container are gone counts as the container's own: the kernel
    gave it to the first process.
    """
    if container is None or not container.pid:
        return None
    if container.pid == process.pid or any(a.pid == container.pid for a in ancestors):
        return False
    for ancestor in ancestors:
        if not _is_outside(process, ancestor):
            continue
        if container.pid_mode == "host" and ancestor.name.startswith(("containerd-shim", "conmon")):
            # Without a pid namespace, orphans of the container's own tree come to the shim, too.
            return None
        return True
    return None


def _is_outside(process: Process, ancestor: Process) -> bool:
    """Both signs together: a name can be faked, and a mount namespace made, inside a container."""
    if ancestor.pid == 1:
        return True
    other_mounts = ancestor.mnt_ns is not None and ancestor.mnt_ns != process.mnt_ns
    return other_mounts and ancestor.name.startswith(_RUNTIMES)
