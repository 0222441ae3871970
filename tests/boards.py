"""A source of containers on a fake runtime, for what is on the board and what woke the loop."""

from __future__ import annotations

from gpuctl.model import ContainerReading
from gpuctl.observe import Latest
from gpuctl.samplers import RuntimeSource
from tests.fakes import FakeWorld


class Board:
    """A source of containers on a fake runtime, and what woke the loop."""

    def __init__(self) -> None:
        self.fakes = FakeWorld()
        self.runtime, self.clock = self.fakes.runtime, self.fakes.clock
        self.latest, self.woken = Latest(), list[str]()
        self.source = RuntimeSource(self.runtime, self.clock, self.latest, self.woken.append)

    def hold(self, *containers: ContainerReading) -> None:
        """Have the runtime hold exactly these."""
        self.runtime.containers = {each.id: each for each in containers}

    def list(self, *containers: ContainerReading) -> dict[str, str]:
        """Have the runtime hold these, and list them; return the state of each on the board."""
        self.hold(*containers)
        self.source.sample()
        return self.states()

    def states(self) -> dict[str, str]:
        return {id_: each.state for id_, each in self.latest.containers.items()}
