"""The containers: each event on the board as soon as it can be known."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest

from gpuctl.errors import RuntimeUnavailable
from gpuctl.model import ContainerReading, RuntimeEvent, SourceError
from gpuctl.observe import Latest
from gpuctl.samplers import RuntimeSource
from tests import make
from tests.boards import Board
from tests.fakes import FakeRuntime, FakeWorld, Instant
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


C1 = make.container()
DEAD = make.container(state="exited", exit_code=1)


@pytest.fixture
def board() -> Board:
    return Board()


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


@pytest.mark.parametrize(
    ("known", "exit_code"),
    [
        pytest.param(None, 1, id="of-a-stranger"),
        pytest.param(replace(C1, state="paused"), 1, id="of-one-that-did-not-run"),
        pytest.param(C1, None, id="without-an-exit-code"),
    ],
)
def test_a_death_that_leaves_something_open_is_inspected(
    board: Board, known: ContainerReading | None, exit_code: int | None
) -> None:
    """Only of a container known to run, and with its exit code, an event says all there is."""
    board.list(*([known] if known else []))
    board.hold(replace(DEAD, exit_code=7))
    told(board, "die", exit_code=exit_code)
    assert board.latest.containers["c1"].exit_code == 7


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


class Breaking:
    """A stream that breaks off, each time as the script says; the source ends with the script."""

    def __init__(self, board: Board, *script: Callable[[], None]) -> None:
        self._board, self._script = board, list(script)
        self.since: list[float | None] = []
        board.source._ended = Instant()
        board.runtime.watch = self.watch  # type: ignore[method-assign]
        board.source.watch()

    def watch(self, since: float | None) -> Iterator[RuntimeEvent]:
        self.since.append(since)
        if not self._script:
            return self._board.source.end()
        self._script.pop(0)()
        yield event("exec_create")


def refused() -> None:
    raise RuntimeUnavailable("cannot read the events: 403")


def nothing() -> None:
    return


def test_a_broken_stream_is_taken_up_where_it_broke_off(board: Board) -> None:
    """The next one is asked for what was missed."""
    assert Breaking(board, nothing).since == [None, DIED_AT]


def test_a_stream_that_breaks_off_has_the_containers_listed(board: Board) -> None:
    """An engine that has gone is known at once, and that alone is then told."""
    board.list(C1)

    def gone() -> None:
        board.runtime.unreachable = True
        refused()

    Breaking(board, gone, refused)
    assert list(board.latest.errors) == ["runtime"]
    assert board.woken == ["runtime", "runtime"]


@pytest.mark.parametrize(
    ("breaks", "words"),
    [
        pytest.param(refused, "cannot read the events: 403", id="refused"),
        pytest.param(nothing, "the stream ended", id="ends-at-once"),
        pytest.param(lambda: 1 / 0, "the stream ended", id="a-mistake"),
    ],
)
def test_an_engine_that_lists_but_tells_nothing(
    board: Board, breaks: Callable[[], None], words: str
) -> None:
    """One steady error says so; the containers are read all the same."""
    board.list(C1)
    seen: list[dict[str, SourceError]] = []

    def again() -> None:
        seen.append(dict(board.latest.errors))
        board.clock.advance(2)
        board.source.sample()
        breaks()

    Breaking(board, *[again] * 5)
    told = SourceError(
        message=f"{words}; deaths are noticed at the interval", since_boot_seconds=NOW + 2
    )
    assert seen == [{}] + [{"events": told}] * 4
    assert board.woken == ["runtime", "events"]
    assert board.latest.runtime_back_boot_seconds is None, "it was never away"


def test_an_outage_under_an_open_stream_is_no_restart_of_the_engine(board: Board) -> None:
    """An engine that goes ends the stream; a list that was not answered says nothing of its end."""
    board.list(C1)
    seen: list[float | None] = []

    def outage() -> None:
        for unreachable in (True, False):
            board.clock.advance(5)
            board.runtime.unreachable = unreachable
            board.source.sample()
        seen.append(board.latest.runtime_back_boot_seconds)

    def restart() -> None:
        board.runtime.unreachable = True
        refused()

    def back() -> None:
        board.clock.advance(1)
        board.runtime.unreachable = False
        board.source.sample()
        seen.append(board.latest.runtime_back_boot_seconds)

    Breaking(board, outage, restart, back)
    assert seen == [None, NOW + 11]
    assert "runtime" not in board.latest.errors


def test_an_engine_whose_socket_waits_for_it_is_back_with_the_first_list(board: Board) -> None:
    """systemd's docker.socket keeps a question until the engine has restarted: none is refused."""
    board.list(C1)
    listed = board.runtime.list

    def waits() -> tuple[ContainerReading, ...]:
        board.clock.advance(3)
        board.hold(DEAD)
        return listed()

    def restart() -> None:
        board.clock.advance(5)
        board.runtime.list = waits  # type: ignore[method-assign]

    Breaking(board, restart)
    assert board.states() == {"c1": "exited"}
    assert board.latest.runtime_back_boot_seconds == NOW + 8
    assert (board.latest.errors, board.woken) == ({}, ["runtime", "runtime"])


def test_what_was_asked_before_the_stream_broke_off_may_be_answered_after_the_restart(
    board: Board,
) -> None:
    """A list that waited with the engine's socket tells of its dead; a later one settles it."""
    board.list(C1)
    listed = board.runtime.list
    backs: list[float | None] = []

    def waits() -> tuple[ContainerReading, ...]:
        board.runtime.list = listed  # type: ignore[method-assign]
        board.clock.advance(1)
        board.source._broke_at = board.clock.boot_seconds()  # on the thread of the stream
        board.clock.advance(3)
        board.hold(DEAD)
        return listed()

    board.runtime.list = waits  # type: ignore[method-assign]
    for _ in range(3):
        board.source.sample()
        backs.append(board.latest.runtime_back_boot_seconds)
        board.clock.advance(1)
    assert backs == [NOW + 4, NOW + 5, NOW + 5]


def test_events_are_read_again_once_a_stream_has_lasted(board: Board) -> None:
    """Not before: one that is cut off again and again is not followed."""
    board.list(C1)
    seen: list[list[str]] = []

    def lasts() -> None:
        for _ in range(2):
            board.clock.advance(2.5)
            board.source.sample()
            seen.append(list(board.latest.errors))
        refused()

    Breaking(board, refused, lasts)
    assert seen == [["events"], []]
    assert board.latest.errors == {}, "a stream that lasted is taken up again, and no more"
    assert board.woken == ["runtime", "events", "events"]
