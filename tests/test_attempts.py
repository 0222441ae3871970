"""The actions under way: given to workers, closed as Events, lost never."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gpuctl.act import Outcome
from gpuctl.attempts import Attempts
from gpuctl.decide import Withdrawal
from gpuctl.errors import StoreError
from gpuctl.journal import Journal
from gpuctl.model import Json, Start, Stop, WorkloadPlan
from gpuctl.orders import Order
from tests import make
from tests.fakes import FakeWorld
from tests.make import NOW

START = Start(replica="chat-0", reason="wanted")
FETCH = Start(replica="chat-0", reason="wanted", step="fetch")
STOP = Stop(replica="chat-0", container="c1", reason="stop", step="terminate")


class Lane:
    """Workers that keep what they were given until the test says so."""

    def __init__(
        self,
        name: str,
        count: int,
        done: Callable[[str, Outcome], None],
        clock: Callable[[], float],
    ) -> None:
        self.name, self.count, self.done = name, count, done
        self.jobs: dict[str, tuple[Callable[[], Outcome], float]] = {}
        self.late: tuple[str, ...] = ()
        self.closed = False

    def submit(self, key: str, work: Callable[[], Outcome], seconds: float) -> None:
        self.jobs[key] = (work, seconds)

    def overdue(self) -> tuple[str, ...]:
        late, self.late = self.late, ()
        return late

    def close(self) -> None:
        self.closed = True


class Desk:
    """Attempts on fakes."""

    def __init__(self) -> None:
        self.fakes = FakeWorld()
        self.journal = Journal(self.fakes.store, self.fakes.clock)
        self.lanes: dict[str, Lane] = {}
        self.finished: list[str] = []
        self.refreshed: list[str] = []
        self.attempts = Attempts(
            self.fakes.world,
            self.journal,
            finished=lambda attempt, _: self.finished.append(attempt),
            refresh=self.refreshed.append,
            fault=lambda _: None,
            hire=self.hire,  # type: ignore[arg-type]
        )

    def hire(self, name: str, count: int, done: object, clock: object) -> Lane:
        self.lanes[name] = Lane(name, count, done, clock)  # type: ignore[arg-type]
        return self.lanes[name]

    def begin(self, action: Start | Stop, attempt: str = "a1") -> None:
        labels = {"gpuctl.replica": "chat-0", "gpuctl.profile": "test", "gpuctl.digest": "v1:a"}
        order = Order(
            action=action,
            attempt=attempt,
            replica=make.replica(),
            labels={**labels, "gpuctl.attempt": attempt},
        )
        told = "terminate" if isinstance(action, Stop) else action.step
        event = make.event("attempt", attempt=attempt, action=told, container="c1")
        self.journal.record([event])
        self.attempts.begin(order, 60.0)

    def commit(self, *, gone: bool = False) -> list[tuple[str, str]]:
        """Commit what ended; return kind and reason of the events that came of it."""
        errors = {"runtime": "no answer"} if gone else {}
        before = len(self.fakes.store.stored)
        self.attempts.commit(make.plan(), make.snapshot(errors=errors))
        return [(str(e.kind), e.reason) for e in self.fakes.store.stored[before:]]


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_fetching_an_image_has_a_lane_and_an_hour(desk: Desk) -> None:
    """Any other action, a start as well, has the time that the profile gives it."""
    desk.begin(FETCH, "a1")
    desk.begin(START, "a2")
    assert {key: job[1] for key, job in desk.lanes["pull"].jobs.items()} == {"a1": 3600.0}
    assert {key: job[1] for key, job in desk.lanes["worker"].jobs.items()} == {"a2": 60.0}


def test_an_image_that_a_failover_would_need_keeps_no_replica_waiting(desk: Desk) -> None:
    """It has a thread of its own, which is given up like the others."""
    chat = WorkloadPlan(name="chat", replicas=1, wanted=1, fallback_image="engine:cpu")
    desk.attempts.fetch_ahead(make.plan(workloads=(chat,)), make.snapshot())
    spare = desk.lanes["spare"]
    assert [(lane.name, lane.count, len(lane.jobs)) for lane in desk.lanes.values()] == [
        ("worker", 4, 0),
        ("pull", 2, 0),
        ("spare", 1, 1),
    ]
    spare.late = (*spare.jobs,)
    desk.attempts.commit(make.plan(), make.snapshot())
    desk.attempts.fetch_ahead(make.plan(workloads=(chat,)), make.snapshot(boot_seconds=NOW + 3600))
    assert len(spare.jobs) == 2


def test_after_an_action_its_replica_is_looked_at(desk: Desk) -> None:
    """The work of a job is the action, and then a look at what it did."""
    desk.begin(START)
    outcome = desk.lanes["worker"].jobs["a1"][0]()
    assert (outcome.done, desk.fakes.runtime.running()) == (True, ["c1"])
    assert desk.refreshed == ["chat-0"]


def test_an_end_is_committed_once(desk: Desk) -> None:
    """DONE closes the attempt with how long it took; what was left behind is evidence."""
    desk.begin(STOP)
    desk.fakes.clock.advance(1.5)
    desk.attempts.ended("a1", Outcome(done=True, evidence={"container": "c1"}, left=({"x": 1},)))
    assert desk.commit() == [("evidence", "stop"), ("done", "stop")]
    assert desk.fakes.store.stored[-1].evidence == {
        "attempt": "a1",
        "seconds": 1.5,
        "container": "c1",
    }
    assert desk.journal.history.replica("chat-0").attempt is None
    assert desk.commit() == []


@pytest.mark.parametrize(
    ("failed", "log", "explained"),
    [
        pytest.param(True, ("CUDA error: out of memory",), True, id="it failed of it"),
        pytest.param(False, ("CUDA error: out of memory",), False, id="it was stopped"),
        pytest.param(True, ("all is well",), False, id="it does not say"),
        pytest.param(True, None, False, id="its log is not there"),
    ],
)
def test_last_words_are_explained(
    desk: Desk, failed: bool, log: tuple[str, ...] | None, explained: bool
) -> None:
    """What an engine that failed wrote last is told in an operator's words, with what to change."""
    desk.journal.record(list(make.started()))
    if failed:
        desk.journal.record([make.failed()])
    desk.begin(STOP)
    left: dict[str, Json] = {"container": "c1"} | ({} if log is None else {"log": log})
    desk.attempts.ended("a1", Outcome(done=True, left=(left,)))
    desk.commit()
    (event,) = (event for event in desk.fakes.store.stored if event.kind == "evidence")
    assert ("explanation" in event.evidence, "advice" in event.evidence) == (explained, explained)


REFUSED = Outcome(done=False, reason="start_refused", counts=True)
UNANSWERED = Outcome(done=False, reason="runtime_timeout")
NO_IMAGE = Outcome(done=False, reason="image_missing", evidence={"missing_image": "engine:1"})


@pytest.mark.parametrize(
    ("action", "outcome", "gone", "failures"),
    [
        pytest.param(START, REFUSED, False, [1, 2], id="refused"),
        pytest.param(START, REFUSED, True, [1, 2], id="refused-by-one-that-went"),
        pytest.param(START, UNANSWERED, False, [1, 2], id="not-carried-out"),
        pytest.param(FETCH, UNANSWERED, False, [1, 2], id="not-fetched"),
        pytest.param(START, UNANSWERED, True, [None, 2], id="an-outage-excuses-one"),
        pytest.param(START, NO_IMAGE, False, [None, 1], id="no-image-once"),
        pytest.param(STOP, UNANSWERED, False, [None, None], id="a-stop"),
    ],
)
def test_a_bad_end_counts_where_it_should(
    desk: Desk, action: Start | Stop, outcome: Outcome, gone: bool, failures: list[int | None]
) -> None:
    """A start that was not carried out is a failure; an outage or a missing image excuses one."""
    told: list[Json] = []
    for attempt in ("a1", "a2"):
        desk.begin(action, attempt)
        desk.attempts.ended(attempt, outcome)
        assert desk.commit(gone=gone) == [("undone", outcome.reason)]
        told.append(desk.fakes.store.stored[-1].evidence.get("failures"))
    assert told == failures


def test_what_takes_too_long_is_given_up(desk: Desk) -> None:
    """Its attempt is closed, in either lane, and the replica is decided on again."""
    desk.begin(FETCH)
    desk.lanes["pull"].late = ("a1",)
    assert desk.commit() == [("undone", "action_timeout")]
    desk.begin(STOP, "a2")
    desk.lanes["worker"].late = ("a2",)
    assert desk.commit() == [("undone", "action_timeout")]


@pytest.mark.parametrize("action", [START, STOP])
def test_what_was_given_up_does_nothing_when_it_comes_back(
    desk: Desk, action: Start | Stop
) -> None:
    """Its thread finds that its attempt is closed, and leaves the runtime to the next one."""
    desk.begin(action)
    work = desk.lanes["worker"].jobs["a1"][0]
    desk.lanes["worker"].late = ("a1",)
    assert desk.commit() == [("undone", "action_timeout")]
    assert work().reason == "given_up"
    assert desk.fakes.runtime.calls == []


def test_what_is_withdrawn_is_closed_and_did_not_fail(desk: Desk) -> None:
    """The replica is free for what is decided next, at once."""
    event = make.event("attempt", reason="wanted", attempt="a9", action="start", instance="dead")
    desk.journal.record([event])
    desk.attempts.withdraw([Withdrawal(replica="chat-0", attempt="a9", reason="stop")])
    told = desk.fakes.store.stored[-1]
    assert (told.kind, told.subject, told.reason) == ("undone", "chat-0", "stop")
    known = desk.journal.history.replica("chat-0")
    assert (known.attempt, known.undone_at, known.failure) == (None, None, None)


def test_what_is_withdrawn_is_not_listened_to_any_more(desk: Desk) -> None:
    """A pull cannot be cut short: its end, or that it takes too long, is told to nobody."""
    desk.begin(FETCH)
    desk.attempts.withdraw([Withdrawal(replica="chat-0", attempt="a1", reason="stop")])
    assert desk.lanes["pull"].jobs["a1"][0]().reason == ""
    desk.attempts.ended("a1", Outcome(done=True))
    desk.lanes["pull"].late = ("a1",)
    assert desk.commit() == []


def test_an_end_that_could_not_be_stored_is_not_forgotten(desk: Desk) -> None:
    """An attempt that never closed would hold its replica for ever: it is closed when it can be."""
    desk.begin(STOP)
    desk.attempts.ended("a1", Outcome(done=True, evidence={"container": "c1"}))
    desk.fakes.store.full = True
    for _ in range(2):
        with pytest.raises(StoreError):
            desk.commit()
    desk.fakes.store.full = False
    assert desk.commit() == [("done", "stop")]


def test_the_lanes_are_let_go(desk: Desk) -> None:
    """At the end all lanes are closed."""
    desk.attempts.end()
    assert [lane.closed for lane in desk.lanes.values()] == [True, True, True]


@pytest.mark.parametrize(
    ("container", "log", "told"),
    [
        pytest.param(
            "c1", ("CUDA out of memory.", "Killed"), "CUDA out of memory.", id="it-says-so"
        ),
        pytest.param("c1", ("Killed",), None, id="it-says-nothing"),
        pytest.param("c0", ("CUDA out of memory.",), None, id="another-container"),
    ],
)
def test_running_out_of_vram_is_told_of_a_failure(
    desk: Desk, container: str, log: tuple[str, ...], told: str | None
) -> None:
    """In its own words, right after them; what was ended on purpose may say what it likes."""
    desk.journal.record([*make.started(), make.failed()])
    desk.begin(STOP)
    left: dict[str, Json] = {"container": container, "log": log}
    desk.attempts.ended("a1", Outcome(done=True, left=(left,)))
    desk.commit()
    found = [event for event in desk.fakes.store.stored if event.kind == "cuda_oom"]
    assert [(event.reason, event.evidence) for event in found] == (
        [("cuda_oom", {"container": container, "line": told})] if told else []
    )
