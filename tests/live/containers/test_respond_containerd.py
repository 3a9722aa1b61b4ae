"""`sensor respond` on a pod's container in containerd: paused by the kernel, stopped by the CRI."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import images

if TYPE_CHECKING:
    from daemons import Containerd

SENSOR = Path(sys.executable).parent / "sensor"


def test_a_pods_container_is_paused_let_go_and_stopped(
    containerd: Containerd, tmp_path: Path
) -> None:
    def respond(container_id: str, *arguments: str, code: int = 0) -> str:
        command = [str(SENSOR), "respond", "--container", container_id, "--yes", *arguments]
        command += ["--socket", str(containerd.socket), "--audit", str(tmp_path / "r.ndjson")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    cri = containerd.cri()
    pod = cri.run(
        "web-1",
        f"docker.io/{images.BUSYBOX}",
        ["sleep", "1000000"],
        "/kubepods/besteffort/pod{uid}",
    )
    try:
        said = respond(pod.container_id, "--action", "pause")
        assert "done, and verified: it is paused" in said
        assert "shop/web-1" in said
        assert "it is paused already" in respond(pod.container_id, "--action", "pause")
        assert "it runs" in respond(pod.container_id, "--undo")
        assert cri.execute(pod.container_id, ["true"]) == 0
        said = respond(pod.container_id, "--action", "disconnect", code=1)
        assert "--action quarantine" in said
        assert "it is the sandbox" in respond(pod.sandbox_id, "--action", "kill", code=1)
        respond(pod.container_id, "--action", "pause")
        assert "it does not run any more" in respond(pod.container_id, "--action", "kill")
    finally:
        cri.remove(pod)
