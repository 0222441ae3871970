"""Images for a failover: looked for, fetched and told of, while nothing else is under way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from gpuctl.act import Outcome
from gpuctl.errors import RuntimeUnavailable
from gpuctl.history import History
from gpuctl.journal import Journal
from gpuctl.model import GIB, HostReading, Plan, Snapshot, WatchdogSettings, WorkloadPlan
from gpuctl.spares import Spares, calm, images
from tests import make
from tests.fakes import FakeRuntime, FakeWorld
from tests.make import NOW

CHAT = WorkloadPlan(name="chat", replicas=1, wanted=1, fallback=True, fallback_image="engine:cpu")
PLAN = make.plan(workloads=(CHAT,))


class Unreachable(FakeRuntime):
    """Its registry does not answer."""

    def pull(self, image: str, progress: Callable[[str, float | None], None]) -> None:
        raise RuntimeUnavailable(f"{image}: no such host", "is the registry there?")


class Desk:
    """Spares with a lane that does a job when the test says so."""

    def __init__(self, runtime: FakeRuntime | None = None) -> None:
        fakes = FakeWorld()
        self.runtime = runtime or fakes.runtime
        self.store = fakes.store
        self.journal = Journal(fakes.store, fakes.clock)
        self.jobs: list[tuple[str, Callable[[], Outcome], float]] = []
        self.spares = Spares(self.runtime, self.journal, lambda *job: self.jobs.append(job))

    def tick(self, at: float = NOW, plan: Plan = PLAN) -> int:
        """Return how many jobs there are after a tick."""
        self.spares.tick(plan, seen(at))
        return len(self.jobs)

    def work(self, at: float = NOW) -> float:
        """Do the job; return how long it might have taken."""
        key, job, seconds = self.jobs.pop()
        self.spares.ended(key, job(), seen(at))
        return seconds

    def told(self) -> list[tuple[str, str, Any]]:
        return [(e.subject, e.reason, dict(e.evidence)) for e in self.store.stored]


def seen(at: float = NOW, **fields: Any) -> Snapshot:
    return make.snapshot(boot_seconds=at, **fields)


def disk(free_bytes: int | None) -> Snapshot:
    return seen(host=HostReading(disk_free_bytes=free_bytes))


def test_one_that_is_missing_is_fetched_and_told_of() -> None:
    """In the background, with the time of any pull; there is one job at a time."""
    desk = Desk()
    assert (desk.tick(), desk.tick(NOW + 1)) == (1, 1)
    assert (desk.work(), desk.tick()) == (30.0, 1)
    assert desk.work(NOW + 90) == 3600.0
    assert desk.told() == [
        ("chat", "fetching", {"image": "engine:cpu"}),
        ("chat", "fetched", {"image": "engine:cpu", "seconds": 90.0}),
    ]
    assert "engine:cpu" in desk.runtime.images


def test_one_that_is_there_is_nothing_to_tell() -> None:
    """It is looked for again after an hour, as it may have been pruned."""
    desk = Desk()
    desk.runtime.images.add("engine:cpu")
    desk.tick()
    desk.work()
    assert (desk.tick(NOW + 3599), desk.told()) == (0, [])
    assert desk.tick(NOW + 3600) == 1


def test_one_that_cannot_be_fetched_is_told_and_tried_again() -> None:
    """With the words of the runtime; one that somebody else fetched meanwhile is there."""
    desk = Desk(Unreachable(FakeWorld().clock))
    desk.tick()
    desk.work()
    desk.work(NOW + 5)
    failed = {"error": "engine:cpu: no such host", "hint": "is the registry there?"}
    assert desk.told()[1:] == [
        ("chat", "not_fetched", {"image": "engine:cpu", "seconds": 5.0, **failed})
    ]
    assert desk.journal.history.images == {"engine:cpu": "engine:cpu: no such host"}
    assert desk.tick(NOW + 3599) == 0
    desk.runtime.images.add("engine:cpu")
    desk.tick(NOW + 3600)
    desk.work()
    assert desk.told()[2:] == [("chat", "fetched", {"image": "engine:cpu"})]
    assert desk.journal.history.images == {}


def test_a_pull_that_takes_too_long_is_told() -> None:
    """It was given up, whatever still becomes of it."""
    desk = Desk()
    desk.tick()
    desk.work()
    late = Outcome(done=False, reason="action_timeout")
    desk.spares.ended(desk.jobs.pop()[0], late, seen(NOW + 3600))
    assert desk.journal.history.images == {"engine:cpu": "action_timeout"}


def test_what_could_not_be_looked_for_is_looked_for_again() -> None:
    """The runtime does not answer: nothing is known of the image."""
    desk = Desk()
    desk.tick()
    key, _, _ = desk.jobs.pop()
    desk.spares.ended(key, Outcome(done=False, reason="runtime_error"), seen())
    assert (desk.told(), desk.tick(), desk.tick(NOW + 3600)) == ([], 0, 1)


def test_the_end_of_another_job_is_nothing_to_it() -> None:
    """Those of replicas come the same way."""
    desk = Desk()
    desk.tick()
    desk.spares.ended("another", Outcome(done=True), seen())
    assert (desk.told(), desk.tick()) == ([], 1)


def test_each_of_several_is_looked_for_in_turn() -> None:
    """One after the other."""
    other = WorkloadPlan(name="other", replicas=1, wanted=1, fallback_image="other:cpu")
    plan = make.plan(make.replica(), make.replica("other-0"), workloads=(CHAT, other))
    desk = Desk()
    desk.runtime.images |= {"engine:cpu", "other:cpu"}
    for _ in range(2):
        desk.tick(plan=plan)
        desk.work()
    assert desk.tick(plan=plan) == 0


LOADS = make.started()
STARTS = make.event("attempt", attempt="a", action="start")


@pytest.mark.parametrize(
    ("now", "past", "mode", "expected"),
    [
        pytest.param(seen(), make.history(), "enforce", True, id="nothing-runs"),
        pytest.param(
            make.snapshot(make.container()),
            make.history(make.served()),
            "enforce",
            True,
            id="ready",
        ),
        pytest.param(
            make.snapshot(make.container()), make.history(LOADS), "enforce", False, id="it-loads"
        ),
        pytest.param(
            make.snapshot(make.container(state="exited")),
            make.history(LOADS),
            "enforce",
            True,
            id="it-has-ended",
        ),
        pytest.param(seen(), make.history(STARTS), "enforce", False, id="a-start-is-under-way"),
        pytest.param(seen(), make.history(), "observe", False, id="nothing-is-done-here"),
        pytest.param(
            seen(errors={"runtime": "down"}), make.history(), "enforce", False, id="unread"
        ),
        pytest.param(disk(5 * GIB - 1), make.history(), "enforce", False, id="the-disk-is-low"),
        pytest.param(disk(5 * GIB), make.history(), "enforce", True, id="the-disk-is-not"),
        pytest.param(disk(None), make.history(), "enforce", True, id="the-disk-is-not-known"),
    ],
)
def test_it_is_calm_when_nothing_is_under_way(
    now: Snapshot, past: History, mode: Any, expected: bool
) -> None:
    """A pull takes the network and the disk from nobody who loads, and never the last of it."""
    plan = make.plan(watchdog=WatchdogSettings(mode=mode))
    assert calm(plan, now, past) is expected


def test_only_what_is_to_run_needs_an_image() -> None:
    """Not a workload that was stopped, nor one that has no image of its own on the CPU."""
    plain = WorkloadPlan(name="other", replicas=1, wanted=1)
    plan = make.plan(make.replica(), make.replica("other-0"), workloads=(CHAT, plain))
    assert list(images(plan, make.history())) == [("chat", "engine:cpu")]
    assert list(images(plan, make.history(make.event("intent", "", "down")))) == []


def test_while_something_loads_nothing_is_looked_for() -> None:
    desk = Desk()
    desk.journal.record([STARTS])
    assert desk.tick() == 0
