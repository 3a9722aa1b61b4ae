"""The sensor on other kernels: boots each in QEMU, runs the live cases in it, writes the table.

usage: run.py [--kernel NAME]... [--cache FOLDER] [--mirror URL] [--accelerator tcg|kvm] [--refresh]

Exit code: 0 every case passed on every kernel asked for; 1 one did not; 2 the command line is wrong. The
table in docs/kernels.md is written when the whole matrix has run.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import machine
from debian import Archive, FetchError
from results import Case, Run, replaced, tables

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENT = REPOSITORY / "docs/kernels.md"
TIMEOUT_SECONDS = 900  # a machine that others use, too, and an emulated one of another architecture
CONSOLE_LINES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A kernel and the user land whose BCC compiles the program; both are suites of Debian."""

    name: str
    kernel: str
    userland: str
    arch: str = "amd64"


# The user land is the one the sensor is made for, and once a later one: another compiler.
MATRIX = (
    Target(name="5.10", kernel="bullseye", userland="bookworm"),
    Target(name="6.1", kernel="bookworm", userland="bookworm"),
    Target(name="6.12", kernel="trixie", userland="bookworm"),
    Target(name="newest", kernel="sid", userland="bookworm"),
    Target(name="newest-trixie", kernel="sid", userland="trixie"),
    Target(name="6.12-arm64", kernel="trixie", userland="bookworm", arch="arm64"),
)


def say(text: str = "") -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def run_target(target: Target, archive: Archive, accelerator: str) -> Run:
    """Fetches what the target needs, boots it and gathers its results. Never raises for a failure."""
    run = Run(name=target.name)
    console: list[str] = []
    try:
        kernel = archive.kernel(target.kernel, target.arch)
        say(f"{target.name}: {kernel.release} ({target.arch}, {target.userland}'s BCC)")
        run.facts["kernel"] = kernel.release
        root = archive.userland(target.userland, target.arch)
        disk = archive.cache / "disk.ext4"
        machine.make_disk(disk, root, REPOSITORY)
        started = time.monotonic()
        arguments = machine.command(target.arch, kernel.image, disk, accelerator)
        for line in machine.run(arguments, TIMEOUT_SECONDS):
            console.append(line)
            case = run.take(line)
            if case is not None:
                show(case)
        run.seconds = time.monotonic() - started
    except (FetchError, machine.MachineError, OSError) as exc:
        run.problem = str(exc)
    log = archive.cache / "consoles" / f"{target.name}.log"
    log.parent.mkdir(exist_ok=True)
    log.write_text("\n".join(console) + "\n")
    if not run.ended and run.problem is None:
        run.problem = "the guest went off before its end"
    if run.problem is not None:
        say(f"  {run.problem}; the end of the console ({log}):")
        for line in console[-CONSOLE_LINES:]:
            say(f"    {line}")
    say(f"  {'passed' if run.passed else 'FAILED'} in {run.seconds:.0f} s\n")
    return run


def show(case: Case) -> None:
    say(f"  {'ok    ' if case.passed else 'FAILED'} {case.seconds:6.2f} s  {case.about}")
    for line in (case.error or "").splitlines():
        say(f"      {line}")


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    default = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sensor-kernels"
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--kernel",
        action="append",
        choices=[target.name for target in MATRIX],
        help="only this one; may be given again (default: all, and write the table)",
    )
    parser.add_argument(
        "--cache", type=Path, default=default, help="where everything is kept (%(default)s)"
    )
    parser.add_argument(
        "--mirror",
        default="http://deb.debian.org",
        help="of Debian: with /debian and /debian-security below it (%(default)s)",
    )
    parser.add_argument(
        "--accelerator",
        choices=("tcg", "kvm"),
        default="tcg",
        help="tcg emulates, which works anywhere; kvm is faster (%(default)s)",
    )
    parser.add_argument(
        "--refresh", action="store_true", help="look for newer kernels and packages"
    )
    return parser.parse_args(arguments)


def main() -> int:
    options = parse()
    targets = [target for target in MATRIX if target.name in (options.kernel or (target.name,))]
    os.nice(10)  # it takes minutes: nobody should wait for it at the keyboard
    options.cache.mkdir(parents=True, exist_ok=True)
    with (options.cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another run uses {options.cache}: wait for its end, or give another --cache")
            return 2
        archive = Archive(mirror=options.mirror, cache=options.cache, refresh=options.refresh)
        runs = [run_target(target, archive, options.accelerator) for target in targets]
    say(tables(runs))
    if options.kernel is None:
        DOCUMENT.write_text(replaced(DOCUMENT.read_text(), tables(runs)))
        say(f"\nwritten to {DOCUMENT.relative_to(REPOSITORY)}")
    return 0 if all(run.passed for run in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
