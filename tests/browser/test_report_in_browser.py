"""The page of `sensor triage` in a real browser: legible, complete, and inert whatever stands in it."""

from __future__ import annotations

import re

import pytest
from triaged import alert

from sensor.triage.facts import Facts
from sensor.triage.html import render
from sensor.triage.report import triage

# Each would run a script or fetch something if it were not escaped where it stands.
PAYLOADS = (
    "<script>document.title='ran'</script>",
    "<script src={site}/fetched.js></script>",
    "<img src={site}/fetched.png onerror=\"document.title='ran'\">",
    '" style="background:url({site}/fetched.css)" onmouseover="document.title=1',
    "</title></style></svg></text><svg onload=\"document.title='ran'\"><use href='{site}/fetched.svg'/>",
    "<iframe srcdoc=\"<script>parent.document.title='ran'</script>\"></iframe>",
    "<meta http-equiv=refresh content='0;url={site}/fetched.html'><base href='{site}/fetched/'>",
    "<link rel=stylesheet href={site}/fetched.css><style>@import '{site}/fetched.css'</style>",
    "--><!--<script>document.title='ran'</script>]]><![CDATA[",
    "\u202e<script>\x00document.title='ran'</script>\x1b[31m\ufeff",
)
TITLE = "MEDIUM: AWS Credentials Searched For Inside A Container"


def page(word=""):
    return render(triage(alert(word=word), Facts()))


def without_policy(text):
    stripped = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    assert stripped != text
    return stripped


def test_the_test_itself_sees_a_script_and_a_request(browser, site):
    site.pages["/raw.html"] = (
        "<title>t</title><script>document.title='ran'</script><img src=/fetched.png>"
    )
    browser.open(f"{site.url}/raw.html")

    assert browser.driver.title == "ran"
    assert "/fetched.png" in site.asked


@pytest.mark.parametrize("has_policy", [True, False], ids=["with its policy", "by escaping alone"])
def test_no_script_runs_and_nothing_is_fetched_whatever_a_container_is_called(
    browser, site, has_policy
):
    hostile = page("".join(PAYLOADS).replace("{site}", site.url))
    site.pages["/report.html"] = hostile if has_policy else without_policy(hostile)
    browser.open(f"{site.url}/report.html")

    assert browser.driver.title == TITLE
    assert [path for path in site.asked if path != "/favicon.ico"] == ["/report.html"]
    fetched = browser.run("return performance.getEntriesByType('resource').map(e => e.name)")
    assert [each for each in fetched if not each.endswith("/favicon.ico")] == []
    assert browser.run("return document.scripts.length") == 0
    # Not even tried: with the policy, a try would have been written to the console.
    assert [line for line in browser.console() if "favicon" not in line] == []


def test_the_policy_lets_the_pages_own_style_apply(browser, site):
    site.pages["/report.html"] = page()
    browser.open(f"{site.url}/report.html")

    family = browser.run("return getComputedStyle(document.querySelector('.command')).fontFamily")
    assert family.startswith("ui-monospace")


def test_the_policy_refuses_what_would_get_into_the_page_all_the_same(browser, site):
    script = f"<script>document.title='ran'</script><img src={site.url}/fetched.png>"
    site.pages["/report.html"] = page().replace("<main>", f"<main>{script}")
    browser.open(f"{site.url}/report.html")

    assert browser.driver.title == TITLE
    assert "/fetched.png" not in site.asked
    assert len([line for line in browser.console() if "Content Security Policy" in line]) >= 2


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 400])
def test_every_text_stands_out_from_what_is_behind_it(browser, site, tmp_path, width, dark):
    """Of WCAG: a contrast of 4.5 for text. The darkest and the lightest are looked at in both schemes."""
    site.pages["/report.html"] = page()
    browser.open(f"{site.url}/report.html", width=width, dark=dark)
    browser.picture(tmp_path / "report.png")

    pale = browser.run(_PALE)
    assert pale == []
    background = browser.run("return getComputedStyle(document.body).backgroundColor")
    lightness = sum(map(int, re.findall(r"\d+", background)[:3])) / 3
    assert (lightness < 64) == dark


@pytest.mark.parametrize("width", [1280, 400])
@pytest.mark.parametrize("word", ["", "A" * 4000], ids=["short", "long"])
def test_what_is_wide_scrolls_within_itself_and_the_page_does_not(browser, site, width, word):
    site.pages["/report.html"] = page(word)
    browser.open(f"{site.url}/report.html", width=width)

    beyond = "const page = document.documentElement; return page.scrollWidth - page.clientWidth"
    assert browser.run(beyond) == 0
    cut = browser.run(
        "return [...document.querySelectorAll('svg')].filter(svg => {"
        "  const box = svg.getBoundingClientRect();"
        "  return [...svg.querySelectorAll('text')].some("
        "    text => text.getBoundingClientRect().right > box.right + 1);"
        "}).map(svg => svg.getAttribute('aria-label'))"
    )
    assert cut == [], "texts that go beyond their picture"


def test_the_tree_and_the_timeline_are_pictures_with_a_name(browser, site):
    site.pages["/report.html"] = page()
    browser.open(f"{site.url}/report.html")

    names = browser.run(
        "return [...document.querySelectorAll('svg[role=img]')].map(e => e.getAttribute('aria-label'))"
    )
    assert names == [
        "From the outermost known ancestor to the process that matched",
        "What happened around the alert, oldest first",
    ]
    matches = browser.run("return document.querySelectorAll('circle.match').length")
    assert matches == 2


def test_a_printed_page_hides_nothing(browser, site):
    site.pages["/report.html"] = page("A" * 2000)
    browser.open(f"{site.url}/report.html", dark=True)
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})

    assert (
        browser.run("return getComputedStyle(document.body).backgroundColor")
        == "rgb(255, 255, 255)"
    )
    hidden = browser.run(
        "return [...document.querySelectorAll('.scroll, .command, pre')]"
        ".filter(e => getComputedStyle(e).overflowX !== 'visible').length"
    )
    assert hidden == 0


_PALE = r"""
const channel = c => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
const parse = text => (text.match(/[\d.]+/g) || []).map(Number);
const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
const behind = element => {
  for (let e = element; e; e = e.parentElement) {
    const found = parse(getComputedStyle(e).backgroundColor);
    if (found.length === 3 || found[3] > 0) return found;
  }
  return [255, 255, 255];
};
const pale = [];
for (const element of document.querySelectorAll('main *')) {
  const own = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  if (!own || element.tagName === 'title') continue;
  const style = getComputedStyle(element);
  const svg = element instanceof SVGElement;
  const a = light(parse(svg ? style.fill : style.color)), b = light(behind(element));
  const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (contrast < 4.5) pale.push([element.tagName, element.textContent.slice(0, 40), contrast]);
}
return pale;
"""
