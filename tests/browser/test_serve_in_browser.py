"""`sensor serve` as it is used: the real command, a store with many alerts, a real browser, the keyboard."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from stored import make_alert, make_container, make_rule, outgoing
from test_report_in_browser import PAYLOADS

from sensor.store.writer import StoreWriter

SENSOR = Path(sys.executable).parent / "sensor"
MANY = 10_000
TOKEN = "a-token-of-the-tests-0123456789"
WAIT_S = 20
RULES = [
    make_rule("keys-searched", name="Keys Searched", severity="medium", risk_score=47),
    make_rule("shell", name="Shell Of A Web Server", severity="high", risk_score=73),
]


class Served:
    """A running `sensor serve` and the store behind it."""

    def __init__(self, folder: Path, count: int) -> None:
        self.store = folder / "alerts.db"
        self.writer = StoreWriter(self.store)
        self.writer.open()
        self.total = 0
        for start in range(0, count, 1000):
            self.write(*(self.alert(number) for number in range(start, min(start + 1000, count))))
        (folder / "token").write_text(TOKEN)
        (folder / "sensor.yaml").write_text("{}\n")
        arguments = ["--store", self.store, "--config", folder / "sensor.yaml"]
        arguments += ["--token-file", folder / "token", "--listen", "127.0.0.1:0"]
        self.process = subprocess.Popen(
            [SENSOR, "serve", *arguments],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONUNBUFFERED": "1"},
        )
        assert self.process.stdout is not None
        self.link = self.process.stdout.readline().strip()
        assert self.link, "sensor serve did not start"
        self.address = urlsplit(self.link).netloc

    @staticmethod
    def alert(number, *args, name="web"):
        return make_alert(
            number,
            *(args or ("grep", "-r", f"needle-{number}", "/srv")),
            rule=RULES[number % 2],
            pid=100 + number,
            container=make_container(f"{name}-{number % 5}", f"{number % 5:02x}" * 32),
        )

    def write(self, *alerts):
        self.writer.write([outgoing(each) for each in alerts])
        self.total += len(alerts)

    def newest(self, *args, name="web"):
        """An alert later than all before it."""
        return self.alert(self.total + 20_000, *args, name=name)

    def ask(self, path, *, method="GET", token=TOKEN, **headers):
        connection = http.client.HTTPConnection(self.address, timeout=WAIT_S)
        if token:
            headers["Authorization"] = f"Bearer {token}"
        connection.request(
            method, path, headers={k.replace("_", "-"): v for k, v in headers.items()}
        )
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return response, body

    def close(self):
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self.process.kill()
        self.process.communicate()
        self.writer.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    running = Served(tmp_path_factory.mktemp("serve"), MANY)
    yield running
    running.close()


@pytest.fixture
def page(browser, served):
    browser.open(served.link)
    until(browser, "location.pathname === '/' && document.querySelectorAll('.row').length > 0")
    until(browser, "document.querySelector('#live').textContent === 'live'")
    return browser


def until(browser, condition):
    """Wait in the page for a condition; frames come as they are drawn, so nothing is slept over."""
    browser.driver.set_script_timeout(WAIT_S)
    script = (
        "const done = arguments[0];"
        f"const look = () => {{ if ({condition}) done(true); else setTimeout(look, 20); }}; look();"
    )
    assert browser.driver.execute_async_script(script), condition


def press(browser, *keys):
    from selenium.webdriver.common.action_chains import ActionChains  # noqa: PLC0415 - may be missing

    for key in keys:
        ActionChains(browser.driver).send_keys(key).perform()


def chosen(browser):
    return browser.run(
        "const row = document.querySelector('.row[aria-selected=true]');"
        "return row && row.querySelector('.command').textContent"
    )


def test_ten_thousand_alerts_are_reached_with_the_keyboard_and_few_are_drawn(page, served):
    assert page.run("return document.querySelectorAll('.row').length") < 60
    total = f"{served.total:,} alerts"
    for _ in range(200):
        if page.run("return document.querySelector('#state').textContent") == total:
            break
        before = page.run("return alerts.length")
        press(page, "G")
        until(page, f"alerts.length > {before} || !more")
    press(page, "G")

    assert page.run("return document.querySelector('#state').textContent") == total
    assert page.run("return document.querySelectorAll('.row').length") < 60
    assert chosen(page) == "grep -r needle-0 /srv"
    press(page, "g")
    assert chosen(page) == page.run("return alerts[0].command")


def test_a_report_is_read_with_the_keyboard_alone(page):
    from selenium.webdriver.common.keys import Keys  # noqa: PLC0415 - may be missing

    press(page, "j", "j", "k", "j", Keys.ENTER)
    until(page, "frame.contentDocument && frame.contentDocument.querySelector('h1')")

    assert chosen(page) == page.run("return alerts[1].command")
    identifier = page.run("return frame.contentDocument.querySelector('footer .mono').textContent")
    assert identifier == page.run("return alerts[1].id")
    assert page.run("return document.activeElement.id") == "frame"
    assert [line for line in page.console() if "Content Security Policy" in line] == []


def test_a_new_alert_appears_by_itself_and_what_is_read_stays_in_place(page, served):
    page.run("list.scrollTop = 64 * 20")
    until(page, "document.querySelector('.row') && list.scrollTop === 64 * 20")
    served.write(served.newest("grep", "arrived-live"))

    until(page, "alerts[0].command === 'grep arrived-live'")
    assert page.run("return list.scrollTop") == 64 * 21
    assert page.run("return document.querySelector('#fresh').textContent") == "1 new ↑"
    page.run("document.querySelector('#fresh').click()")
    until(
        page,
        "[...document.querySelectorAll('.command')].some(e => e.textContent === 'grep arrived-live')",
    )


def test_filters_narrow_the_list_and_what_arrives(page, served):
    page.run("filters.elements.severity.value = 'high'; filters.elements.container.value = 'db-1';")
    page.run("filters.dispatchEvent(new Event('input', {bubbles: true}))")
    until(page, "document.querySelector('#state').textContent === 'no alert matches'")
    until(page, "document.querySelector('#live').textContent === 'live'")
    served.write(
        served.alert(MANY + 5011, "other-container"),
        served.alert(MANY + 5021, "wanted", name="db"),
    )
    until(page, "alerts.length > 0")

    assert page.run("return alerts.map(each => each.command)") == ["wanted"]


def test_nothing_hostile_runs_or_is_fetched_in_the_list_and_in_the_report(page, served, site):
    from selenium.webdriver.common.keys import Keys  # noqa: PLC0415 - may be missing

    hostile = "".join(PAYLOADS).replace("{site}", site.url)
    document = served.newest("grep", hostile)
    document["container"]["name"] = hostile
    document["rule"]["name"] = hostile
    served.write(document)
    until(page, "alerts[0].command.includes('<script>')")
    press(page, "g", Keys.ENTER)
    until(page, "frame.contentDocument && frame.contentDocument.querySelector('h1')")

    assert page.driver.title == "Alerts"
    assert site.asked == []
    assert page.run("return document.scripts.length") == 1
    assert page.run("return document.querySelectorAll('.row script, .row img').length") == 0
    assert page.run("return frame.contentDocument.scripts.length") == 0
    fetched = page.run(
        "return performance.getEntriesByType('resource').map(e => new URL(e.name).host)"
    )
    assert set(fetched) == {served.address}
    assert [line for line in page.console() if "Content Security Policy" in line] == []


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_list_fits_its_window(browser, served, width, dark):
    browser.open(served.link, width=width, dark=dark)
    until(browser, "location.pathname === '/' && document.querySelectorAll('.row').length > 0")

    page = "document.documentElement"
    assert browser.run(f"return {page}.scrollWidth - {page}.clientWidth") == 0
    assert browser.run("return list.scrollWidth - list.clientWidth") == 0


@pytest.mark.parametrize(
    "path", ["/", "/app.js", "/api/alerts", "/api/stream", "/alert/ab", "/none"]
)
def test_without_the_token_nothing_is_shown(served, path):
    assert served.ask(path, token=None)[0].status == 401
    assert served.ask(path, token="a" * 31)[0].status == 401
    cookie = f"sensor-serve-{urlsplit(served.link).port}={TOKEN}"
    assert served.ask(path, token=None, Cookie=cookie)[0].status == 401


def test_a_wrong_link_sets_no_cookie_and_the_right_one_sets_a_strict_one(served):
    wrong, _ = served.ask("/login?token=x", token=None)
    right, _ = served.ask(f"/login?token={TOKEN}", token=None)

    assert (wrong.status, wrong.headers["Set-Cookie"]) == (403, None)
    assert right.status == 200
    cookie = right.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert served.ask("/", token=None, Cookie=cookie.partition(";")[0])[0].status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "", "127.0.0.1:1"]
)
def test_a_name_of_somebody_elses_that_points_here_is_refused(served, host):
    name = host.format(port=urlsplit(served.link).port)

    assert served.ask("/api/alerts", Host=name)[0].status == 421


def test_other_sites_may_neither_ask_nor_change_anything(served):
    assert served.ask("/api/alerts", Sec_Fetch_Site="cross-site")[0].status == 403
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        response, _ = served.ask("/api/alerts", method=method)
        assert (response.status, response.headers["Allow"]) == (405, "GET, HEAD")


def test_every_answer_has_a_strict_policy(served):
    for path in ("/", "/api/alerts", "/alert/none", "/none"):
        response, _ = served.ask(path)
        policy = response.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'"), path
        assert "unsafe" not in policy
        assert "frame-ancestors" in policy
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["Access-Control-Allow-Origin"] is None


def test_an_alert_that_is_not_there_and_parameters_that_make_no_sense(served):
    response, body = served.ask("/alert/%3Cscript%3Ealert(1)%3C%2Fscript%3E")
    assert response.status == 404
    assert b"<script" not in body
    assert served.ask("/api/alerts?before=none")[0].status == 410
    response, body = served.ask("/api/alerts?severity=none&container=%00%ff&before=")
    assert (response.status, json.loads(body)["alerts"]) == (200, [])


def test_reports_are_there_to_be_taken_along(served):
    [first, *_] = json.loads(served.ask("/api/alerts")[1])["alerts"]
    response, body = served.ask(f"/alert/{first['id']}?format=json")
    assert response.headers["Content-Disposition"] == f'attachment; filename="{first["id"]}.json"'
    assert json.loads(body)["id"] == first["id"]
    assert served.ask(f"/alert/{first['id']}?format=markdown")[1].startswith(b"# ")


def test_a_reader_too_many_is_turned_away_and_its_place_is_free_again(served):
    def open_stream():
        connection = http.client.HTTPConnection(served.address, timeout=WAIT_S)
        connection.request(
            "GET", f"/api/stream?after={9 * 10**15}", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        response = connection.getresponse()
        if response.status == 200:
            response.readline()
        return connection, response

    opened = [open_stream() for _ in range(20)]
    statuses = {response.status for _, response in opened}
    for connection, response in opened:
        response.close()
        connection.close()
    assert statuses == {200, 503}
    for _ in range(500):
        connection, response = open_stream()
        response.close()
        connection.close()
        if response.status == 200:
            return
        threading.Event().wait(0.02)
    pytest.fail("no place became free")
