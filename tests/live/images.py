"""Test images made on the spot: no registry is asked for anything.

`sensor-test/busybox:1.0` is one static busybox with a symlink for each applet, as Alpine lays it out.
`sensor-test/debian:12` is the machine's own GNU tools with their libraries. Both hold the programs of
`programs/` in /opt and a little data in /srv.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import docker

BUSYBOX = "sensor-test/busybox:1.0"
DEBIAN = "sensor-test/debian:12"

PROGRAMS = Path(__file__).parent / "programs"

DEBIAN_TOOLS = (
    *("bash", "sh", "grep", "egrep", "fgrep", "find", "xargs", "timeout", "env", "nice", "setsid"),
    *(
        "ls",
        "cat",
        "cp",
        "ln",
        "rm",
        "mkdir",
        "sleep",
        "true",
        "false",
        "echo",
        "id",
        "seq",
        "touch",
    ),
)
# Search tools that a base system lacks; a program that does nothing stands under their name.
STAND_INS = ("locate", "mlocate")

PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n"
GROUP = "root:x:0:\napp:x:1000:\n"
CREDENTIALS = "[default]\nregion = eu-west-1\n# a test file without a secret in it\n"


def missing_for_images() -> str | None:
    """Why the images cannot be made here, or None."""
    if shutil.which("gcc") is None:
        return "gcc is not installed (Debian: gcc, libc6-dev)"
    if busybox_path() is None:
        return "a static busybox is not installed (Debian: busybox-static)"
    return None


def busybox_path() -> Path | None:
    found = shutil.which("busybox")
    if found is None:
        return None
    # `ldd` fails on a static program, and a dynamic busybox would not start in the image.
    static = subprocess.run(["ldd", found], capture_output=True, check=False).returncode != 0
    return Path(found) if static else None


def compile_programs(directory: Path) -> dict[str, Path]:
    """Compile each program of `programs/` into `directory`; returns name -> binary."""
    binaries = {}
    for source in sorted(PROGRAMS.glob("*.c")):
        binary = directory / source.stem
        subprocess.run(
            [
                *("gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-static", "-no-pie", "-pthread"),
                *(str(source), "-o", str(binary)),
            ],
            check=True,
        )
        binaries[source.stem] = binary
    return binaries


class Tree:
    """A root file system as a tar in memory."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._tar = tarfile.TarFile(fileobj=self._buffer, mode="w")
        self._names: set[str] = set()

    def directory(self, name: str, mode: int = 0o755) -> None:
        self._add(tarfile.TarInfo(name), kind=tarfile.DIRTYPE, mode=mode)

    def symlink(self, name: str, target: str) -> None:
        info = tarfile.TarInfo(name)
        info.linkname = target
        self._add(info, kind=tarfile.SYMTYPE, mode=0o777)

    def text(self, name: str, content: str) -> None:
        self._add(tarfile.TarInfo(name), content=content.encode(), mode=0o644)

    def program(self, name: str, source: Path) -> None:
        self._add(tarfile.TarInfo(name), content=source.read_bytes(), mode=0o755)

    def _add(
        self,
        info: tarfile.TarInfo,
        *,
        content: bytes = b"",
        mode: int,
        kind: bytes = tarfile.REGTYPE,
    ) -> None:
        if info.name in self._names:
            return
        self._names.add(info.name)
        info.type, info.mode, info.size = kind, mode, len(content)
        self._tar.addfile(info, io.BytesIO(content))

    def bytes(self) -> bytes:
        self._tar.close()
        return self._buffer.getvalue()


def _base(tree: Tree, programs: dict[str, Path]) -> None:
    for name in ("etc", "srv", "srv/.aws", "opt", "root", "home", "home/app", "dev", "proc", "sys"):
        tree.directory(name)
    tree.directory("tmp", 0o1777)
    tree.text("etc/passwd", PASSWD)
    tree.text("etc/group", GROUP)
    tree.text("srv/.aws/credentials", CREDENTIALS)
    for name, binary in programs.items():
        tree.program(f"opt/{name}", binary)


def busybox_tree(programs: dict[str, Path]) -> bytes:
    """A tar of the busybox image."""
    busybox = busybox_path()
    assert busybox is not None, missing_for_images()
    tree = Tree()
    tree.directory("bin")
    tree.program("bin/busybox", busybox)
    applets = subprocess.run(
        [busybox, "--list"], capture_output=True, text=True, check=True
    ).stdout.split()
    for applet in applets:
        if applet != "busybox":
            tree.symlink(f"bin/{applet}", "/bin/busybox")
    _base(tree, programs)
    return tree.bytes()


def debian_tree(programs: dict[str, Path]) -> bytes:
    """A tar of the Debian image: the machine's tools and the libraries they name."""
    tree = Tree()
    for name in ("bin", "sbin", "lib", "lib64"):
        tree.directory(f"usr/{name}")
        tree.symlink(name, f"usr/{name}")
    for tool in DEBIAN_TOOLS:
        found = shutil.which(tool, path="/usr/bin:/bin")
        if found is None:
            continue
        path = Path(found).resolve()
        tree.program(f"usr/bin/{path.name}", path)
        if path.name != tool:  # sh -> dash
            tree.symlink(f"usr/bin/{tool}", path.name)
        for library in _libraries(path):
            # A library is asked for by the name that the program holds, so that name stays.
            tree.program(f"usr/{_below_usr(library)}", library.resolve())
    if programs:
        for name in STAND_INS:
            tree.program(f"usr/bin/{name}", programs["noop"])
    _base(tree, programs)
    return tree.bytes()


def _libraries(program: Path) -> list[Path]:
    """The libraries and the dynamic loader of a program, as `ldd` lists them; [] for a script."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return [Path(found) for found in re.findall(r"(?:=> |^\s*)(/\S+) \(0x", listed, re.MULTILINE)]


def _below_usr(path: Path) -> str:
    parts = path.parts[1:]
    return "/".join(parts[1:] if parts[0] == "usr" else parts)


def import_image(client: docker.DockerClient, name: str, tree: bytes) -> None:
    """`docker import`: the tar becomes the one layer of image `name` (repository:tag)."""
    repository, _, tag = name.partition(":")
    client.api.import_image_from_data(
        tree, repository=repository, tag=tag, changes=["ENV PATH=/usr/bin:/bin:/opt"]
    )
