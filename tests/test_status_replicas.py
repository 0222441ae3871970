"""The row of a replica: every number of it, and where each is known from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gpuctl.gates import Wait
from gpuctl.model import GatewayReading, GatewayReplica, GpuProcess, LoadReading
from gpuctl.model.status import ReplicaStatus
from tests import make
from tests.make import AT, NOW
from tests.status_bench import BUSY, DEAD, row


def test_a_row_tells_all_there_is_to_know() -> None:
    """The numbers of a running replica, from wherever each is known."""
    restart = make.event("attempt", at=NOW - 4000, attempt="r", action="start", restart=True)
    again = make.event("attempt", at=NOW - 3000, attempt="r", action="start", restart=True)
    holder = make.gpu(processes=[GpuProcess(pid=1, used_bytes=5, container="c1")])
    now = make.snapshot(make.container(memory_bytes=9), probes=[make.probe()], gpus=[holder])
    plan = make.plan(make.replica(spec_digest="b"))
    assert row(now, make.history(restart, again, make.served()), plan=plan) == ReplicaStatus(
        name="chat-0",
        workload="chat",
        engine="llama.cpp",
        phase="ready",
        gpus=[{"index": 0, "uuid": "GPU-0"}],
        port=8081,
        container="c1",
        since=AT - 1000,
        restarts_1h=1,
        restarts_24h=2,
        reason="",
        next_attempt_at=None,
        in_flight=0,
        memory_bytes=9,
        vram_bytes=5,
        outdated=True,
        moved="",
        on_cpu=False,
        stage=None,
    )


def test_a_dead_replica_holds_nothing() -> None:
    """What a dead container held is not told as if it still did."""
    found = row(DEAD, waits={"chat-0": Wait(reason="backoff", until=NOW + 20)})
    assert (found["container"], found["in_flight"], found["vram_bytes"]) == (None, None, None)
    assert (found["memory_bytes"], found["outdated"]) == (None, False)
    assert found["next_attempt_at"] == AT + 20


def test_a_replica_on_the_cpu_has_no_vram() -> None:
    """Without GPUs its VRAM is not 0 but no question."""
    assert row(plan=make.plan(make.replica(gpus=())))["vram_bytes"] is None


def test_what_is_in_flight_is_the_gateways_to_tell() -> None:
    """The gateway's count comes first, then the engine's; a replica never probed has none."""
    gateway = GatewayReading(replicas={"chat-0": GatewayReplica(in_flight=3)})
    now = make.snapshot(make.container(), probes=[BUSY], gateway=gateway)
    assert row(now)["in_flight"] == 3
    assert row(replace(now, gateway=GatewayReading()))["in_flight"] == 1
    assert row(replace(now, gateway=None, probes={}))["in_flight"] is None


def test_what_loads_tells_how_far_it_is() -> None:
    """The stage is of this container, while it loads; what serves has come all the way."""

    def staged(container: str, past: Any, **reached: float) -> str | None:
        load = LoadReading(replica="chat-0", container=container, reached=reached)
        now = make.snapshot(make.container(), loads={"chat-0": load})
        return row(now, past=past)["stage"]

    loading = make.history(make.started())
    assert staged("c1", loading, weights_loaded=NOW - 5) == "weights_loaded"
    assert staged("c1", loading) is None
    assert staged("c0", loading, weights_loaded=NOW - 5) is None
    assert staged("c1", make.history(make.served()), weights_loaded=NOW - 5) is None
    assert row(make.snapshot(make.container()), past=loading)["stage"] is None
