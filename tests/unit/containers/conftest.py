"""A fake daemon for the sources that talk HTTP."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from fake_daemon import Daemon, body

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Serve as Docker does, with no containers, until a test says otherwise."""
    server = Daemon(tmp_path / "docker.sock")
    server.answers["/version"] = body(b'{"ApiVersion":"1.41"}')
    server.answers["/containers/json"] = body(b"[]")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.release.set()
    server.shutdown()
    server.server_close()
    thread.join()
