"""Helpers that lie beside the tests are importable from every folder of them."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fake_daemon import Daemon


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    """Serve as Docker does, with no containers, until a test says otherwise."""
    from fake_daemon import Daemon, body  # noqa: PLC0415 - found from here on

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
