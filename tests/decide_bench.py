"""What the tests of decide start from: three usual snapshots, and one way to ask."""

from __future__ import annotations

from typing import Any

from gpuctl.decide import Decision, decide
from gpuctl.history import History
from gpuctl.model import Plan, Snapshot, Stop
from tests import make
from tests.make import INSTANCE

RUNNING = make.snapshot(make.container())
NOTHING = make.snapshot()
EXITED = make.snapshot(make.container(state="exited", exit_code=1))
UNWANTED = make.event("intent", reason="stop")


def decided(now: Snapshot, past: History, plan: Plan | None = None, *held: Any) -> Decision:
    return decide(plan or make.plan(), now, make.conditions(*held), past, INSTANCE)


def terminate(reason: str, name: str = "chat-0", id_: str = "c1") -> Stop:
    return Stop(replica=name, container=id_, reason=reason, step="terminate")
