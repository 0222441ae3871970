"""What the tests of transitions start from, and two ways to ask what happened."""

from __future__ import annotations

from typing import Any

from gpuctl.history import History
from gpuctl.model import Condition, Event, GpuProcess, Plan, Snapshot
from gpuctl.transitions import transitions
from tests import make
from tests.make import NOW

RUNNING = make.snapshot(make.container())
DEAD = make.snapshot(make.container(state="exited", exit_code=1))


def stopped(name: str = "chat-0", id_: str = "c1", since: float = NOW, **fields: Any) -> Condition:
    told = {"reason": "exit_1", "remedy": "restart", "evidence": {"container": id_}, **fields}
    return make.condition("stopped", name, since=since, **told)


def told(
    now: Snapshot, past: History, *held: Condition, plan: Plan | None = None
) -> list[tuple[str, str, str]]:
    """Return kind, subject and reason of what happened."""
    events = transitions(plan or make.plan(), now, make.conditions(*held), past)
    return [(event.kind, event.subject, event.reason) for event in events]


def one(now: Snapshot, past: History, *held: Condition, plan: Plan | None = None) -> Event:
    (event,) = transitions(plan or make.plan(), now, make.conditions(*held), past)
    return event


def answering(boot_seconds: float = NOW, **fields: Any) -> Snapshot:
    holder = GpuProcess(pid=100, used_bytes=5 * make.MIB, container="c1")
    gpus = [make.gpu(processes=[holder])]
    probes = [make.probe()]
    return make.snapshot(
        make.container(), **{"gpus": gpus, "probes": probes, "boot_seconds": boot_seconds, **fields}
    )
