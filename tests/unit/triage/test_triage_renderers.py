"""Every renderer shows the whole report, and nothing hostile in it does anything."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from triaged import alert, with_

from sensor.alerts.encode import encode
from sensor.triage import html, markdown, terminal
from sensor.triage.facts import Facts
from sensor.triage.report import triage

MEGABYTE = 1 << 20
HOSTILE = {
    "html": "</text></svg></pre><script>alert(1)</script><img src=x onerror=alert(1)>",
    "attribute": "\" onload=alert(1) x='",
    "template": "{{ 7 * 7 }}{% raw %}",
    "terminal": "\x1b[2J\x1b]0;title\x07\x9b31m\r\n\x00",
    "bidirectional": "\u202egpj.exe\u2066\u200b\ufeff",
    "markdown": "](https://evil.example) ``` ` | <b> @channel\n# head",
    "not UTF-8": "\udcff\udc80",
    "long": "A" * MEGABYTE,
}
ELEMENTS = {
    "a", "body", "circle", "code", "dd", "details", "div", "dl", "dt", "footer", "h1", "h2", "h3", "head",
    "header", "html", "i", "li", "line", "main", "meta", "ol", "p", "path", "pre", "rect", "section",
    "span", "strong", "style", "summary", "svg", "table", "tbody", "td", "text", "th", "thead", "time",
    "title", "tr", "tspan", "ul",
}  # fmt: skip
STEERING = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)


class Page(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


def report_of(word):
    return triage(alert(word=word), Facts())


@pytest.fixture(params=HOSTILE.values(), ids=HOSTILE)
def hostile(request):
    return report_of(request.param)


def render_all(report):
    return {
        "html": html.render(report),
        "markdown": markdown.render(report),
        "terminal": terminal.render(report, color=False),
        "json": encode(msgspec.to_builtins(report)).decode(),
    }


def test_each_shows_the_command_the_container_and_the_next_steps():
    for name, text in render_all(report_of("")).items():
        shown = Page(text).text if name == "html" else text
        for word in ("aws_secret_access_key", "shop/web", "checkout", "containerd-shim", "/root"):
            assert word in shown, (name, word)
        assert "docker inspect 5f2b0c3c9f0d" in shown, name


def test_a_page_has_only_our_elements_and_no_attribute_that_does_something(hostile):
    elements = Page(html.render(hostile)).elements

    assert {tag for tag, _ in elements} <= ELEMENTS
    names = {name for _, attributes in elements for name in attributes}
    assert not [
        name for name in names if name.startswith("on") or name in ("src", "style", "action")
    ]
    links = [attributes["href"] for tag, attributes in elements if tag == "a"]
    assert links == ["https://attack.mitre.org/techniques/T1552/001/"]


def test_the_number_of_elements_does_not_depend_on_what_is_shown(hostile):
    harmless = Page(html.render(report_of("x"))).elements
    found = Page(html.render(hostile)).elements

    # That an argument is not UTF-8 is said in a note.
    kept = [tag for tag, attributes in found if attributes.get("class") != "note"]
    assert kept == [tag for tag, _ in harmless]


def test_the_policy_allows_this_pages_style_and_nothing_else():
    page = html.render(report_of(""))
    [policy] = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)

    assert re.sub("sha256-[^&]*", "HASH", policy) == (
        "default-src &#39;none&#39;; style-src &#39;HASH&#39;; base-uri &#39;none&#39;; "
        "form-action &#39;none&#39;"
    )
    assert "{{" not in page


def test_a_template_in_an_argument_is_text():
    assert "{{ 7 * 7 }}" in Page(html.render(report_of(HOSTILE["template"]))).text


def test_no_text_output_holds_what_steers_a_terminal_or_turns_the_reading_direction(hostile):
    rendered = render_all(hostile)
    for name in ("html", "markdown", "terminal", "json"):
        found = STEERING.search(rendered[name])
        assert found is None, (name, rendered[name][found.start() - 40 : found.end() + 40])


def test_colours_are_the_only_control_sequences_on_a_terminal():
    shown = terminal.render(report_of(HOSTILE["terminal"]), color=True)

    assert "\x1b[" in shown
    assert STEERING.search(re.sub(r"\x1b\[[0-9;]*m", "", shown)) is None


def test_reports_are_bounded_however_long_the_arguments(hostile):
    sizes = {name: len(text) for name, text in render_all(hostile).items()}

    assert max(sizes[name] for name in ("html", "markdown", "terminal")) < 128 << 10, sizes


def test_json_has_the_arguments_whole():
    word = HOSTILE["long"]
    report = json.loads(render_all(report_of(word))["json"])

    assert report["args"][-1] == f"/srv{word}"


def test_markdown_keeps_hostile_text_in_code_that_it_cannot_end():
    text = markdown.render(report_of("``` `` ` | x"))
    fences = [line for line in text.splitlines() if line.startswith("````")]

    assert len(fences) == 6  # three blocks, each begun and ended
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    # A pipe that is not escaped parts cells: each row of two columns has three.
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {3}


def test_markdown_makes_no_links_and_mentions_nobody():
    text = markdown.render(report_of("](https://evil.example) @channel"))
    prose = [line for line in text.splitlines() if line.startswith("**MEDIUM")]

    assert "\\]\\(https\\://evil.example\\)" in prose[0]
    assert "@channel" not in prose[0]


FIELDS = (
    "@timestamp", "container", "container.created", "container.labels", "container.security_context",
    "event", "host", "process.args", "process.parent", "process.tty", "rule", "rule.reference", "sensor",
    "sensor.ancestors", "sensor.collapsed", "sensor.recent_activity", "sensor.sequence", "tags", "threat",
    "user",
)  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(field=st.sampled_from(FIELDS), value=VALUES)
def test_any_shape_of_document_makes_a_report(field, value):
    document = with_(alert(), field, value)
    if isinstance(document["process"], dict):
        assert set(render_all(triage(document, Facts()))) == {
            "html",
            "markdown",
            "terminal",
            "json",
        }
