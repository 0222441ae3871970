"""What has no place in the plan goes step by step, and holds up nothing that has one."""

from __future__ import annotations

from typing import Any

import pytest

from gpuctl.history import History
from gpuctl.leftovers import ASIDE_SECONDS
from gpuctl.model import Stop
from tests import make
from tests.decide_bench import decided
from tests.make import INSTANCE, NOW


def test_an_aside_that_will_not_go_is_tried_again_after_a_minute() -> None:
    """A container that the runtime would not remove is left alone for a while."""
    aside = make.container(id_="c0", name="gpuctl-chat-0.old-c0", state="dead")
    past = make.history(
        make.served(),
        make.event("attempt", at=NOW - 10, attempt="r", action="remove", container="c0"),
        make.event("done", at=NOW - 10, attempt="r", container="c0"),
    )
    assert decided(make.snapshot(make.container(), aside), past).actions == ()
    later = make.snapshot(make.container(), aside, boot_seconds=NOW + ASIDE_SECONDS)
    assert [type(a) for a in decided(later, past).actions] == [Stop]


def test_one_that_runs_aside_waits_for_nothing() -> None:
    """Started late, it is killed at once, whatever was tried with it or another before."""
    past = make.history(
        make.served(id_="c2"),
        make.event("attempt", at=NOW - 1, attempt="r", action="remove", container="c1"),
        make.event("undone", "chat-0", "runtime_error", NOW - 1, attempt="r"),
    )
    asides = [
        make.container(id_=id_, name=f"gpuctl-chat-0.old-{id_}", state=state)
        for id_, state in (("c0", "exited"), ("c1", "running"))
    ]
    actions = decided(make.snapshot(make.container(id_="c2"), *asides), past).actions
    assert actions == (Stop(replica="chat-0", container="c1", reason="replaced", step="kill"),)


def stranger_history(*more: Any) -> History:
    return make.history(make.served(), make.served("old-0", "c9"), *more)


def stopping(step: str, at: float, *, done: bool, instance: str = INSTANCE) -> list[Any]:
    kinds = ("attempt", "done") if done else ("attempt",)
    return [
        make.event(
            kind, "old-0", "x", at, attempt=step, action=step, container="c9", instance=instance
        )
        for kind in kinds
    ]


@pytest.mark.parametrize(
    ("state", "past", "steps"),
    [
        pytest.param("running", stopping("terminate", NOW, done=False), [], id="under-way"),
        pytest.param(
            "running",
            stopping("terminate", NOW, done=False, instance="dead"),
            ["terminate"],
            id="taken-up-again",
        ),
        pytest.param("running", stopping("terminate", NOW - 29, done=True), [], id="in-its-grace"),
        pytest.param(
            "running", stopping("terminate", NOW - 30, done=True), ["kill"], id="past-its-grace"
        ),
        pytest.param("removed", [], [], id="gone"),
        pytest.param(
            "running",
            [
                *stopping("terminate", NOW - 1, done=False),
                make.event("undone", "old-0", "runtime_timeout", NOW - 1, attempt="terminate"),
            ],
            [],
            id="not-in-a-hot-loop",
        ),
    ],
)
def test_a_stranger_goes_step_by_step(state: str, past: list[Any], steps: list[str]) -> None:
    """What is not in the plan is stopped like everything else: asked, killed, removed."""
    stranger = make.container("old-0", "c9", state=state)
    decision = decided(make.snapshot(make.container(), stranger), stranger_history(*past))
    assert [a.step for a in decision.actions if isinstance(a, Stop)] == steps


def test_a_stranger_s_old_container_is_cleared_away_first() -> None:
    """One that lies aside is removed before the other is looked at."""
    aside = make.container("old-0", "c8", name="gpuctl-old-0.old-c8", state="exited")
    stranger = make.container("old-0", "c9")
    now = make.snapshot(make.container(), stranger, aside)
    assert decided(now, stranger_history()).actions == (
        Stop(replica="old-0", container="c8", reason="replaced", step="remove"),
    )
