"""
GPUs that fail and are found, cordons, scales and emergencies in any order, and what holds.

The daemon and its planner are the real ones, on fakes; it may be killed between any two steps.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from gpuctl.errors import GpuctlError
from tests.moving import Rack
from tests.stage import FAULTS, Killed

INDEXES = st.sampled_from(range(5))
NAMES = st.sampled_from(("chat-0", "chat-1", "embed-0", "chat", ""))
#: A drain, a grace, the kill without effect, the ticks between, and the same once more.
SETTLED_SECONDS = 240.0


class Cards(RuleBasedStateMachine):
    """Two cards with two workloads each, one unused, two in reserve that hold one each."""

    @initialize(fallback=st.sampled_from(("none", "cpu")))
    def begin(self, fallback: str) -> None:
        self.rack = Rack.with_gpus(
            gpus=(0, 1), reserve=(3, 4), cards=5, others=("embed",), fallback=fallback,
            vram_bytes=3 * 2**30,
        )  # fmt: skip
        self.lost: set[int] = set()
        self.wrong: list[str] = []  # an assertion inside of a tick would be one more bad tick
        plain = self.rack.fakes.runtime.start

        def start(container: str) -> None:
            self.started(container)
            plain(container)

        self.rack.fakes.runtime.start = start  # type: ignore[method-assign]

    def started(self, container: str) -> None:
        """A start is never on a GPU that is lost or cordoned, nor where one of it still runs."""
        made = self.rack.fakes.runtime.containers[container]
        if made.state == "running":
            return  # a start that was cut off after it: it is told as done
        cordoned = {
            uuid for uuid, gpu in self.rack.daemon.journal.history.gpus.items() if gpu.cordon
        }
        barred = cordoned | {f"GPU-{index}" for index in self.lost}
        if barred & {*made.gpus}:
            self.wrong.append(f"{made.replica} is started on {made.gpus}")
        for other in self.rack.fakes.runtime.containers.values():
            if other.id == container or (other.replica, other.state) != (made.replica, "running"):
                continue
            if {*other.gpus} & {*made.gpus} or not (other.gpus or made.gpus):
                self.wrong.append(f"two of {made.replica} on {made.gpus}")

    def go(self, seconds: float, step: float = 3.0) -> None:
        """Let time pass, or as much of it as the daemon lives; it is born again at once."""
        for _ in range(int(seconds // step) + 1):
            try:
                self.rack.pass_()
            except Killed:
                self.rack.born()
                return
            assert self.wrong == []
            self.rack.fakes.clock.advance(step)

    def ask(self, verb: str, subject: str = "", **arguments: Any) -> None:
        with suppress(GpuctlError):
            self.rack.ask(verb, subject, **arguments)

    @rule(seconds=st.sampled_from((1, 6, 15, 60)))
    def time_passes(self, seconds: int) -> None:
        self.go(seconds)

    @rule(index=INDEXES)
    def is_lost(self, index: int) -> None:
        self.lost.add(index)
        self.rack.lose(index)
        self.go(1)

    @rule(index=INDEXES)
    def is_found(self, index: int) -> None:
        self.lost.discard(index)
        self.rack.find(index)

    @rule(index=INDEXES, verb=st.sampled_from(("cordon", "uncordon")))
    def is_cordoned(self, index: int, verb: str) -> None:
        self.ask(verb, str(index))

    @rule(to=st.sampled_from(("cpu", "gpu")), name=NAMES)
    def fails_over(self, to: str, name: str) -> None:
        self.ask("failover", name, to=to)

    @rule(count=st.integers(1, 4), name=st.sampled_from(("chat", "embed")))
    def is_scaled(self, count: int, name: str) -> None:
        self.ask("scale", counts={name: count})

    @rule(name=NAMES, verb=st.sampled_from(("run", "stop", "renew")))
    def is_asked(self, name: str, verb: str) -> None:
        self.ask(verb, name)

    @rule(exit_code=st.sampled_from((0, 1, 137)))
    def all_die(self, exit_code: int) -> None:
        for container in self.rack.fakes.runtime.running():
            if container not in self.rack.fakes.runtime.immortal:
                self.rack.fakes.runtime.die(container, exit_code)
        self.go(3)

    @rule(name=NAMES)
    def will_not_die(self, name: str) -> None:
        """What runs survives SIGKILL, and is to be renewed: a drain, a grace, a kill in vain."""
        self.rack.fakes.runtime.immortal.update(self.rack.fakes.runtime.running())
        self.ask("renew", name)
        self.go(60)

    @rule(fault=st.sampled_from(FAULTS), index=INDEXES)
    def daemon_is_killed(self, fault: str, index: int) -> None:
        """While it starts what died, and when the next one looks a GPU is lost."""
        self.rack.fault = fault
        self.all_die(1)
        self.rack.fault = ""
        self.is_lost(index)

    @rule()
    def daemon_is_replaced(self) -> None:
        self.rack.born()

    def teardown(self) -> None:
        """With every GPU found and given back, each replica is at home or where it was scaled."""
        runtime = self.rack.fakes.runtime
        for container in [c for c in runtime.immortal if c in runtime.containers]:
            runtime.die(container, 137)
        runtime.immortal.clear()
        self.rack.fault = ""
        for index in range(5):
            self.is_found(index)
        self.go(5)
        for index in range(5):
            self.ask("uncordon", str(index))
        self.ask("failover", to="gpu")
        for name in ("chat", "embed"):
            self.ask("failover", name, to="gpu")
            self.ask("scale", counts={name: 2})
        self.ask("run")
        self.go(SETTLED_SECONDS, step=5.0)
        assert self.rack.places() == {
            "chat-0": (0,), "chat-1": (1,), "embed-0": (0,), "embed-1": (1,),
        }  # fmt: skip
        assert {row["phase"] for row in self.rack.fakes.store.status["replicas"]} <= {
            "ready", "stopped", "backoff",
        }  # fmt: skip
        assert self.rack.daemon.journal.history.assignments.moved == {}


Cards.TestCase.settings = settings(
    derandomize=True,  # the same stories at every run
    max_examples=200 if os.environ.get("GPUCTL_SOAK") else 5,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
test_whatever_happens = Cards.TestCase
