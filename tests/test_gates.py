"""What speaks against a start, gate by gate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.gates import StartGates, Wait
from gpuctl.history import History
from gpuctl.model import Evidence, GpuProcess, Snapshot
from tests import make
from tests.make import NOW

REPLICA = make.replica()
DEAD = make.container(state="exited", exit_code=1)
DIED = make.history(make.served(), make.failed(at=NOW - 3))


def waiting(now: Snapshot, past: History, *held: Any, **settings: Any) -> Wait | None:
    replica = replace(REPLICA, watchdog=replace(make.SETTINGS, **settings))
    plan = make.plan(replica, watchdog=replica.watchdog)
    return StartGates(plan, now, make.conditions(*held), past).waiting(replica)


def test_nothing_holds_a_first_start() -> None:
    """A replica that never ran waits for nothing."""
    assert waiting(make.snapshot(), make.history()) is None


def test_an_avoided_gpu_is_named() -> None:
    """A condition whose remedy is to avoid a GPU holds every start there, once it is due."""
    avoid = make.condition("xid", "GPU-0", remedy="avoid", reason="xid_79")
    assert waiting(make.snapshot(), make.history(), avoid) == Wait(
        reason="gpu_avoided", evidence={"gpu": "GPU-0", "because": "xid_79"}
    )
    gates = StartGates(make.plan(), make.snapshot(), make.conditions(avoid), make.history())
    assert gates.avoids(make.replica(gpus=(1,))) is None
    patient = make.condition("xid", "GPU-0", remedy="avoid", patience_seconds=10.0)
    assert waiting(make.snapshot(), make.history(), patient) is None


@pytest.mark.parametrize("failures", [0, 1])
def test_a_failure_that_is_not_held_against_it_costs_no_wait(failures: int) -> None:
    """What is excused, and a first failure, are followed by a start at once."""
    past = make.history(make.served(), make.failed(at=NOW, failures=failures))
    assert waiting(make.snapshot(DEAD), past) is None


def test_waits_never_shrink_as_failures_grow() -> None:
    """Every further failure in a row waits at least as long as the one before."""
    waits = []
    for failures in range(12):
        past = make.history(make.served(), make.failed(at=NOW, failures=failures))
        wait = waiting(make.snapshot(DEAD), past)
        waits.append(0.0 if wait is None or wait.until is None else wait.until - NOW)
    assert waits == [0, 0, 10, 20, 40, 80, 900, 900, 900, 900, 900, 900]


def gpu(read_at: float, container: str | None = None, **fields: Any) -> Snapshot:
    """A snapshot with the dead container and what the GPU showed *read_at*."""
    holders = [GpuProcess(pid=7, used_bytes=9, container=container, name="x")] if container else []
    now = make.snapshot(DEAD, gpus=[make.gpu(processes=holders)], **fields)
    return replace(now, gpus_boot_seconds=read_at)


def held(until: float | None) -> Wait:
    told: Evidence = {"gpu": "GPU-0", "pid": 7, "process": "x", "vram_bytes": 9}
    return Wait(reason="vram_held", until=until, evidence=told)


@pytest.mark.parametrize(
    ("now", "wait"),
    [
        pytest.param(gpu(NOW, "c1"), held(NOW + 27), id="held"),
        pytest.param(gpu(NOW, "c1", boot_seconds=NOW + 27), held(None), id="held-by-name-for-ever"),
        pytest.param(gpu(NOW, "c9"), None, id="held-by-another"),
        pytest.param(gpu(NOW), None, id="let-go-of"),
        pytest.param(
            gpu(NOW - 4),
            Wait(reason="vram_held", until=NOW + 27, evidence={"read_at": NOW - 4}),
            id="not-read-since",
        ),
        pytest.param(gpu(NOW - 4, boot_seconds=NOW + 27), None, id="not-read-since-for-too-long"),
        pytest.param(gpu(NOW - 4, "c1", errors={"gpus": "hung"}), None, id="unreadable"),
        pytest.param(replace(gpu(NOW), gpus_boot_seconds=None, gpus={}), None, id="never-read"),
        pytest.param(
            replace(gpu(NOW), gpus={"GPU-0": make.gpu(processes=None)}), None, id="not-reported"
        ),
    ],
)
def test_vram_must_be_let_go_of(now: Snapshot, wait: Wait | None) -> None:
    """A start waits until a reading since the death shows the old process gone; named, for ever."""
    assert waiting(now, DIED) == wait


def test_a_stop_is_waited_for_from_its_own_time() -> None:
    """After a stop the wait counts from it, not from a failure long before."""
    told: dict[str, Any] = {"attempt": "t", "action": "terminate", "container": "c1"}
    past = make.history(
        make.served(),
        make.failed(id_="c0", at=NOW - 900, failures=0),
        make.event("attempt", at=NOW - 2, **told),
        make.event("done", at=NOW - 2, **told),
    )
    assert waiting(gpu(NOW, "c1"), past) == held(NOW + 28)


def test_a_replica_without_gpus_waits_for_no_vram() -> None:
    """On the CPU there is nothing to let go of."""
    replica = make.replica(gpus=())
    gates = StartGates(make.plan(replica), gpu(NOW - 99, "c1"), {}, DIED)
    assert gates.waiting(replica) is None


@pytest.mark.parametrize(
    ("now", "past", "loads"),
    [
        pytest.param(make.snapshot(), make.history(make.started()[0]), 1, id="being-started"),
        pytest.param(
            make.snapshot(make.container()),
            make.history(make.served(), make.event("attempt", action="kill", attempt="k")),
            0,
            id="being-stopped",
        ),
        pytest.param(
            make.snapshot(),
            make.history(make.event("attempt", action="fetch", attempt="f")),
            0,
            id="its-image-is-fetched",
        ),
        pytest.param(make.snapshot(make.container()), make.history(make.started()), 1, id="loads"),
        pytest.param(make.snapshot(make.container()), make.history(make.served()), 0, id="ready"),
        pytest.param(make.snapshot(DEAD), make.history(make.started()), 0, id="dead"),
    ],
)
def test_what_counts_as_a_load(now: Snapshot, past: History, loads: int) -> None:
    """A load is a start under way, or a container that has not become ready."""
    assert StartGates(make.plan(), now, {}, past).loading == loads


def test_a_start_counts_at_once() -> None:
    """Within a tick a start takes a slot, the spacing, and the host fault's next try."""
    plan = make.plan(watchdog=replace(make.SETTINGS, loads_at_once=1))
    past = make.history(make.event("host_fault", "host", at=NOW))
    gates = StartGates(plan, make.snapshot(), {}, past)
    assert gates.waiting(plan.replicas[0]) is None
    gates.began()
    assert (gates.loading, gates.last_start_at, gates.fault_starts) == (1, NOW, (NOW,))
    assert gates.waiting(plan.replicas[0]) == Wait(reason="host_fault", until=NOW + 60)
    free = StartGates(plan, make.snapshot(), {}, make.history())
    free.began()
    assert free.fault_starts == ()
    assert free.waiting(plan.replicas[0]) == Wait(reason="load_slots_taken")


@pytest.mark.parametrize(
    ("gpus", "state", "wait"),
    [
        pytest.param((0,), "failed", Wait(reason="driver_unusable"), id="it-would-find-no-gpu"),
        pytest.param((0,), "degraded", None, id="a-driver-that-only-hangs"),
        pytest.param((), "failed", None, id="on-the-cpu"),
    ],
)
def test_a_driver_that_cannot_be_used_holds_starts(
    gpus: tuple[int, ...], state: str, wait: Wait | None
) -> None:
    """After an upgrade without a reboot nothing new finds a GPU; there is no use in trying."""
    replica, now = make.replica(gpus=gpus), make.snapshot()
    held = make.conditions(make.condition("gpu_driver", "host", state=state))
    gates = StartGates(make.plan(replica), now, held, make.history())
    assert gates.waiting(replica) == wait
