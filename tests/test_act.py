"""An Action carried out on a runtime: what is asked of it, and how it ends."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gpuctl.act import KILL_LOOKS, LINE_CHARACTERS, REMOVAL_LOOKS, Outcome, act
from gpuctl.errors import (
    NameTaken,
    RuntimeTimeout,
    StartRefused,
)
from gpuctl.model import Action, ContainerReading, ContainerSpec, Replica, Start
from gpuctl.orders import Order
from tests import make
from tests.fakes import FakeRuntime, FakeWorld


class Asked(FakeRuntime):
    """A runtime that also keeps what it was asked and not told to do."""

    def inspect(self, container: str) -> ContainerReading | None:
        self.calls.append(("inspect", container))
        return super().inspect(container)


REPLICA = make.replica(gpus=())
LABELS = {"gpuctl.replica": "chat-0", "gpuctl.profile": "test", "gpuctl.digest": "v1:a"}
LABELS_OF_A2 = {**LABELS, "gpuctl.attempt": "a2"}


def started(previous: str, *containers: ContainerReading, resumed: bool = False) -> Asked:
    """Carry out a start on a runtime with these containers."""
    runtime = Asked(FakeWorld().clock)
    runtime._ids = iter(("c8", "c9"))  # type: ignore[assignment]
    runtime.containers = {each.id: each for each in containers}
    order = Order(
        action=Start(replica="chat-0", reason="killed", attempt="a2" if resumed else ""),
        attempt="a2",
        replica=REPLICA,
        previous=previous,
        resumed=resumed,
        labels=LABELS_OF_A2,
    )
    assert act(order, runtime, lambda _: None, lambda _: None).done
    return runtime


def test_the_new_one_is_made_before_the_dead_one_is_looked_at() -> None:
    """Docker cleans up after a death meanwhile, and keeps every call on the dead one waiting."""
    runtime = started("c1", make.container(state="exited", exit_code=1))
    assert [call[:2] for call in runtime.calls[:5]] == [
        ("create", "gpuctl-chat-0.next"),
        ("rename", "c1"),
        ("inspect", "c1"),
        ("rename", "c8"),
        ("start", "c8"),
    ]
    assert runtime.containers["c8"].name == "gpuctl-chat-0"
    assert runtime.running() == ["c8"]


def test_one_that_somebody_started_again_is_ended_first() -> None:
    """Never two of a replica: what runs after all is killed before the new one is started."""
    runtime = started("c1", make.container())
    steps = [call[0] for call in runtime.calls]
    assert steps.index("SIGKILL") < steps.index("start")
    assert runtime.running() == ["c8"]


def test_another_holder_of_the_name_is_put_aside_too() -> None:
    """What an earlier start left under the name makes way, though the history does not know it."""
    runtime = started("c1", make.container(id_="c2", state="exited", attempt="a1"))
    assert runtime.containers["c2"].name == "gpuctl-chat-0.old-c2"
    assert runtime.running() == ["c8"]


def test_what_another_attempt_never_started_is_removed() -> None:
    """Its start may still be on its way to the engine: it must find nothing there."""
    runtime = started("c1", make.container(id_="c2", state="created", attempt="a1"))
    assert list(runtime.containers) == ["c8"]
    assert [call[0] for call in runtime.calls if call[-1] == "c2"] == ["inspect", "remove"]


def test_what_another_attempt_started_late_is_ended_first() -> None:
    """A start that took effect after it was given up does not run beside the next one."""
    runtime = started("c1", make.container(id_="c2", attempt="a1"))
    assert runtime.containers["c2"].state == "exited"
    assert runtime.running() == ["c8"]


def test_a_start_that_was_cut_off_finds_its_own_container() -> None:
    """Taken up again, it starts what it had created, and makes no second one."""
    own = replace(make.container(id_="c2", state="created"), attempt="a2")
    runtime = started("c1", own, resumed=True)
    assert list(runtime.containers) == ["c2"]
    assert runtime.running() == ["c2"]


def test_a_start_that_was_cut_off_before_the_kill_goes_on_there() -> None:
    """Its own new container and the old one put aside are found, and the old one ends."""
    old = replace(make.container(), name="gpuctl-chat-0.old-c1")
    own = make.container(id_="c2", state="created", attempt="a2")
    runtime = started("c1", old, replace(own, name="gpuctl-chat-0.next"), resumed=True)
    assert "c1" not in runtime.containers
    assert runtime.running() == ["c2"]
    assert runtime.containers["c2"].name == "gpuctl-chat-0"


def test_what_another_attempt_made_and_never_named_is_replaced() -> None:
    """A start that was given up left it there: labels tell whose it is."""
    left = make.container(id_="c2", state="created", attempt="a1")
    runtime = started("", replace(left, name="gpuctl-chat-0.next"))
    assert list(runtime.containers) == runtime.running() == ["c8"]


def test_a_removal_by_another_client_is_left_to_end() -> None:
    """A container that is being removed is not renamed meanwhile: that would fail the removal."""
    runtime = Asked(FakeWorld().clock)
    runtime.containers = {"c9": make.container(id_="c9", state="removing")}

    def pause(_: float) -> None:
        runtime.containers.pop("c9", None)

    order = Order(
        action=Start(replica="chat-0", reason="removed"),
        attempt="a2",
        replica=REPLICA,
        previous="c9",
        labels=LABELS_OF_A2,
    )
    assert act(order, runtime, lambda _: None, pause).done
    steps = [call[0] for call in runtime.calls]
    assert steps[:3] == ["create", "inspect", "inspect"]
    assert len(runtime.running()) == 1


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


START = Start(replica="chat-0", reason="wanted")
DEAD = make.container(state="exited", exit_code=1)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_start_tells_what_it_started(bench: Bench) -> None:
    """The container, its spec, its GPUs and its port: what a later daemon must know of it."""
    replica = make.replica(gpus=(0, 1))
    assert bench.act(START, replica) == Outcome(
        done=True,
        evidence={"container": "c8", "spec_digest": "a", "gpus": ("GPU-0", "GPU-1"), "port": 8081},
    )


def test_a_start_has_a_fault_point_between_any_two_steps(bench: Bench) -> None:
    """Tests can have a daemon die at each of them."""
    bench.hold(DEAD).act(START, previous="c1")
    assert bench.steps == [
        "start.reserved",
        "start.created",
        "start.aside",
        "start.vacated",
        "start.named",
        "start.started",
        "start.logs_saved",
        "start.cleared",
    ]


def test_what_the_old_container_said_is_kept(bench: Bench) -> None:
    """How it ended and its last lines outlive it; long lines are cut."""

    def logs(container: str, lines: int) -> tuple[str, ...]:
        return ("x" * 900, "bye")

    bench.runtime.logs = logs  # type: ignore[method-assign]
    old = replace(DEAD, oom_killed=True, error="words", started_at=1.0, finished_at=2.0)
    outcome = bench.hold(old).act(START, previous="c1")
    assert outcome.left == (
        {
            "container": "c1",
            "state": "exited",
            "exit_code": 1,
            "oom_killed": True,
            "error": "words",
            "started_at": 1.0,
            "finished_at": 2.0,
            "log": ("x" * LINE_CHARACTERS, "bye"),
        },
    )
    assert list(bench.runtime.containers) == ["c8"]


def test_a_log_that_cannot_be_read_holds_up_nothing(bench: Bench) -> None:
    """The evidence says so instead."""

    def unread(container: str, lines: int) -> tuple[str, ...]:
        raise RuntimeTimeout("no answer for 10 s")

    bench.runtime.logs = unread  # type: ignore[method-assign]
    outcome = bench.hold(DEAD).act(START, previous="c1")
    assert outcome.done
    assert outcome.left[0]["log"] == ("(its log could not be read: no answer for 10 s)",)


@pytest.mark.parametrize(
    ("reason", "old", "looks"),
    [("removed", "removing", 3), ("removed", "exited", 0), ("exit_1", "removing", 0)],
)
def test_another_clients_removal_may_end_first(
    bench: Bench, reason: str, old: Any, looks: int
) -> None:
    """A start after a removal waits for it, a little at a time; any other does not."""
    bench.hold(make.container(state=old))
    inspect, left = bench.runtime.inspect, iter(range(3))

    def removing(container: str) -> ContainerReading | None:
        if next(left, None) is None:
            bench.runtime.containers.pop("c1", None)
        return inspect(container)

    bench.runtime.inspect = removing  # type: ignore[method-assign]
    assert bench.act(Start(replica="chat-0", reason=reason), previous="c1").done
    assert len(bench.pauses) == looks


def test_a_removal_that_does_not_end_is_not_waited_for_any_longer(bench: Bench) -> None:
    """After some looks the start goes on and takes what comes."""
    bench.hold(make.container(state="removing"))
    assert bench.act(Start(replica="chat-0", reason="removed"), previous="c1").done
    assert len(bench.pauses) == REMOVAL_LOOKS


def test_an_old_container_that_was_removed_in_the_meantime(bench: Bench) -> None:
    """There is nothing to put aside, and the start goes on."""
    assert bench.act(START, previous="c1").done
    assert [call[0] for call in bench.runtime.calls] == ["create", "rename", "rename", "start"]


@pytest.mark.parametrize(
    ("fetches", "calls"),
    [
        pytest.param(True, [], id="not-known-to-be-there"),
        pytest.param(False, ["create"], id="removed-since"),
    ],
)
def test_a_start_without_its_image_ends_there(
    bench: Bench, fetches: bool, calls: list[str]
) -> None:
    """It names the image and does not count; one that may be missing is looked for first."""
    bench.runtime.images.clear()
    outcome = bench.hold(DEAD).act(START, previous="c1", fetches=fetches)
    missing = {"missing_image": "engine:1"}
    assert outcome == Outcome(done=False, reason="image_missing", evidence=missing)
    assert [call[0] for call in bench.runtime.calls] == calls


def test_a_create_that_is_refused_for_another_reason_counts(bench: Bench) -> None:
    """With its image there, the refusal stands as it is."""

    def refused(name: str, spec: ContainerSpec, labels: Mapping[str, str]) -> str:
        raise StartRefused("bind source path does not exist")

    bench.runtime.create = refused  # type: ignore[method-assign]
    outcome = bench.act(START)
    assert (outcome.reason, outcome.counts) == ("start_refused", True)


FETCH = Start(replica="chat-0", reason="wanted", step="fetch")


@pytest.mark.parametrize(
    ("images", "calls"),
    [(set[str](), [("pull", "engine:1")]), ({"engine:1"}, [])],
    ids=["missing", "there"],
)
def test_an_image_that_is_there_is_not_fetched(
    bench: Bench, images: set[str], calls: list[tuple[str, ...]]
) -> None:
    """Another replica may have fetched it: then no registry is asked."""
    bench.runtime.images = images
    assert bench.act(FETCH) == Outcome(done=True, evidence={"image": "engine:1"})
    assert (bench.runtime.calls, bench.steps) == (calls, ["fetch.begun", "fetch.done"])


def test_a_create_whose_answer_was_lost_made_it_after_all(bench: Bench) -> None:
    """A name taken by this very attempt is its own container."""
    create = bench.runtime.create

    def lost(name: str, spec: ContainerSpec, labels: Mapping[str, str]) -> str:
        create(name, spec, labels)
        return create(name, spec, labels)

    bench.runtime.create = lost  # type: ignore[method-assign]
    assert bench.act(START).evidence["container"] == "c8"
    assert bench.runtime.running() == ["c8"]


def test_a_name_that_nobody_of_ours_holds_is_not_fought_for(bench: Bench) -> None:
    """A stranger's container under the name is left alone, and the start ends badly."""

    def taken(name: str, spec: ContainerSpec, labels: Mapping[str, str]) -> str:
        raise NameTaken("gpuctl-chat-0 exists")

    bench.runtime.create = taken  # type: ignore[method-assign]
    outcome = bench.act(START)
    assert (outcome.done, outcome.reason, outcome.counts) == (False, "name_taken", False)


def test_one_that_takes_its_time_to_die_is_waited_for(bench: Bench) -> None:
    """After SIGKILL it is looked at until it has ended."""
    bench.hold(make.container()).runtime.immortal.add("c1")

    def die(seconds: float) -> None:
        bench.pauses.append(seconds)
        if len(bench.pauses) == 3:
            bench.runtime.die("c1", 137)

    order = Order(action=START, attempt="a2", replica=REPLICA, previous="c1", labels=LABELS_OF_A2)
    assert act(order, bench.runtime, bench.steps.append, die).done
    assert len(bench.pauses) == 3


@pytest.mark.parametrize(
    ("replica", "old_gpus"),
    [(make.replica(gpus=(0,)), ("GPU-0",)), (make.replica(gpus=()), ())],
    ids=["on-its-gpu", "on-the-cpu"],
)
def test_never_two_of_one_replica_in_one_place(
    bench: Bench, replica: Replica, old_gpus: tuple[str, ...]
) -> None:
    """One that cannot be killed keeps its name and its place: the start is refused, and counts."""
    bench.hold(make.container(gpus=old_gpus)).runtime.immortal.add("c1")
    outcome = bench.act(START, replica, previous="c1")
    assert (outcome.done, outcome.reason, outcome.counts) == (False, "start_refused", True)
    assert outcome.evidence["error"] == "the old container c1 of chat-0 cannot be killed"
    assert {c.name for c in bench.runtime.containers.values()} == {"gpuctl-chat-0"}
    assert len(bench.pauses) == KILL_LOOKS


def test_one_that_cannot_be_killed_does_not_hold_up_another_gpu(bench: Bench) -> None:
    """Cut from its network it holds no port: the replica starts elsewhere beside it."""
    bench.hold(make.container(gpus=("GPU-7",))).runtime.immortal.add("c1")
    outcome = bench.act(START, make.replica(gpus=(0,)), previous="c1")
    assert outcome.done
    assert ("disconnect", "c1") in bench.runtime.calls
    assert bench.runtime.containers["c1"].name == "gpuctl-chat-0.old-c1"
    assert outcome.left == ()


@pytest.mark.parametrize(
    ("given_up_at", "writes"),  # how many of them
    [
        pytest.param("start.reserved", 0, id="before-anything"),
        pytest.param("create", 1, id="in-the-create"),
        pytest.param("start.created", 1, id="before-the-rename"),
        pytest.param("start.aside", 2, id="before-the-kill"),
        pytest.param("SIGKILL", 3, id="in-the-kill"),
        pytest.param("start.vacated", 3, id="before-it-has-its-name"),
        pytest.param("start.named", 4, id="before-the-start"),
        pytest.param("start", 5, id="in-the-start"),
        pytest.param("start.logs_saved", 5, id="before-the-removal"),
    ],
)
def test_a_start_that_was_given_up_writes_nothing_more(
    bench: Bench, given_up_at: str, writes: int
) -> None:
    """Wherever its thread hung: when it comes back, another attempt may be under way."""
    bench.given_up_at = given_up_at
    outcome = bench.hold(make.container()).act(START, previous="c1")
    assert (outcome.done, outcome.reason) == (False, "given_up")
    steps = ["create", "rename", "SIGKILL", "rename", "start", "remove"]
    assert [call[0] for call in bench.runtime.calls] == steps[:writes]


def test_a_start_that_was_given_up_leaves_the_name_to_the_next(bench: Bench) -> None:
    """Finding the name taken, it does not put aside what the attempt after it made."""

    def taken(name: str, spec: ContainerSpec, labels: Mapping[str, str]) -> str:
        bench.given_up_at = "start.reserved"
        bench.hold(make.container(id_="c2", attempt="a3"))
        raise NameTaken("gpuctl-chat-0 exists")

    bench.runtime.create = taken  # type: ignore[method-assign]
    assert bench.act(START).reason == "given_up"
    assert bench.runtime.containers == {"c2": make.container(id_="c2", attempt="a3")}
