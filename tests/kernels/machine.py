"""A virtual machine that boots one kernel on one root file system and tells what its console says.

In: kernel image, disk image, architecture. Out: the console's lines. The disk is an NVMe device, whose
driver and ext4 are built into all of Debian's cloud kernels: no initramfs is needed. The guest has no
network, and never writes to the image.
"""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

INIT = "/checkout/tests/kernels/guest/init"
DISK_BYTES = 1 << 30  # sparse
MEMORY_MIB = 1024


class MachineError(Exception):
    """The machine could not be started, or did not end in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """How QEMU stands for a machine of a Debian architecture."""

    emulator: str
    machine: str
    cpu: str
    console: str


ARCHITECTURES = {
    "amd64": Architecture(emulator="qemu-system-x86_64", machine="pc", cpu="max", console="ttyS0"),
    # The pointer authentication that the architecture describes is very slow in emulation.
    "arm64": Architecture(
        emulator="qemu-system-aarch64",
        machine="virt",
        cpu="max,pauth-impdef=on",
        console="ttyAMA0",
    ),
}


def make_disk(image: Path, root: Path, checkout: Path) -> None:
    """Makes the disk of a root file system and the parts of a checkout that the guest runs."""
    inside = root / "checkout"
    shutil.rmtree(inside, ignore_errors=True)
    for part in ("sensor", "bpf", "tests/kernels/guest"):
        shutil.copytree(
            checkout / part, inside / part, ignore=shutil.ignore_patterns("__pycache__")
        )
    image.unlink(missing_ok=True)
    image.touch()
    subprocess.run(
        [
            "mke2fs",
            *("-q", "-t", "ext4", "-O", "^has_journal", "-E", "root_owner=0:0"),
            *("-d", root, image, f"{DISK_BYTES >> 10}k"),
        ],
        check=True,
    )


def command(arch: str, kernel: Path, disk: Path, accelerator: str) -> list[str]:
    about = ARCHITECTURES[arch]
    # One thread for all virtual CPUs: while a kernel changes its own code, QEMU's emulation with
    # several threads may show another CPU the breakpoint after it is gone, and the kernel falls over it.
    accel = "tcg,thread=single" if accelerator == "tcg" else accelerator
    kernel_arguments = [
        f"console={about.console}",
        "quiet",
        "panic=-1",
        "root=/dev/nvme0n1",
        "rootfstype=ext4",
        "ro",
        "rootwait",
        "devtmpfs.mount=0",
        f"init={INIT}",
    ]
    return [
        about.emulator,
        *("-machine", about.machine, "-accel", accel),
        *("-cpu", "host" if accelerator == "kvm" else about.cpu),
        *("-smp", "2", "-m", str(MEMORY_MIB)),
        *("-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"),
        *("-drive", f"if=none,id=root,format=raw,snapshot=on,file={disk}"),
        *("-device", "nvme,serial=root,drive=root"),
        *("-kernel", str(kernel), "-append", " ".join(kernel_arguments)),
    ]


def run(arguments: list[str], timeout_s: float) -> Iterator[str]:
    """Runs a machine to its end; yields the console's lines as they come.

    Raises `MachineError` when it cannot be started, fails, or has not ended in time.
    """
    try:
        process = subprocess.Popen(
            arguments,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="backslashreplace",
        )
    except FileNotFoundError as exc:
        raise MachineError(f"{arguments[0]} is missing") from exc
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        process.kill()

    with process:
        timer = threading.Timer(timeout_s, expire)
        timer.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                yield line.rstrip("\r\n")
            code = process.wait()
        finally:
            timer.cancel()
            process.kill()
    if expired.is_set():
        raise MachineError(f"not ended after {timeout_s:.0f} s")
    if code != 0:
        raise MachineError(f"{arguments[0]} ended with {code}")
