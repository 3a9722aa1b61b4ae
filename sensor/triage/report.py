"""The report: an alert's document and the facts around it in, one `Report` out. Pure and bounded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sensor.alerts.alert import command_of, image_of
from sensor.alerts.escape import visible
from sensor.alerts.fields import get, number, severity_word, text, texts
from sensor.errors import SensorError
from sensor.rules.rule import SEVERITY_NUMBER
from sensor.triage.advice import impact, steps
from sensor.triage.container import container_facts, user_of, who_facts
from sensor.triage.model import History, OtherAlert, Related, Report, RuleText
from sensor.triage.signals import signals
from sensor.triage.timeline import time_of, timeline
from sensor.triage.tree import process_tree

if TYPE_CHECKING:
    from sensor.store.records import Summary
    from sensor.triage.facts import Facts, Others


def triage(document: dict[str, Any], facts: Facts) -> Report:
    """Make the report. Raises SensorError for a document that is not about a process."""
    if not isinstance(document.get("process"), dict) or not document["process"]:
        raise SensorError(
            "not an alert about a process: the sensor says this of itself"
            if text(document, "event.module") == "sensor"
            else "not an alert: the document has no process"
        )
    tree, left_out = process_tree(document)
    return Report(
        id=text(document, "event.id"),
        time=time_of(text(document, "@timestamp")) or 0.0,
        host=text(document, "host.name"),
        severity=severity_word(document),
        risk_score=number(document, "event.risk_score"),
        rule=_rule(document, facts),
        summary=_summary(document),
        args=tuple(texts(document, "process.args")),
        executable=text(document, "process.executable"),
        working_directory=text(document, "process.working_directory"),
        notes=tuple(_notes(document)),
        who=who_facts(document),
        signals=signals(document, facts),
        tree=tree,
        tree_left_out=left_out,
        timeline=timeline(document, facts),
        container=container_facts(document),
        related=tuple(_related(each) for each in facts.others),
        history=_history(facts),
        exceptions=facts.exceptions,
        impact=impact(document),
        steps=steps(document, facts),
        gaps=(*facts.gaps, *_gaps(document)),
    )


def _rule(document: dict[str, Any], facts: Facts) -> RuleText:
    subtechniques = zip(
        texts(document, "threat.technique.subtechnique.id"),
        texts(document, "threat.technique.subtechnique.name"),
        strict=False,
    )
    techniques = zip(
        texts(document, "threat.technique.id"),
        texts(document, "threat.technique.name"),
        strict=False,
    )
    return RuleText(
        id=text(document, "rule.id"),
        name=text(document, "rule.name") or "A rule without a name",
        description=text(document, "rule.description"),
        tactics=tuple(texts(document, "threat.tactic.name")),
        techniques=tuple(f"{number_} {name}" for number_, name in (*techniques, *subtechniques)),
        references=tuple(texts(document, "rule.reference")),
        false_positives=facts.false_positives,
        guide=facts.guide,
    )


def _summary(document: dict[str, Any]) -> str:
    """One sentence: who ran what, where, and how they came in."""
    tool = visible(text(document, "process.name") or command_of(document, 64), 64)
    user = visible(user_of(document), 64) or "an unknown user"
    name = text(document, "container.name") or text(document, "container.id")[:12]
    place = f"in the container {visible(name, 64)}" if name else "on the machine itself"
    image = visible(image_of(document), 128)
    of_image = f" of the image {image}" if image and name else ""
    if get(document, "process.interactive") is True:
        subject = "Somebody at a terminal"
    elif get(document, "sensor.entered_by_exec") is True:
        subject = "Somebody or something from outside"
    else:
        subject = "A process without a terminal"
    return f"{subject} ran {tool} as {user} {place}{of_image}."


def _notes(document: dict[str, Any]) -> list[str]:
    notes = []
    if get(document, "sensor.args_truncated") is True:
        notes.append("The argument list was longer than what is recorded.")
    if get(document, "sensor.args_read_error") is True:
        notes.append("The argument list could not be read whole.")
    if get(document, "sensor.args_base64") is not None:
        notes.append(
            "Some arguments are not UTF-8; sensor.args_base64 of the alert has their bytes."
        )
    if (count := number(document, "sensor.collapsed.count")) > 1:
        notes.append(f"{count} matching execs of one action were collapsed into this alert.")
    if (count := number(document, "sensor.redacted.count")) > 0:
        kinds = visible(", ".join(texts(document, "sensor.redacted.kinds")), 200)
        notes.append(f"{count} secrets are not shown: {kinds}.")
    return notes


def _gaps(document: dict[str, Any]) -> list[str]:
    gaps = []
    if get(document, "sensor.recent_activity") is None:
        gaps.append("The alert does not say what its container did before.")
    if get(document, "sensor.ancestors") is None:
        gaps.append("The alert does not have all ancestors: the tree shows its parent and leaders.")
    if text(document, "container.id") and not text(document, "container.name"):
        reason = text(document, "container.resolution.reason") or "the engine was not asked"
        gaps.append(f"Name and image of the container are not known: {visible(reason, 200)}.")
    return gaps


def _history(facts: Facts) -> History | None:
    similar = facts.similar
    if similar is None or similar.alerts + similar.hidden == 0:
        return None
    return History(
        alerts=similar.alerts,
        hidden=similar.hidden,
        execs=similar.execs,
        first=similar.first,
        last=similar.last,
        hours=similar.hours_utc,
    )


def _related(others: Others) -> Related:
    return Related(
        title=others.title,
        alerts=tuple(_other(each) for each in others.alerts),
        more=others.more,
    )


def _other(summary: Summary) -> OtherAlert:
    words = [word for word, least in SEVERITY_NUMBER.items() if summary.severity >= least]
    return OtherAlert(
        id=summary.id,
        time=summary.time,
        severity=words[-1] if words else "low",
        rule=summary.rule_name or "",
        command=summary.command,
        container=summary.container_name or (summary.container_id or "")[:12],
        user=summary.user_name or summary.user_id or "",
        execs=summary.execs,
    )
