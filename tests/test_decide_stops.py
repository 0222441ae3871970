"""How a container goes: its drain, its grace, and what it takes to end it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.history import History
from gpuctl.model import GatewayReading, GatewayReplica, Stop
from tests import make
from tests.decide_bench import RUNNING, decided, terminate
from tests.make import INSTANCE, NOW


def terminated(at: float, *, failed: bool) -> History:
    why = [make.failed(at=at)] if failed else [make.event("intent", reason="stop", at=at)]
    return make.history(
        make.served(),
        why,
        make.event("attempt", reason="x", at=at, attempt="t", action="terminate", container="c1"),
        make.event("done", reason="x", at=at, attempt="t", container="c1"),
    )


@pytest.mark.parametrize(
    ("failed", "seconds", "killed"),
    [
        pytest.param(True, 4, False, id="failed-within-its-grace"),
        pytest.param(True, 5, True, id="failed-past-its-grace"),
        pytest.param(False, 29, False, id="stopped-within-its-grace"),
        pytest.param(False, 30, True, id="stopped-past-its-grace"),
    ],
)
def test_kill_after_the_grace(failed: bool, seconds: float, killed: bool) -> None:
    """SIGKILL follows SIGTERM after 30 s, and after 5 s for a replica that has failed."""
    kill = Stop(replica="chat-0", container="c1", reason="grace_over", step="kill")
    actions = decided(RUNNING, terminated(NOW - seconds, failed=failed)).actions
    assert actions == ((kill,) if killed else ())


def test_a_kill_without_effect_is_repeated_slowly() -> None:
    """A container that survives SIGKILL is sent it again after a minute, not in a hot loop."""
    past = make.history(
        make.served(),
        make.failed(at=NOW - 100),
        *(
            make.event(kind, reason="x", at=at, attempt=step, action=step, container="c1")
            for step, at in (("terminate", NOW - 90), ("kill", NOW - 30))
            for kind in ("attempt", "done")
        ),
    )
    later = make.snapshot(make.container(), boot_seconds=NOW + 31)
    assert decided(RUNNING, past).actions == ()
    assert [type(a) for a in decided(later, past).actions] == [Stop]


def test_one_voluntary_drain_per_workload_while_a_sibling_is_not_ready() -> None:
    """Three replicas with a changed profile go one at a time."""
    replicas = [make.replica(f"chat-{i}", gpus=(i,)) for i in range(3)]
    containers = [make.container(f"chat-{i}", f"c{i}", digest="v1:old") for i in range(3)]
    past = make.history(*(make.served(f"chat-{i}", f"c{i}") for i in range(3)))
    decision = decided(make.snapshot(*containers), past, make.plan(*replicas))
    assert [a.replica for a in decision.actions] == ["chat-0"]
    assert {n: w.reason for n, w in decision.waits.items()} == {
        "chat-1": "sibling_not_ready",
        "chat-2": "sibling_not_ready",
    }


@pytest.mark.parametrize("past", [(), (make.event("intent", subject="", reason="up"),)])
def test_outdated_alone_is_no_reason_to_go(past: tuple[Any, ...]) -> None:
    """A container started with other defaults stays: an `up` of before did not mean these."""
    plan = make.plan(make.replica(spec_digest="b"))
    assert decided(RUNNING, make.history(make.served(), *past), plan).actions == ()


def test_a_gateway_in_front_knows_when_a_replica_is_drained() -> None:
    """With a gateway, its count decides; a replica it does not know has nothing in flight."""
    past = make.history(
        make.served(),
        make.event("intent", reason="stop"),
        make.event("attempt", reason="stop", action="drain", container="c1", deadline_seconds=30.0),
    )
    for in_flight, actions in ((1, ()), (0, (terminate("stop"),))):
        through = {"chat-0": GatewayReplica(in_flight=in_flight)}
        gateway = GatewayReading(instance=INSTANCE, replicas=through)
        now = make.snapshot(make.container(), probes=[make.probe(in_flight=3)], gateway=gateway)
        assert decided(now, past).actions == actions


def test_a_container_of_no_replica_in_the_plan_is_stopped_and_removed() -> None:
    """What an earlier profile left is terminated, killed after the grace, and removed."""
    stranger = make.container("old-0", "c9")
    past = make.history(make.served())
    ours = make.container()
    assert decided(make.snapshot(ours, stranger), past).actions == (
        terminate("not_in_profile", "old-0", "c9"),
    )
    ended = replace(stranger, state="exited")
    assert decided(make.snapshot(ours, ended), past).actions == (
        Stop(replica="old-0", container="c9", reason="not_in_profile", step="remove"),
    )


DRAINING = (
    make.served(),
    make.event("intent", reason="stop"),
    make.event(
        "attempt", reason="stop", instance=INSTANCE, action="drain", container="c1",
        deadline_seconds=30.0, seq=7,
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("gateway", "gone"),
    [
        pytest.param(GatewayReading(instance="dead", seq=99), False, id="of-another-daemon"),
        pytest.param(GatewayReading(instance=INSTANCE, seq=6), False, id="an-older-status"),
        pytest.param(GatewayReading(instance=INSTANCE, seq=7), True, id="the-draining-status"),
    ],
)
def test_a_gateway_that_has_not_seen_the_drain_is_waited_for(
    gateway: GatewayReading, gone: bool
) -> None:
    """Until it has read the Status that drains a replica it may still send it requests."""
    now = make.snapshot(make.container(), gateway=gateway)
    actions = decided(now, make.history(*DRAINING)).actions
    assert actions == ((terminate("stop"),) if gone else ())


def test_without_a_gateway_or_an_answer_there_is_nothing_to_wait_for() -> None:
    """A draining replica that was never asked, or does not answer, is stopped at once."""
    past = make.history(*DRAINING)
    refused = make.probe(outcome="refused", in_flight=3)
    for probes in ([], [refused], [make.probe(in_flight=None)]):
        now = make.snapshot(make.container(), probes=probes)
        assert decided(now, past).actions == (terminate("stop"),)
