"""A runtime on which an Action is carried out, and the steps at which that can be given up."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from gpuctl.act import Outcome, act
from gpuctl.model import Action, ContainerReading, Replica, Start
from gpuctl.orders import Order
from tests import make
from tests.fakes import FakeRuntime, FakeWorld

REPLICA = make.replica(gpus=())
LABELS = {"gpuctl.replica": "chat-0", "gpuctl.profile": "test", "gpuctl.digest": "v1:a"}
LABELS_OF_A2 = {**LABELS, "gpuctl.attempt": "a2"}
START = Start(replica="chat-0", reason="wanted")
DEAD = make.container(state="exited", exit_code=1)


@dataclass
class Bench:
    """A runtime, and the steps between which a daemon can die."""

    runtime: FakeRuntime = field(default_factory=lambda: FakeRuntime(FakeWorld().clock))
    steps: list[str] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    given_up_at: str = ""  # a step, or a call that hangs

    def __post_init__(self) -> None:
        self.runtime._ids = iter(("c8", "c9"))  # type: ignore[assignment]

    def hold(self, *containers: ContainerReading) -> Bench:
        self.runtime.containers = {each.id: each for each in containers}
        return self

    def act(self, action: Action, replica: Replica = REPLICA, **fields: Any) -> Outcome:
        order = Order(
            action=action,
            attempt="a2",
            replica=replica,
            labels=LABELS_OF_A2,
            **fields,
        )
        return act(order, self.runtime, self.steps.append, self.pauses.append, self.current)

    def current(self) -> bool:
        return self.given_up_at not in (*self.steps, *(call[0] for call in self.runtime.calls))


@pytest.fixture
def bench() -> Bench:
    return Bench()
