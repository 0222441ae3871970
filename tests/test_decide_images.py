"""An image that is missing: who fetches it, and who waits for it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.decide import Withdrawal
from gpuctl.gates import Wait
from gpuctl.history import History
from gpuctl.model import Plan, Snapshot, Start
from tests import make
from tests.decide_bench import NOTHING, RUNNING, UNWANTED, decided
from tests.make import INSTANCE, NOW


def imageless(*more: Any, instance: str = INSTANCE) -> History:
    """A start of chat-0 found no image, and the fetching of it has begun if *more* says so."""
    start: dict[str, Any] = {"attempt": "a1", "action": "start", "instance": instance}
    missing = make.event("undone", attempt="a1", missing_image="engine:1")
    return make.history(make.event("attempt", reason="wanted", **start), missing, *more)


def fetch(instance: str = INSTANCE) -> Any:
    return make.event("attempt", attempt="f1", action="fetch", instance=instance)


FETCHES = Wait(reason="fetching_image", evidence={"image": "engine:1"})


def test_a_missing_image_is_fetched_while_others_load() -> None:
    """Fetching takes no slot and waits for none; a start of the same image waits for it."""
    plan = make.plan(
        make.replica("chat-0"),
        make.replica("chat-1"),
        make.replica("embed-0", spec=replace(make.replica().spec, image="other:1")),
        watchdog=replace(make.SETTINGS, loads_at_once=1, load_spacing_seconds=5.0),
    )
    later = make.snapshot(boot_seconds=NOW + 5)
    fetching = Start(replica="chat-0", reason="wanted", step="fetch")
    other = Start(replica="embed-0", reason="wanted")
    decision = decided(later, imageless(), plan)
    assert decision.actions == (fetching, other)
    assert decision.waits == {"chat-1": FETCHES}
    under_way = decided(later, imageless(fetch()), plan)
    assert under_way.actions == (other,)
    assert under_way.waits == {"chat-0": FETCHES, "chat-1": FETCHES}


def test_an_image_that_could_not_be_fetched_waits_its_turn() -> None:
    """A pull that failed counts, and is tried again after the back-off."""
    past = imageless(
        fetch(), make.event("undone", reason="start_refused", attempt="f1", failures=2)
    )
    later = make.snapshot(boot_seconds=NOW + 9)
    assert decided(later, past).waits["chat-0"].reason == "backoff"
    later = make.snapshot(boot_seconds=NOW + 10)
    (again,) = decided(later, past).actions
    assert isinstance(again, Start)
    assert (again.step, again.reason) == ("fetch", "start_refused")


@pytest.mark.parametrize(
    ("now", "past", "plan", "reason"),
    [
        pytest.param(NOTHING, imageless(fetch("dead")), make.plan(), "daemon_ended", id="daemon"),
        pytest.param(NOTHING, imageless(fetch(), UNWANTED), make.plan(), "stop", id="stopped"),
        pytest.param(RUNNING, imageless(fetch()), make.plan(), "runs_already", id="runs"),
        pytest.param(
            NOTHING,
            imageless(fetch()),
            make.plan(make.replica(spec=replace(make.replica().spec, image="engine:2"))),
            "profile_changed",
            id="another-image",
        ),
        pytest.param(
            NOTHING, imageless(fetch()), make.plan(make.replica("x-0")), "not_in_profile", id="gone"
        ),
    ],
)
def test_an_image_that_nobody_waits_for_holds_up_nothing(
    now: Snapshot, past: History, plan: Plan, reason: str
) -> None:
    """The fetching is withdrawn, and the replica is free for what is decided next."""
    decision = decided(now, past, plan)
    assert decision.withdrawn == (Withdrawal(replica="chat-0", attempt="f1", reason=reason),)
    assert "chat-0" not in {a.replica for a in decision.actions}
