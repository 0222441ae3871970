"""An Action carried out on a runtime: what is asked of it, and how it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from gpuctl.act import KILL_LOOKS, LINE_CHARACTERS, REMOVAL_LOOKS, Outcome, act
from gpuctl.errors import NameTaken, RuntimeTimeout, StartRefused
from gpuctl.model import ContainerReading, ContainerSpec, Replica, Start
from gpuctl.orders import Order
from tests import make
from tests.act_bench import DEAD, LABELS_OF_A2, REPLICA, START, Bench, bench
from tests.stage import FAULTS

__all__ = ["bench"]


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
    assert tuple(bench.steps) == FAULTS


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


def test_a_pull_that_was_given_up_ends_at_its_next_progress(bench: Bench) -> None:
    """Its thread is free for another image at once, not when the registry has sent all."""
    told: list[str] = []

    def pull(image: str, progress: Callable[[str, float | None], None]) -> None:
        for line in ("a layer", "another", "a third"):
            told.append(line)
            progress(line, None)
            bench.given_up_at = "fetch.begun"

    bench.runtime.images = set()
    bench.runtime.pull = pull  # type: ignore[method-assign]
    outcome = bench.act(FETCH)
    assert (outcome, told) == (Outcome(done=False, reason="given_up"), ["a layer", "another"])


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
