"""The report as one HTML page that needs nothing else: no script, no request, a strict policy.

The page's style is the only one its policy lets apply, by its hash. Jinja escapes every value.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from sensor.triage import words
from sensor.triage.picture import hour_bars, time_picture, tree_picture

if TYPE_CHECKING:
    from jinja2 import Template

    from sensor.triage.model import Report

_LINKS: Final = 8


def render(report: Report, *, alert_link: str | None = None) -> str:
    """The page. `alert_link` is what stands before an alert's id in links to other alerts."""
    style = _style()
    return _template().render(
        report=report,
        tree=tree_picture(report.tree),
        time=time_picture(report.timeline, report.time),
        bars=hour_bars(report.history) if report.history else (),
        references=[each for each in report.rule.references if each.startswith("https://")][
            :_LINKS
        ],
        alert_link=alert_link,
        style=Markup(style),  # noqa: S704 - our own file
        policy=policy(),
        words=words,
    )


def message(text: str) -> str:
    """A page in the same style that only says why there is no report."""
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>No report</title>'
        "<style>{}</style><main><h1>No report</h1><p>{}</p></main></html>"
    )
    return Markup(page).format(Markup(_style()), words.value(text))  # noqa: S704 - our own parts


def policy() -> str:
    """The content security policy of the page: its own style, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"


@cache
def _style() -> str:
    return (files("sensor.triage") / "report.css").read_text()


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string((files("sensor.triage") / "report.html.j2").read_text())
