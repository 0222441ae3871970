"""Replicas that serve and should be replaced in their turn."""

from __future__ import annotations

from typing import Any

import pytest

from gpuctl.model import Condition, Event, WatchdogSettings
from tests import make
from tests.make import NOW
from tests.transitions_bench import DEAD, RUNNING, one, stopped, told

PAST = make.history(make.served())


def due(check: str = "gpu_in_container", **fields: Any) -> Condition:
    evidence = {"container": "c1"}
    return make.condition(
        check,
        **{"remedy": "restart", "reason": "devices_denied", "evidence": evidence, **fields},
    )


@pytest.mark.parametrize("check", ["gpu_in_container", "vram_creep"])
def test_a_replica_that_serves_is_renewed(check: str) -> None:
    """It is no failure: the same is asked that an operator would ask for, by gpuctl."""
    event = one(RUNNING, PAST, due(check))
    assert (event.kind, event.subject, event.reason) == ("intent", "chat-0", "renew")
    assert event.evidence == {"container": "c1", "by": "gpuctl", "because": "devices_denied"}


def renewal(at: float, subject: str = "chat-0") -> Event:
    return make.event("intent", subject, "renew", at)


@pytest.mark.parametrize(
    ("asked", "again"),
    [
        pytest.param(renewal(NOW - 5), False, id="asked-already"),
        pytest.param(renewal(NOW - 5, "chat"), False, id="of-its-workload"),
        pytest.param(renewal(NOW - 2000), True, id="of-the-container-before"),
    ],
)
def test_it_is_asked_for_once(asked: Event, again: bool) -> None:
    """Until the container that it was asked of is replaced."""
    past = make.history(asked, make.served())
    assert bool(told(RUNNING, past, due())) is again


def test_what_is_not_due_is_not_renewed() -> None:
    assert told(RUNNING, PAST, due(state="degraded")) == []
    assert told(RUNNING, PAST, due(remedy="none")) == []


def test_a_failure_comes_first() -> None:
    """A container that has ended is started anew anyway."""
    assert [kind for kind, _, _ in told(DEAD, PAST, stopped(), due())] == ["failed"]


def test_who_only_observes_asks_for_nothing() -> None:
    plan = make.plan(watchdog=WatchdogSettings(mode="observe"))
    assert told(RUNNING, PAST, due(), plan=plan) == []


def test_an_xid_that_names_a_replica_is_its_failure() -> None:
    """The driver has ended its work: nothing is left to drain."""
    xid = due("xid", reason="xid_94")
    assert told(RUNNING, PAST, xid) == [("failed", "chat-0", "xid_94")]
