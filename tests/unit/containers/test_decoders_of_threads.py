"""Threads of one source decode its first answers at the same time, which must not end the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

# A type that msgspec is still making is seen by other threads: here they meet within microseconds.
RACE = """
import sys, threading

sys.setswitchinterval(1e-6)
from sensor.containers import {module} as answers

start = threading.Barrier(4)

def first_answers():
    start.wait()
    for _ in range(50):
        {decode}

threads = [threading.Thread(target=first_answers) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
INSPECTED = b"""{"Id": "a", "Image": "b", "State": {"Pid": 1}, "Config": {"Image": "web"},
    "HostConfig": {}, "Mounts": [], "NetworkSettings": {"Networks": {}}}"""
PODS = b'{"items": [{"metadata": {"name": "a"}, "spec": {}, "status": {}}], "metadata": {}}'
INFO = '{"sandboxID": "a", "config": {}, "runtimeSpec": {}}'


@pytest.mark.parametrize(
    ("module", "decode"),
    [
        ("docker_answers", f"answers.decode({INSPECTED!r}, answers.Inspected, 'docker')"),
        ("kubernetes_answers", f"answers.DECODERS[answers.PodList].decode({PODS!r})"),
        ("cri_answers", f"answers._INFO.decode({INFO!r})"),
    ],
)
def test_first_answers_on_several_threads(module: str, decode: str) -> None:
    program = RACE.format(module=module, decode=decode)
    for _ in range(3):
        subprocess.run([sys.executable, "-c", program], check=True)
