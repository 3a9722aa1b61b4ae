"""What an action will do to a container, before it does it: pure, for a person to read and agree to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sensor.respond.control import Action, Network, Seen, State

if TYPE_CHECKING:
    from sensor.respond.control import Control
    from sensor.respond.protection import Protection

_EFFECT: Final = {
    Action.PAUSE: "stops every process where it is; memory, files and connections stay as evidence",
    Action.DISCONNECT: "takes the container off {networks}; its processes go on without a network",
    Action.STOP: "asks the container to end, and kills it after {grace_s} s; its memory is lost",
    Action.KILL: "kills every process of the container at once; its memory is lost",
    Action.UNPAUSE: "lets its processes run on",
    Action.RECONNECT: "puts the container back on {networks}",
}
_UNDO: Final = {
    Action.PAUSE: "sensor respond … --undo lets it run on",
    Action.DISCONNECT: "sensor respond … --undo connects it again with the same settings",
    Action.STOP: "none; the container can be started again, without what it had in memory",
    Action.KILL: "none; the container can be started again, without what it had in memory",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An action on a container. `refusal`: why it will not be done; `nothing`: why it need not be."""

    action: Action
    seen: Seen
    control: Control
    grace_s: int = 10
    networks: tuple[Network, ...] = ()
    refusal: str | None = None
    nothing: str | None = None

    @property
    def effect(self) -> str:
        """What it will do, as a sentence without a subject."""
        networks = self.networks if self.action is Action.RECONNECT else self.seen.networks or ()
        names = ", ".join(network.name for network in networks) or "no network"
        return _EFFECT[self.action].format(networks=names, grace_s=self.grace_s)

    @property
    def undo(self) -> str | None:
        """How it is taken back."""
        return _UNDO.get(self.action)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a person should know before they agree."""
        container, said = self.seen.container, []
        if self.action in (Action.STOP, Action.KILL) and container.pod_name:
            said.append(
                "kubelet may start it again at once; `--action quarantine` cuts off the pod"
            )
        if self.action is Action.PAUSE and container.pod_name:
            said.append("a liveness probe that fails makes kubelet replace it")
        if self.action is Action.DISCONNECT and container.privileged:
            said.append(
                "it is privileged: it may find a way to the host's network; pausing is safer"
            )
        return tuple(said)


def make_plan(
    action: Action,
    seen: Seen,
    control: Control,
    protection: Protection,
    *,
    grace_s: int = 10,
    networks: tuple[Network, ...] = (),
) -> Plan:
    """Look whether it may be done, can be done, and needs doing.

    What takes an action back is never refused for the protection's sake.
    """
    undoing = action in (Action.UNPAUSE, Action.RECONNECT)
    refusal = None if undoing else protection.reason(seen.container)
    return Plan(
        action=action,
        seen=seen,
        control=control,
        grace_s=grace_s,
        networks=networks,
        nothing=None if refusal else _nothing(action, seen),
        refusal=refusal or control.refusal(action, seen),
    )


def is_done(action: Action, seen: Seen | None, networks: tuple[Network, ...] = ()) -> bool:
    """Whether the container is as the action should leave it. None: it is gone."""
    if action in (Action.STOP, Action.KILL):
        return seen is None or seen.state is State.STOPPED
    if seen is None:
        return False
    if action is Action.PAUSE:
        return seen.state is State.PAUSED
    if action is Action.UNPAUSE:
        return seen.state is State.RUNNING
    if action is Action.DISCONNECT:
        return seen.networks == ()
    here = {network.name for network in seen.networks or ()}
    return here >= {network.name for network in networks}


def _nothing(action: Action, seen: Seen) -> str | None:
    if action in (Action.PAUSE, Action.UNPAUSE) and seen.state is State.STOPPED:
        return "it does not run"
    if not is_done(action, seen, ()) or action is Action.RECONNECT:
        return None
    return {
        Action.PAUSE: "it is paused already",
        Action.DISCONNECT: "it has no network",
        Action.UNPAUSE: "it is not paused",
    }.get(action, "it does not run any more")
