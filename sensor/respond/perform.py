"""Doing what a plan says: the record first, then the action, then a look whether it holds."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

import msgspec

from sensor.alerts.notice import ECS_VERSION, timestamp
from sensor.containers.fields import metadata_fields
from sensor.errors import SourceError
from sensor.respond.audit import BEGUN, DONE, DRY_RUN, FAILED, REFUSED, UNNEEDED
from sensor.respond.control import Action
from sensor.respond.errors import ResponseError
from sensor.respond.plan import Plan, is_done

if TYPE_CHECKING:
    from sensor.respond.audit import Actor, Audit

_CONTAINER_FIELDS: Final = ("id", "name", "image", "runtime")
_OUTCOME: Final = {DONE: "success", UNNEEDED: "success", FAILED: "failure", REFUSED: "failure"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """Why: the alert, and the rule whose configuration named the action where nobody was asked."""

    alert_id: str | None = None
    rule_id: str | None = None
    automatic: bool = False


def perform(
    plan: Plan, *, audit: Audit | None, actor: Actor, cause: Cause, dry_run: bool = False
) -> str:
    """Carry the plan out; returns what now holds.

    Raises ResponseError where it was refused or did not come to pass. Each way out is recorded, and
    what undoing needs is on the disk before anything is done. `audit` is None for a dry run by hand,
    which leaves nothing behind.
    """
    record = _record(plan, actor, cause)

    def note(stage: str, reason: str) -> str:
        if audit is not None:
            audit.append(_staged(record, stage, reason))
        return reason

    if plan.refusal is not None:
        raise ResponseError(note(REFUSED, f"refused: {plan.refusal}"))
    if plan.nothing is not None:
        return note(UNNEEDED, f"nothing to do: {plan.nothing}")
    if dry_run:
        return note(DRY_RUN, f"dry run: would {plan.action}")
    note(BEGUN, "begun")
    failure = None
    try:
        plan.control.act(plan.action, plan.seen, grace_s=plan.grace_s, networks=plan.networks)
    except SourceError as error:
        failure = str(error)
    try:
        holds = is_done(plan.action, plan.control.see(plan.seen.container.id), plan.networks)
    except SourceError as error:
        failure, holds = failure or str(error), False
    if not holds:
        said = failure or f"{plan.control.name} took the {plan.action}, but it does not hold"
        raise ResponseError(note(FAILED, said))
    return note(DONE, f"done, and verified: {_HOLDS[plan.action]}")


_HOLDS: Final = {
    Action.PAUSE: "it is paused",
    Action.DISCONNECT: "it is in no network",
    Action.STOP: "it does not run any more",
    Action.KILL: "it does not run any more",
    Action.UNPAUSE: "it runs",
    Action.RECONNECT: "it is in its networks",
}


def _record(plan: Plan, actor: Actor, cause: Cause) -> dict[str, Any]:
    container = metadata_fields(plan.seen.container).get("container", {})
    record: dict[str, Any] = {
        "event": {
            "kind": "event",
            "module": "sensor",
            "dataset": "sensor.response",
            "category": ["configuration"],
            "type": ["change"],
            "action": f"container-{plan.action}",
        },
        "ecs": {"version": ECS_VERSION},
        "user": actor.fields(),
        "container": {key: container[key] for key in _CONTAINER_FIELDS if key in container},
        "response": {
            "id": uuid4().hex,
            "action": str(plan.action),
            "automatic": cause.automatic,
            "state": str(plan.seen.state),
            "engine": plan.control.name,
            "networks": msgspec.to_builtins(plan.seen.networks or ()),
        },
    }
    if cause.alert_id is not None:
        record["response"]["alert_id"] = cause.alert_id
    if cause.rule_id is not None:
        record["rule"] = {"id": cause.rule_id}
    return record


def _staged(record: dict[str, Any], stage: str, reason: str) -> dict[str, Any]:
    event = record["event"] | {"outcome": _OUTCOME.get(stage, "unknown"), "reason": reason}
    response = record["response"] | {"stage": stage}
    now = timestamp(time.time())
    return {"@timestamp": now, **record, "event": event, "response": response}
