"""How an action ends: what is done, what is not, and what counts against the replica."""

from __future__ import annotations

from typing import Any

import pytest

from gpuctl.act import Outcome, act
from gpuctl.errors import ContainerMissing, GpuctlError, RuntimeTimeout, RuntimeUnavailable
from gpuctl.model import Drain, Stop
from gpuctl.orders import Order
from tests import make
from tests.act_bench import DEAD, LABELS_OF_A2, REPLICA, START, Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()


def stop(step: Any) -> Stop:
    return Stop(replica="chat-0", container="c1", reason="stop", step=step)


def test_what_will_not_be_removed_stays_aside(bench: Bench) -> None:
    """The replica serves, and the evidence says what is left behind."""
    bench.hold(DEAD).runtime.irremovable.add("c1")
    outcome = bench.act(START, previous="c1")
    assert outcome.done
    assert outcome.evidence["not_removed"] == "removal of c1 is stuck"
    assert len(outcome.left) == 1


def test_a_start_whose_tidying_up_fails_has_started(bench: Bench) -> None:
    """What runs is told as done, though the engine went away right after it."""
    bench.hold(DEAD)
    order = Order(action=START, attempt="a2", replica=REPLICA, previous="c1", labels=LABELS_OF_A2)

    def fault(step: str) -> None:
        bench.runtime.unreachable = step == "start.started"

    outcome = act(order, bench.runtime, fault, bench.pauses.append)
    assert (outcome.done, outcome.evidence["container"]) == (True, "c8")
    assert outcome.evidence["not_removed"] == "cannot connect to the Docker Engine"


def test_a_refused_start_counts(bench: Bench) -> None:
    """The runtime's own words are the evidence, and the next try waits its turn."""
    bench.runtime.refuses = "port 8081 is taken"
    assert bench.act(START) == Outcome(
        done=False,
        reason="start_refused",
        counts=True,
        evidence={"error": "port 8081 is taken", "hint": ""},
    )


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeTimeout("no answer for 10 s"), "runtime_timeout"),
        (RuntimeUnavailable("server error"), "runtime_error"),
    ],
)
def test_what_the_runtime_does_not_do_is_no_refusal(
    bench: Bench, error: GpuctlError, reason: str
) -> None:
    """It may be away: whether that is held against the replica is not told from the action."""

    def broken(container: str) -> None:
        raise error

    bench.runtime.start = broken  # type: ignore[method-assign]
    outcome = bench.act(START)
    assert (outcome.done, outcome.reason, outcome.counts) == (False, reason, False)


def test_the_steps_of_a_stop(bench: Bench) -> None:
    """SIGTERM, SIGKILL and the removal are a step each, with its fault points."""
    bench.hold(make.container()).runtime.deaf.add("c1")
    for step in ("terminate", "kill"):
        assert bench.act(stop(step)) == Outcome(done=True, evidence={"container": "c1"})
    outcome = bench.act(stop("remove"))
    assert (outcome.done, outcome.left[0]["exit_code"]) == (True, 137)
    calls = [call for call in bench.runtime.calls if call[0] != "inspect"]
    assert calls == [("SIGTERM", "c1"), ("SIGKILL", "c1"), ("remove", "c1")]
    assert bench.steps == [
        "stop.terminate",
        "stop.terminate.asked",
        "stop.kill",
        "stop.kill.asked",
        "stop.remove",
        "stop.remove.logs_saved",
        "stop.remove.asked",
    ]


@pytest.mark.parametrize("step", ["terminate", "kill", "remove"])
def test_a_stop_that_was_given_up_writes_nothing(bench: Bench, step: str) -> None:
    """The container may be wanted again by then."""
    bench.given_up_at = f"stop.{step}"
    outcome = bench.hold(DEAD).act(stop(step))
    assert (outcome.done, outcome.reason) == (False, "given_up")
    assert bench.runtime.calls == []


def test_removing_what_is_gone_is_done(bench: Bench) -> None:
    """A removal can be repeated, and somebody else may have come first."""
    assert bench.act(stop("remove")) == Outcome(done=True, evidence={"container": "c1"})
    bench.hold(DEAD)

    def gone(container: str) -> None:
        raise ContainerMissing("c1")

    bench.runtime.remove = gone  # type: ignore[method-assign]
    outcome = bench.act(stop("remove"))
    assert (outcome.done, len(outcome.left)) == (True, 1)


def test_a_drain_is_nothing_to_carry_out(bench: Bench) -> None:
    """The gateway drains; the runtime is not asked anything."""
    drain = Drain(replica="chat-0", container="c1", reason="stop", deadline_seconds=30.0)
    assert bench.act(drain) == Outcome(done=True)
    assert bench.runtime.calls == []
