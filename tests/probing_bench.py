"""A source of probes on fakes, and what woke the loop."""

from __future__ import annotations

import queue
from dataclasses import dataclass, field

from gpuctl.model import Plan, ProbeReading
from gpuctl.observe import Latest
from gpuctl.probing import ProbeSource
from tests import fakes, make
from tests.fakes import FakeClock, FakeProber

#: A test that waits this long for a thread has failed.
PATIENCE_SECONDS = 10.0
CHAT = make.replica()


@dataclass
class Probed:
    """A source of probes on fakes, and what woke the loop."""

    plan: Plan = field(default_factory=make.plan)
    clock: FakeClock = field(default_factory=FakeClock)
    prober: FakeProber = field(default_factory=FakeProber)
    latest: Latest = field(default_factory=Latest)
    woken: queue.SimpleQueue[str] = field(default_factory=queue.SimpleQueue)

    def __post_init__(self) -> None:
        stats = {"llama.cpp": fakes.stats}
        self.source = ProbeSource(self.prober, self.clock, self.latest, self.woken.put, stats)

    def follow(self, **containers: str) -> None:
        """Follow these containers; `chat_0="c1"`."""
        running = {
            name.replace("_", "-"): make.container(name.replace("_", "-"), id_)
            for name, id_ in containers.items()
        }
        self.source.follow(self.plan, running)

    def reading(self, name: str = "chat-0") -> ProbeReading:
        return self.latest.probes[name]

    def wakes(self) -> list[str]:
        told = []
        while not self.woken.empty():
            told.append(self.woken.get())
        return told


def woken(probed: Probed) -> str:
    return probed.woken.get(timeout=PATIENCE_SECONDS)
