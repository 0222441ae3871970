"""Actions → orders for the workers, and the Event that commits each before it begins. PURE."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import assert_never

from gpuctl.history import History
from gpuctl.model import (
    Action,
    Drain,
    Event,
    EventKind,
    Json,
    Plan,
    Replica,
    Snapshot,
    Start,
    Stop,
)

#: Of the labels below; one that is not known is not ours to touch.
LABEL_SCHEMA = "1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An Action with what it needs from the plan and the history."""

    action: Action
    attempt: str
    replica: Replica | None  # None for a Stop of what is not in the plan
    previous: str = ""  # id of the container before this start
    resumed: bool = False  # another daemon began it
    fetches: bool = False  # a start whose image may not be there yet
    labels: Mapping[str, str] = field(default_factory=dict)


def order(
    action: Action, plan: Plan, replica: Replica | None, history: History, new_id: Callable[[], str]
) -> Order:
    """Return an action with what carrying it out needs; an interrupted one keeps its id."""
    resumed = "" if isinstance(action, Drain) else action.attempt
    attempt = resumed or new_id()
    known = history.replica(action.replica)
    same = replica is not None and known.container and known.spec_digest == replica.spec_digest
    return Order(
        action=action,
        attempt=attempt,
        replica=replica,
        previous=known.container,
        resumed=bool(resumed),
        fetches=isinstance(action, Start) and not same,
        labels={
            "gpuctl.schema": LABEL_SCHEMA,
            "gpuctl.profile": plan.profile,
            "gpuctl.replica": action.replica,
            "gpuctl.gpus": ",".join(gpu.uuid for gpu in replica.gpus) if replica else "",
            "gpuctl.attempt": attempt,
            "gpuctl.digest": replica.digest if replica else "",
        },
    )


def attempt(order: Order, instance: str, now: Snapshot, seq: int) -> Event:
    """
    Return the Event that says an order begins.

    *instance* is the daemon that carries it out, *seq* the number of the Status that will show it.
    """
    action = order.action
    told: dict[str, Json] = {"attempt": order.attempt, "instance": instance}
    if order.resumed:
        told["resumed"] = True
    match action:
        case Start():
            told |= {"action": action.step, "restart": action.restart}
        case Drain():
            told |= {"action": "drain", "container": action.container}
            told |= {"deadline_seconds": action.deadline_seconds, "seq": seq}
        case Stop():
            told |= {"action": action.step, "container": action.container}
        case _:
            assert_never(action)
    return Event(
        kind=EventKind.ATTEMPT,
        subject=action.replica,
        reason=action.reason,
        evidence=told,
        at=now.at,
        boot_id=now.boot_id,
        boot_seconds=now.boot_seconds,
    )
