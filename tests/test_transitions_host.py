"""When the failures of many replicas are the host's, and when that is over."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from gpuctl.model import Event, Plan
from gpuctl.transitions import transitions
from tests import make
from tests.make import NOW
from tests.transitions_bench import answering, stopped, told


def four(**settings: Any) -> Plan:
    replicas = [make.replica(f"chat-{i}", gpus=()) for i in range(4)]
    return make.plan(*replicas, watchdog=replace(make.SETTINGS, host_fault_ratio=0.5, **settings))


def hosts(
    dead: Iterable[int], earlier: Iterable[Event] = (), plan: Plan | None = None
) -> list[str]:
    """Return what is said of the host when these die now."""
    ids = list(dead)
    now = make.snapshot(*(make.container(f"chat-{i}", f"c{i}", state="exited") for i in ids))
    past = make.history(*(make.served(f"chat-{i}", f"c{i}") for i in range(4)), earlier)
    held = [stopped(f"chat-{i}", f"c{i}") for i in ids]
    found = transitions(plan or four(), now, make.conditions(*held), past)
    return [event.reason for event in found if event.subject == "host"]


def test_many_failures_at_once_are_the_hosts() -> None:
    """Half the replicas and at least three within a minute is a host fault."""
    before = make.failed("chat-3", "c3", at=NOW - 59)
    assert hosts([0, 1]) == []
    assert hosts([0, 1, 2]) == ["many_failed_at_once"]
    assert hosts([0, 1], [before]) == ["many_failed_at_once"]
    assert hosts([0, 1], [make.failed("chat-3", "c3", at=NOW - 60)]) == []
    assert hosts([0, 1], [replace(before, evidence={"failures": 0})]) == []
    assert hosts([], [before, make.failed("chat-2", "c2"), make.failed("chat-1", "c1")]) == []
    off = make.plan(*four().replicas, watchdog=make.SETTINGS)
    assert hosts([0, 1, 2, 3], plan=off) == []


def test_a_host_fault_ends_with_one_that_is_ready() -> None:
    """A replica that became ready since ends it, now or while nobody looked."""
    fault = make.event("host_fault", "host", at=NOW - 5)
    assert hosts([0, 1, 2], [fault]) == []
    assert hosts([], [fault, make.event("ready", at=NOW - 1, container="c0")]) == [
        "a replica is ready again"
    ]
    past = make.history(make.started(), fault)
    assert told(answering(), past)[-1] == ("host_ok", "host", "a replica is ready again")
