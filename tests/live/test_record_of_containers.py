"""`sensor record` on this kernel: every exec of a container; of the host too, unless told otherwise."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sensor_process import SENSOR

if TYPE_CHECKING:
    from docker.models.containers import Container

READY = b"sensor ready"


def where_the_tests_are() -> str:
    """A host's process has the mount namespace of the machine's first one; in a bare root none has.

    The kernel's threads have it too, and unlike /proc/1 every root may look at theirs.
    """
    threads, ours = (Path("/proc", process, "ns/mnt") for process in ("2", "self"))
    assert Path("/proc/2/comm").read_text() == "kthreadd\n", "the tests are in a pid namespace"
    return "host" if threads.samefile(ours) else "unknown"


@pytest.mark.parametrize("option", [[], ["--containers"]], ids=["all", "containers"])
def test_every_exec_is_recorded(option: list[str], busybox: Container, tmp_path: Path) -> None:
    file, marker = tmp_path / "record.ndjson", f"record-{uuid.uuid4().hex}"
    command = [str(SENSOR), "record", "--file", str(file), *option]
    with subprocess.Popen(command, stderr=subprocess.PIPE, env=os.environ) as process:
        try:
            assert process.stderr is not None
            assert any(READY in line for line in process.stderr), "it ended before it was ready"
            for number in range(3):
                subprocess.run(["/bin/echo", f"host-{number}", marker], check=True)
                busybox.exec_run(["echo", f"container-{number}", marker])
            process.send_signal(signal.SIGINT)
            process.stderr.read()
        finally:
            process.kill()
    documents = [json.loads(line) for line in file.read_bytes().splitlines()]
    found = {
        document["process"]["args"][1]: document["container"]["identity"]["state"]
        for document in documents
        if marker in document["process"].get("args", [])
    }
    inside = {f"container-{number}": "container" for number in range(3)}
    where = where_the_tests_are()
    outside = {f"host-{number}": where for number in range(3)}
    # What may be in a container is kept.
    assert found == (inside if option and where == "host" else inside | outside)
