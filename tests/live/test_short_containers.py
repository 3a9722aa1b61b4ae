"""Containers that are gone almost at once: each alert has the right id, name and image."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import images

if TYPE_CHECKING:
    import docker
    from sensor_process import Sensor

# 500 take some 90 s on two processors, so the suite is content with fewer.
COUNT = int(os.environ.get("SENSOR_TEST_SHORT_CONTAINERS", "120"))
AT_ONCE = 4


def test_each_alert_names_the_container_that_is_gone(
    client: docker.DockerClient, sensor: Sensor, marker: str
) -> None:
    """None is attributed to another one, and none is called the host."""
    made: dict[str, tuple[str, str]] = {}

    def run(first: int) -> None:
        for number in range(first, COUNT, AT_ONCE):
            word, name = f"{marker}-{number}.", f"short-{marker[-12:]}-{number}"
            command = ["grep", "aws_session_token", word]
            container = client.containers.create(images.BUSYBOX, command, name=name)
            made[word] = (container.id, name)
            container.start()
            container.wait()
            container.remove(force=True)

    threads = [threading.Thread(target=run, args=(first,)) for first in range(AT_ONCE)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for word in made:
        sensor.wait_for_argument(word)
    alerts = {alert["process"]["args"][-1]: alert for alert in sensor.alerts_with(marker)}
    assert len(made) == COUNT
    assert {word: container_id for word, (container_id, _) in made.items()} == {
        word: alert["container"]["id"] for word, alert in alerts.items()
    }
    unnamed = [
        word
        for word, (_, name) in made.items()
        if alerts[word]["container"].get("name") != name or "image" not in alerts[word]["container"]
    ]
    assert len(unnamed) <= COUNT // 100, unnamed
