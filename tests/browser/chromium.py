"""A headless Chromium of a test's own, and a server that knows what was asked of it."""

from __future__ import annotations

import base64
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
_ARGUMENTS = (
    "--headless",
    "--no-sandbox",  # the tests may be root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--window-size=1280,900",
)


def missing_for_browser() -> str | None:
    """What the browser tests lack here, or None."""
    if not CHROMIUM.exists() or not DRIVER.exists():
        return "no Chromium with its driver: apt-get install chromium chromium-driver"
    try:
        import selenium  # noqa: F401, PLC0415 - only looked for
    except ImportError:
        return "no Selenium: apt-get install python3-selenium"
    return None


class Browser:
    """Chromium with an empty profile."""

    def __init__(self, profile: Path) -> None:
        from selenium import webdriver  # noqa: PLC0415 - may be missing
        from selenium.webdriver.chrome.options import Options  # noqa: PLC0415
        from selenium.webdriver.chrome.service import Service  # noqa: PLC0415

        options = Options()
        options.binary_location = str(CHROMIUM)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        for argument in (*_ARGUMENTS, f"--user-data-dir={profile}"):
            options.add_argument(argument)
        self.driver: Chrome = webdriver.Chrome(service=Service(str(DRIVER)), options=options)

    def close(self) -> None:
        self.driver.quit()

    def open(self, url: str, *, width: int = 1280, dark: bool = False) -> None:
        """Load a page, and wait until it has loaded; a console of before is forgotten."""
        self.driver.get_log("browser")
        command = self.driver.execute_cdp_cmd
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        command("Emulation.setEmulatedMedia", {"features": [scheme]})
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
        command("Emulation.setDeviceMetricsOverride", metrics)
        self.driver.get(url)

    def run(self, script: str, *arguments: Any) -> Any:
        """Run a script of the test's; a page's policy does not hold for it."""
        return self.driver.execute_script(script, *arguments)

    def console(self) -> list[str]:
        """What the page wrote to the console since it was opened, violations of its policy included."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def picture(self, path: Path) -> None:
        """A picture of the whole page."""
        size = self.driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        answer = self.driver.execute_cdp_cmd(
            "Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip}
        )
        path.write_bytes(base64.b64decode(answer["data"]))


class Site:
    """Serves the pages it is given on loopback, and remembers each path that was asked for."""

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}
        self.asked: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append(self.path)
                page = site.pages.get(self.path)
                self.send_response(404 if page is None else 200)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.end_headers()
                self.wfile.write((page or "").encode())

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def remove(profile: Path) -> None:
    """Take away a profile that Chromium may still be writing to."""
    shutil.rmtree(profile, ignore_errors=True)
