"""What the event stream tells is on the board as soon as it can be known."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from gpuctl.model import ContainerReading, RuntimeEvent
from gpuctl.observe import Latest
from gpuctl.samplers import GpuSource, RuntimeSource
from tests import make
from tests.fakes import FakeRuntime, FakeWorld

DIED_AT = 1_000.0


class Streaming(FakeRuntime):
    """A runtime whose stream tells the events of a test, and then ends the source that reads it."""

    source: RuntimeSource
    told: tuple[RuntimeEvent, ...] = ()
    inspected = 0

    def watch(self, since: float | None) -> Iterator[RuntimeEvent]:
        yield from self.told
        self.source.end()

    def inspect(self, container: str) -> ContainerReading | None:
        self.inspected += 1
        return super().inspect(container)


def event(action: str, exit_code: int | None = None) -> RuntimeEvent:
    return RuntimeEvent(
        at=DIED_AT, action=action, container="c1", replica="chat-0", exit_code=exit_code
    )


def watched(*told: RuntimeEvent, started_at: float = 1.0) -> tuple[ContainerReading, int]:
    """Return what is known of `c1` after these events, and how often it was inspected."""
    clock = FakeWorld().clock
    runtime = Streaming(clock)
    before = make.container(started_at=started_at)
    runtime.containers["c1"] = before
    latest = Latest(containers={"c1": before}, runtime_boot_seconds=0.0)
    runtime.source = RuntimeSource(runtime, clock, latest, lambda _: None)
    runtime.told = told
    runtime.source.watch()
    return latest.containers["c1"], runtime.inspected


@pytest.mark.parametrize(
    ("events", "oom_killed"),
    [((event("die", 137),), False), ((event("oom"), event("die", 137)), True)],
    ids=["died", "out-of-memory"],
)
def test_a_death_is_known_from_its_event(
    events: tuple[RuntimeEvent, ...], oom_killed: bool
) -> None:
    """The exit code and an OOM event before it say all: the engine is not asked about the dead."""
    found, inspected = watched(*events)
    assert (found.state, found.exit_code, found.oom_killed) == ("exited", 137, oom_killed)
    assert (found.finished_at, found.pid) == (DIED_AT, None)
    assert inspected == len(events) - 1


def test_what_a_client_of_the_engine_killed_is_inspected() -> None:
    """After a signal through the engine only an inspection tells a kill from a forced removal."""
    found, inspected = watched(event("kill"), event("die", 137))
    assert (found.state, inspected) == ("running", 1)


def test_a_death_that_cannot_be_inspected_leaves_the_runtime_unread() -> None:
    """An engine that goes down ends its containers: nothing is decided until it can be read."""
    clock = FakeWorld().clock
    runtime = Streaming(clock)
    latest = Latest(containers={"c1": make.container()}, runtime_boot_seconds=0.0)
    runtime.source = RuntimeSource(runtime, clock, latest, lambda _: None)
    runtime.told = (event("kill"), event("die", 143))
    runtime.unreachable = True
    runtime.source.watch()
    assert "runtime" in latest.errors
    assert latest.containers["c1"].state == "running"


def test_a_death_before_the_last_start_is_old_news() -> None:
    """An event told again after a reconnect does not end the container's present life."""
    found, inspected = watched(event("die", 1), started_at=DIED_AT + 1)
    assert (found.state, inspected) == ("running", 1)


def test_a_list_begun_before_the_death_does_not_revive_it() -> None:
    """The engine lists a container as running until it has cleaned up: what it died of stays."""
    clock = FakeWorld().clock
    runtime = Streaming(clock)
    runtime.containers["c1"] = make.container()
    latest = Latest(containers={"c1": make.container()}, runtime_boot_seconds=0.0)
    source = runtime.source = RuntimeSource(runtime, clock, latest, lambda _: None)
    runtime.told = (event("die", 1),)

    def late() -> tuple[ContainerReading, ...]:
        source.watch()
        return tuple(runtime.containers.values())

    runtime.list = late  # type: ignore[method-assign]
    source.sample()
    assert latest.containers["c1"].state == "exited"


def test_the_first_reading_of_the_gpus_wakes_the_loop() -> None:
    """A daemon waits for it before its first Status, also on a host without a GPU."""
    fakes = FakeWorld()
    woken: list[str] = []
    source = GpuSource(fakes.gpus, fakes.host, fakes.clock, Latest(), woken.append)
    source.sample()
    source.sample()
    assert woken == ["gpus"]
