"""A minimal Debian 12 as it comes from its archive, in a folder, to install things into.

What runs in it shares the machine's kernel, processes, network and cgroups; its files are its own. It has
no chroot but a mount namespace that begins there, so that a container engine in it works as on a machine.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

SUITE = "bookworm"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENTER = """
set -e
root=$1; shift
mount --bind "$root" "$root"
cd "$root"
mount -t proc proc proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs run run
mkdir run/machine
pivot_root . run/machine
umount --lazy /run/machine
rmdir /run/machine
exec "$@"
"""


class BareRoot:
    """The root, made on entering and removed on leaving."""

    def __init__(self, *packages: str) -> None:
        self._packages = packages
        # Not /tmp, which may be a tmpfs; and its parents may be walked by everybody.
        self.path = Path("/var/tmp") / f"sensor-bare-{secrets.token_hex(5)}"

    def __enter__(self) -> Self:
        subprocess.run(
            [
                *("mmdebstrap", "--quiet", "--variant=minbase"),
                *("--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",),
                f"--include={','.join(('usr-is-merged', *self._packages))}",
                *(SUITE, str(self.path)),
            ],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        shutil.copy("/etc/resolv.conf", self.path / "etc/resolv.conf")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Nothing is mounted below it: mounts are in namespaces that are gone.
        shutil.rmtree(self.path, ignore_errors=True)

    def command(self, *command: str) -> list[str]:
        """A command of the machine's that runs `command` in the root."""
        enter = ("unshare", "--mount", "--propagation", "private", "sh", "-c", ENTER, "sh")
        return [*enter, str(self.path), *command]

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """A login's, with what pip is told on this machine: its variables, and the files these name."""
        environment = {"PATH": PATH, "HOME": "/root", "LANG": "C.UTF-8", "TERM": "dumb"}
        for name, value in os.environ.items():
            if not name.startswith("PIP_"):
                continue
            if value.startswith("/"):
                if not Path(value).is_file():
                    continue
                # Where no package puts its own over it.
                (self.path / "srv/pip").mkdir(exist_ok=True)
                shutil.copy(value, self.path / "srv/pip" / name)
                value = f"/srv/pip/{name}"  # noqa: PLW2901
            environment[name] = value
        return environment | dict(more or {})

    def run(self, *command: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; its output and its errors come as one text."""
        environment = self.environment(options.pop("environment", None))
        return subprocess.run(
            self.command(*command),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            **options,
        )

    def packages(self) -> dict[str, str]:
        """What is installed: package and version."""
        shown = self.run("dpkg-query", "--show", "--showformat=${Package} ${Version}\n")
        return dict(line.split() for line in shown.stdout.splitlines())

    def files(self, *places: str) -> set[str]:
        """All paths below some folders, or in the whole root."""
        found = set()
        for place in places or ("",):
            for folder, folders, names in os.walk(self.path / place):
                inside = Path(folder).relative_to(self.path)
                found |= {f"/{inside / name}" for name in (*folders, *names)}
        return found
