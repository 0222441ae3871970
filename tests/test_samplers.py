"""The containers: each list and each event on the board as soon as it can be known."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from gpuctl.errors import RuntimeUnavailable
from gpuctl.model import ContainerReading, RuntimeEvent
from gpuctl.observe import Latest
from gpuctl.samplers import RuntimeSource
from tests import make
from tests.fakes import FakeRuntime, FakeWorld
from tests.make import NOW

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


@pytest.fixture
def board() -> Board:
    return Board()


C1 = make.container()
DEAD = make.container(state="exited", exit_code=1)
ASIDE = make.container(id_="c0", name="gpuctl-chat-0.old-c0", state="exited")


def test_a_list_wakes_the_loop_when_it_shows_something_new(board: Board) -> None:
    """The first list and each change wake the loop; the same again does not."""
    board.list(C1)
    assert board.woken == ["runtime"]
    board.list(C1)
    assert board.woken == ["runtime"]
    assert board.list(DEAD) == {"c1": "exited"}
    assert board.woken == ["runtime", "runtime"]


def test_an_outage_is_an_error_until_a_list_comes_through(board: Board) -> None:
    """What was last known stays, with since when nothing is known, and when it was back."""
    board.list(C1)
    board.runtime.unreachable = True
    board.source.sample()
    board.clock.advance(5)
    board.source.sample()
    error = board.latest.errors["runtime"]
    assert (error.message, error.since_boot_seconds) == (
        "cannot connect to the Docker Engine",
        NOW,
    )
    assert (board.states(), board.woken) == ({"c1": "running"}, ["runtime", "runtime"])
    board.runtime.unreachable = False
    board.clock.advance(5)
    board.source.sample()
    assert (board.latest.errors, board.latest.runtime_back_boot_seconds) == ({}, NOW + 10)
    assert board.woken == ["runtime"] * 3


def test_what_vanishes_leaves_a_trace(board: Board) -> None:
    """A container that another client removed is known as removed, until its name is used again."""
    board.list(C1, ASIDE)
    assert board.list() == {"c1": "removed"}
    assert board.list() == {"c1": "removed"}
    assert board.list(make.container(id_="c2")) == {"c2": "running"}


def test_a_list_begun_before_an_action_ended_is_void(board: Board) -> None:
    """What an action changed is not taken back by a list from before it."""
    board.list(C1)
    new = make.container(id_="c2")

    def late() -> tuple[ContainerReading, ...]:
        board.hold(new)
        board.source.refresh("chat-0")
        return (C1,)

    board.runtime.list = late  # type: ignore[method-assign]
    board.source.sample()
    assert board.states() == {"c2": "running"}


def test_another_replica_is_not_concerned(board: Board) -> None:
    """An action voids what a list says of its own replica alone."""
    other = make.container("chat-1", "c9")
    board.list(C1)

    def late() -> tuple[ContainerReading, ...]:
        board.source.refresh("chat-0")
        return (C1, other)

    board.runtime.list = late  # type: ignore[method-assign]
    board.source.sample()
    assert board.states() == {"c1": "running", "c9": "running"}


def test_after_an_action_its_replica_is_looked_at(board: Board) -> None:
    """The container under the name replaces the one before; those put aside stay."""
    board.list(C1, ASIDE)
    board.hold(make.container(id_="c2"), ASIDE)
    board.source.refresh("chat-0")
    assert board.states() == {"c0": "exited", "c2": "running"}
    board.hold(ASIDE)
    board.source.refresh("chat-0")
    assert board.states() == {"c0": "exited"}


def test_an_action_whose_end_cannot_be_seen_voids_the_board(board: Board) -> None:
    """When it cannot be looked at nothing may be decided on what was known before, until a list."""
    board.list(C1)
    board.runtime.unreachable = True
    board.source.refresh("chat-0")
    assert "runtime" in board.latest.errors
    board.runtime.unreachable = False
    board.clock.advance(1)
    board.list(make.container(id_="c2"))
    assert (board.states(), board.latest.errors) == ({"c2": "running"}, {})


def test_a_list_begun_before_an_error_does_not_end_it(board: Board) -> None:
    """A failure while a list was on its way is newer than what the list says."""
    board.list(C1)

    def late() -> tuple[ContainerReading, ...]:
        board.clock.advance(1)
        board.runtime.unreachable = True
        board.source.refresh("chat-0")
        board.runtime.unreachable = False
        return (C1,)

    board.runtime.list = late  # type: ignore[method-assign]
    board.source.sample()
    assert list(board.latest.errors) == ["runtime"]


def told(board: Board, action: str, container: str = "c1", exit_code: int | None = None) -> None:
    board.source._take(
        RuntimeEvent(
            at=DIED_AT, action=action, container=container, replica="chat-0", exit_code=exit_code
        )
    )


def test_a_telling_event_is_one_inspection(board: Board) -> None:
    """The container is read, the loop woken; what tells nothing is not looked at."""
    board.hold(C1)
    told(board, "start")
    assert (board.states(), board.woken) == ({"c1": "running"}, ["start chat-0"])
    told(board, "exec_create")
    assert board.woken == ["start chat-0"]


def test_what_was_removed_before_it_could_be_read(board: Board) -> None:
    """What the event said of its end is all there is; of a stranger there is nothing."""
    board.list(replace(C1, exit_code=None))
    board.hold()
    told(board, "kill")
    told(board, "die", exit_code=137)
    found = board.latest.containers["c1"]
    assert (found.state, found.exit_code) == ("removed", 137)
    told(board, "destroy")
    assert board.latest.containers["c1"].exit_code == 137
    told(board, "destroy", "c9")
    assert list(board.states()) == ["c1"]


def test_an_inspection_that_an_action_overtook_is_dropped(board: Board) -> None:
    """What was read of the old container before a start ended does not come after it."""
    board.list(C1)
    inspect = board.runtime.inspect

    def slow(container: str) -> ContainerReading | None:
        board.runtime.inspect = inspect  # type: ignore[method-assign]
        board.clock.advance(1)
        board.hold(make.container(id_="c2"))
        board.source.refresh("chat-0")
        return DEAD

    board.runtime.inspect = slow  # type: ignore[method-assign]
    told(board, "stop")
    assert board.states() == {"c2": "running"}


def test_a_broken_stream_is_taken_up_where_it_broke_off() -> None:
    """The next one is asked for what was missed, and an unreachable engine is an error."""
    board, since = Board(), list[float | None]()

    def watch(at: float | None) -> Iterator[RuntimeEvent]:
        since.append(at)
        if len(since) == 1:
            yield event("exec_create")
            return
        board.source.end()
        raise RuntimeUnavailable("connection refused")

    board.runtime.watch = watch  # type: ignore[method-assign, assignment]
    board.source._ended = Instant()
    board.source.watch()
    assert since == [None, DIED_AT]
    assert board.latest.errors["runtime"].message == "connection refused"
    assert board.woken == ["stream", "runtime", "stream"]


class Instant(threading.Event):
    """Waits for nothing."""

    def wait(self, timeout: float | None = None) -> bool:
        return self.is_set()
