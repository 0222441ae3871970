"""What a daemon that died had begun: it is taken up again, or withdrawn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.decide import Withdrawal
from gpuctl.model import Snapshot, Start, Stop
from tests import make
from tests.decide_bench import NOTHING, RUNNING, UNWANTED, decided

CUT_OFF = make.event("attempt", reason="exit_1", attempt="a9", action="start", instance="dead")


@pytest.mark.parametrize(
    ("now", "past", "held", "reason"),
    [
        pytest.param(NOTHING, [UNWANTED], [], "stop", id="stopped-since"),
        pytest.param(
            make.snapshot(make.container(state="created", attempt="a9")),
            [make.event("intent", "", "down")],
            [],
            "down",
            id="created-and-down-since",
        ),
        pytest.param(
            make.snapshot(make.container(attempt="a9")), [UNWANTED], [], "", id="runs-already"
        ),
        pytest.param(
            make.snapshot(make.container(attempt="a1")), [UNWANTED], [], "stop", id="another-runs"
        ),
        pytest.param(
            NOTHING,
            [],
            [make.condition("xid", "GPU-0", remedy="avoid")],
            "gpu_avoided",
            id="its-gpu-is-avoided",
        ),
    ],
)
def test_an_interrupted_start_is_looked_at_again(
    now: Snapshot, past: list[Any], held: list[Any], reason: str
) -> None:
    """What nobody wants any more, or must not be, is withdrawn; what has happened is told."""
    decision = decided(now, make.history(CUT_OFF, past), None, *held)
    if reason:
        closed = Withdrawal(replica="chat-0", attempt="a9", reason=reason)
        assert (decision.actions, decision.withdrawn) == ((), (closed,))
    else:
        assert decision.actions == (Start(replica="chat-0", reason="exit_1", attempt="a9"),)


def test_what_was_begun_for_a_replica_that_has_left_the_profile_is_ended() -> None:
    """A start is withdrawn, a stop taken up again, though nothing of the replica is left."""
    start = replace(CUT_OFF, subject="old-0")
    decision = decided(RUNNING, make.history(make.served(), start))
    assert decision.withdrawn == (
        Withdrawal(replica="old-0", attempt="a9", reason="not_in_profile"),
    )
    told: dict[str, Any] = {"attempt": "a9", "action": "remove", "container": "c9"}
    stop = make.event("attempt", "old-0", "not_in_profile", instance="dead", **told)
    assert decided(RUNNING, make.history(make.served(), stop)).actions == (
        Stop(
            replica="old-0",
            container="c9",
            reason="not_in_profile",
            step="remove",
            attempt="a9",
        ),
    )
