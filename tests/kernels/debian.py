"""Kernels and user lands from Debian's archive, kept in a folder of their own.

In: suite and architecture. Out: a kernel image, a folder with a root file system. apt runs with its own
configuration and state in that folder: nothing of the machine's is read or changed but its archive keys.
Packages are unpacked and never installed, so that it works without root and for any architecture.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# busybox is the guest's shell and the program that the cases exec.
PACKAGES = ("python3-bpfcc", "busybox-static")
# Nothing in the guest reads these.
UNUSED = ("usr/share/doc", "usr/share/locale", "usr/share/man")
# The metapackage leads to the newest kernel, in some suites over several packages.
METAPACKAGE = "linux-image-cloud-{arch}"
KERNEL_PACKAGE = re.compile(r"^linux-(?:image|binary)-\d[^:]*$", re.MULTILINE)
KERNEL_IMAGE = re.compile(r"^\./(?:boot/vmlinuz-(?P<old>.+)|usr/lib/modules/(?P<new>.+)/vmlinuz)$")


class FetchError(Exception):
    """Debian's archive did not give what was asked for; the message says what the tool said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernel:
    release: str
    image: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Archive:
    """Debian's archive, and what was already fetched from it. `refresh` fetches it anew."""

    mirror: str
    cache: Path
    refresh: bool = False
    _fetched: set[Path] = field(default_factory=set)

    def _is_old(self, folder: Path) -> bool:
        """Whether it is to be fetched anew: once in a run."""
        old = self.refresh and folder not in self._fetched
        self._fetched.add(folder)
        return old

    def kernel(self, suite: str, arch: str) -> Kernel:
        folder = self.cache / "kernels" / f"{suite}-{arch}"
        found = None if self._is_old(folder) else next(folder.glob("vmlinuz-*"), None)
        if found is None:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            found = self._fetch_kernel(suite, arch, folder)
        return Kernel(release=found.name.removeprefix("vmlinuz-"), image=found)

    def userland(self, suite: str, arch: str) -> Path:
        """A root file system with Python and BCC. Whoever adds to it does so under `checkout/`."""
        root = self.cache / "userlands" / f"{suite}-{arch}"
        if self._is_old(root) or not root.is_dir():
            shutil.rmtree(unfinished := root.with_suffix(".part"), ignore_errors=True)
            unfinished.mkdir(parents=True)
            self._unpack_userland(suite, arch, unfinished)
            for name in UNUSED:
                shutil.rmtree(unfinished / name, ignore_errors=True)
            for name in ("checkout", "proc", "sys", "dev", "run", "tmp", "etc"):
                (unfinished / name).mkdir(exist_ok=True)
            # the rest no package brings: maintainer scripts make it, and none has run
            for name in ("bin", "lib", "lib64", "sbin"):
                if (unfinished / "usr" / name).is_dir() and not (unfinished / name).exists():
                    (unfinished / name).symlink_to(f"usr/{name}")
            (unfinished / "etc/passwd").write_text(
                "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
            )
            shutil.rmtree(root, ignore_errors=True)
            unfinished.rename(root)
        return root

    def _sources(self, suite: str) -> list[str]:
        lines = [f"deb [signed-by={KEYRING}] {self.mirror}/debian {suite} main"]
        if suite != "sid":
            lines.append(
                f"deb [signed-by={KEYRING}] {self.mirror}/debian-security {suite}-security main"
            )
        return lines

    def _fetch_kernel(self, suite: str, arch: str, folder: Path) -> Path:
        apt = folder / "apt"
        for name in ("lists/partial", "cache/archives/partial", "debs", "parts"):
            (apt / name).mkdir(parents=True)
        (apt / "status").touch()
        (apt / "sources.list").write_text("\n".join(self._sources(suite)) + "\n")
        configuration = apt / "apt.conf"
        configuration.write_text(
            f"""
            Dir::State "{apt}";
            Dir::State::lists "{apt}/lists";
            Dir::State::status "{apt}/status";
            Dir::Cache "{apt}/cache";
            Dir::Etc::sourcelist "{apt}/sources.list";
            Dir::Etc::sourceparts "{apt}/parts";
            Dir::Etc::preferencesparts "{apt}/parts";
            APT::Architecture "{arch}";
            APT::Architectures {{ "{arch}"; }};
            APT::Sandbox::User "";
            Acquire::Languages "none";
            Acquire::Check-Valid-Until "false";
            """
        )
        environment = os.environ | {"APT_CONFIG": str(configuration)}
        _run(["apt-get", "--quiet", "update"], environment)
        depends = _run(
            ["apt-cache", "depends", "--recurse", "--important", METAPACKAGE.format(arch=arch)],
            environment,
        )
        names = sorted(set(KERNEL_PACKAGE.findall(depends)))
        if not names:
            raise FetchError(f"{suite} has no {METAPACKAGE.format(arch=arch)}")
        _run(["apt-get", "--quiet", "download", *names], environment, cwd=apt / "debs")
        images = [
            image for deb in (apt / "debs").iterdir() if (image := _kernel_image(deb, folder))
        ]
        shutil.rmtree(apt)
        if len(images) != 1:
            raise FetchError(f"{len(images)} kernel images in {', '.join(names)}")
        return images[0]

    def _unpack_userland(self, suite: str, arch: str, root: Path) -> None:
        tar = root.with_suffix(".tar")
        _run(
            [
                "mmdebstrap",
                "--quiet",
                "--variant=extract",
                f"--architectures={arch}",
                f"--include={','.join(PACKAGES)}",
                '--aptopt=Acquire::Check-Valid-Until "false"',
                suite,
                str(tar),
                *self._sources(suite),
            ]
        )
        _run(["tar", "-xf", str(tar), "-C", str(root), "--no-same-owner", "--exclude=./dev/*"])
        tar.unlink()


def _kernel_image(deb: Path, folder: Path) -> Path | None:
    """Takes the kernel image out of a package, if it is there."""
    with (
        subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE) as unpacking,
        tarfile.open(fileobj=unpacking.stdout, mode="r|") as tar,
    ):
        image = None
        for member in tar:
            match = KERNEL_IMAGE.match(member.name)
            if match and (source := tar.extractfile(member)):
                image = folder / f"vmlinuz-{match['old'] or match['new']}"
                with (unfinished := folder / "part").open("wb") as target:
                    shutil.copyfileobj(source, target)
                unfinished.rename(image)
    return image


def _run(
    command: Sequence[str], environment: dict[str, str] | None = None, cwd: Path | None = None
) -> str:
    """Runs a tool; returns its output. Raises `FetchError` with its last words."""
    try:
        done = subprocess.run(
            command, env=environment, cwd=cwd, check=True, capture_output=True, text=True
        )
    except FileNotFoundError as exc:
        raise FetchError(f"{command[0]} is missing") from exc
    except subprocess.CalledProcessError as exc:
        said = "\n".join((exc.stderr or exc.stdout).splitlines()[-5:])
        raise FetchError(f"{' '.join(command[:3])} … failed:\n{said}") from exc
    return done.stdout
