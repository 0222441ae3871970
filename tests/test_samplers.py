"""The containers: each list on the board, and what an action on one does to it."""

from __future__ import annotations

import pytest

from gpuctl.model import ContainerReading, GatewayReading, GatewayReplica
from gpuctl.observe import Latest
from gpuctl.samplers import HostSource
from tests import make
from tests.boards import Board
from tests.fakes import FakeWorld
from tests.make import NOW


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


def test_a_list_begun_before_the_latest_error_does_not_end_it(board: Board) -> None:
    """Nor where it began after an earlier one that has lasted since."""
    board.list(C1)
    board.runtime.unreachable = True
    board.source.sample()
    board.clock.advance(1)

    def late() -> tuple[ContainerReading, ...]:
        board.clock.advance(1)
        board.source.refresh("chat-0")
        return (C1,)

    board.runtime.list = late  # type: ignore[method-assign]
    board.source.sample()
    assert board.latest.errors["runtime"].since_boot_seconds == NOW
    del board.runtime.list
    board.runtime.unreachable = False
    board.clock.advance(1)
    board.source.sample()
    assert board.latest.errors == {}


def test_lists_are_read_one_at_a_time(board: Board) -> None:
    """Two threads list: what an older list says must not come after what a newer one said."""
    held: list[bool] = []

    def listed() -> tuple[ContainerReading, ...]:
        held.append(board.source._listing.locked())
        return ()

    board.runtime.list = listed  # type: ignore[method-assign]
    board.source.sample()
    assert (held, board.source._listing.locked()) == ([True], False)


def test_a_drained_replica_wakes_the_loop() -> None:
    """What a gateway has emptied is told at once, and once; nothing else of its file is."""
    fakes = FakeWorld()
    woken: list[str] = []
    source = HostSource(fakes.host, fakes.gateway, fakes.clock, Latest(), woken.append)

    def told(state: str, in_flight: int) -> list[str]:
        row = GatewayReplica(state=state, in_flight=in_flight)
        fakes.gateway.reading = GatewayReading(replicas={"chat-0": row})
        source.sample_gateway()
        return list(woken)

    assert told("ready", 0) == []
    assert told("draining", 1) == []
    assert told("draining", 0) == ["gateway"]
    assert told("draining", 0) == ["gateway"]
    fakes.gateway.reading = None
    source.sample_gateway()
    assert woken == ["gateway"]
