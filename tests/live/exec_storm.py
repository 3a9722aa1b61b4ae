"""A storm of execs (benchmarks/execstorm.c), on the host or in a container, and which execs were needles."""

from __future__ import annotations

import io
import json
import os
import subprocess
import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sensor_process import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

    from docker.models.containers import Container

SOURCE = REPOSITORY / "benchmarks" / "execstorm.c"
NEEDLE_EVERY = 1000
PADDING = {"short": ("0", "0"), "8 KiB": ("8", "1000")}  # arguments, and bytes of each


@dataclass(frozen=True)
class Outcome:
    """What a storm did: execs in all, and the argument by which each needle among them is known."""

    execs: int
    failed: int
    needles: tuple[str, ...]


@dataclass(frozen=True)
class Storm:
    """`program` is what each exec starts, and a path inside of the container as well."""

    generator: Path
    program: Path

    @classmethod
    def compile(cls, directory: Path, program: Path) -> Storm:
        generator = directory / "execstorm"
        subprocess.run(["gcc", "-O2", "-static", "-o", generator, SOURCE], check=True)
        return cls(generator, program)

    def put_into(self, container: Container) -> None:
        """The generator becomes /execstorm there."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            tar.add(self.generator, "execstorm")
        assert container.put_archive("/", buffer.getvalue())

    def run(
        self, tag: str, *, execs: str, argv: str, needles: bool, container: Container | None = None
    ) -> Outcome:
        """As many workers as processors; `execs` of each is a number, or seconds like "60s"."""
        every = NEEDLE_EVERY if needles else 0
        program = str(self.program) if container is None else f"/opt/{self.program.name}"
        arguments = [str(os.cpu_count()), execs, *PADDING[argv], str(every), tag, program]
        if container is None:
            command = [str(self.generator), *arguments]
            said = subprocess.run(command, check=True, capture_output=True).stdout
        else:
            result = container.exec_run(["/execstorm", *arguments], stderr=False)
            said = result.output
            assert result.exit_code == 0, said
        told = json.loads(said)
        return Outcome(
            execs=told["execs"],
            failed=told["failed"],
            needles=tuple(
                f"{tag}.{worker}.{number}"
                for worker, count in enumerate(told["per_worker"])
                for number in (range(0, count, every) if every else ())
            ),
        )
