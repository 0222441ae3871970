"""What the gateway learns of the replicas: which may answer, and how to get there."""

from __future__ import annotations

import pytest

from gpuctl.gates import Wait
from gpuctl.history import History
from gpuctl.model import Condition, EngineStats, ProbeSpec, Snapshot
from gpuctl.model.status import RouteReplica
from tests import make
from tests.make import AT, NOW
from tests.status_bench import DEAD, READY, RUNNING, bad, drain, published, route


@pytest.mark.parametrize(
    ("now", "past", "held", "state"),
    [
        pytest.param(RUNNING, READY, [], "ready", id="ready"),
        pytest.param(RUNNING, READY, [bad(state="degraded")], "ready", id="degraded"),
        pytest.param(RUNNING, READY, [bad(readings=1)], "ready", id="one-miss"),
        pytest.param(RUNNING, READY, [bad()], "down", id="two-misses"),
        pytest.param(RUNNING, READY, [bad("stalled")], "down", id="stalled"),
        pytest.param(RUNNING, READY, [bad("vram")], "down", id="vram-lost"),
        pytest.param(RUNNING, READY, [bad("gpu_missing")], "ready", id="another-check"),
        pytest.param(RUNNING, make.history(make.started()), [], "down", id="loading"),
        pytest.param(RUNNING, make.history(make.served(), drain()), [], "draining", id="draining"),
        pytest.param(DEAD, READY, [], "down", id="dead"),
        pytest.param(make.snapshot(make.container(state="paused")), READY, [], "down", id="paused"),
    ],
)
def test_what_is_routed(now: Snapshot, past: History, held: list[Condition], state: str) -> None:
    """A replica is in the routes while it can answer; two misses, or a pause, take it out."""
    assert route(now, past, *held)["state"] == state


def test_a_route_tells_how_to_get_there() -> None:
    """The gateway learns the address, the slots, the weight, and how full cache and queue are."""
    stats = EngineStats(kv_ratio=0.5, waiting=3)
    now = make.snapshot(make.container(), probes=[make.probe(stats=stats)])
    assert route(now, READY, bad(state="degraded")) == RouteReplica(
        name="chat-0",
        container="c1",
        address="127.0.0.1:8081",
        slots=1,
        weight=0.5,
        state="ready",
        drain_deadline=None,
        kv_ratio=0.5,
        key_file=None,
        engine="llama.cpp",
        phase="degraded",
        coming=False,
        waiting=3,
        collect_streams=False,
    )
    assert route(now)["weight"] == 1.0


def test_a_route_tells_what_its_engine_asks_for() -> None:
    """The gateway learns which key to show, and whether a client that leaves needs a stream."""
    probe = ProbeSpec(port=8081, health_path="/", key_file="/etc/key", collect_streams=True)
    found = route(RUNNING, plan=make.plan(make.replica(probe=probe)))
    assert (found["key_file"], found["collect_streams"]) == ("/etc/key", True)


@pytest.mark.parametrize(
    "now",
    [
        pytest.param(make.snapshot(make.container(), probes=[make.probe(stats=None)]), id="unread"),
        pytest.param(make.snapshot(make.container(), probes=[make.probe()]), id="told by nothing"),
        pytest.param(DEAD, id="dead"),
    ],
)
def test_what_its_counters_do_not_tell(now: Snapshot) -> None:
    """A cache that is not told is not known, and nothing waits in a queue that is not told."""
    found = route(now)
    assert (found["kv_ratio"], found["waiting"]) == (None, 0)


STOP = make.event("intent", reason="stop")
AVOIDED = {"chat-0": Wait(reason="gpu_avoided")}
BACKOFF = {"chat-0": Wait(reason="backoff", until=NOW + 20)}


@pytest.mark.parametrize(
    ("now", "past", "waits", "found"),
    [
        pytest.param(RUNNING, READY, {}, ("ready", False), id="ready"),
        pytest.param(DEAD, READY, {}, ("pending", True), id="pending"),
        pytest.param(RUNNING, make.history(make.started()), {}, ("loading", True), id="loading"),
        pytest.param(DEAD, READY, BACKOFF, ("backoff", True), id="backoff"),
        pytest.param(DEAD, READY, AVOIDED, ("failed", False), id="failed"),
        pytest.param(DEAD, make.history(make.served(), STOP), {}, ("stopped", False), id="stopped"),
        pytest.param(
            RUNNING, make.history(make.served(), drain()), {}, ("draining", True), id="draining"
        ),
        pytest.param(
            RUNNING,
            make.history(make.served(), STOP, drain()),
            {},
            ("draining", False),
            id="draining, to be stopped",
        ),
    ],
)
def test_who_is_coming(
    now: Snapshot, past: History, waits: dict[str, Wait], found: tuple[str, bool]
) -> None:
    """A request waits for what will serve again by itself, and for nothing else."""
    it = route(now, past, waits=waits)
    assert (it["phase"], it["coming"]) == found


def test_what_runs_and_is_out_of_the_routes_is_coming() -> None:
    """A replica that missed two probes may answer the third."""
    it = route(RUNNING, READY, bad())
    assert (it["phase"], it["state"], it["coming"]) == ("degraded", "down", True)


def test_a_drain_has_its_deadline() -> None:
    """The gateway learns when what is still in flight will be cut off."""
    found = route(RUNNING, make.history(make.served(), drain()))
    assert found["drain_deadline"] == AT + 25


def test_replicas_of_a_workload_share_a_route() -> None:
    """One route per workload, with every replica of it."""
    plan = make.plan(make.replica(), make.replica("chat-1"), make.replica("embed-0"))
    found = published(plan=plan)["routes"]
    assert [(r["workload"], [x["name"] for x in r["replicas"]]) for r in found] == [
        ("chat", ["chat-0", "chat-1"]),
        ("embed", ["embed-0"]),
    ]
    assert [r["model"] for r in found] == ["chat", "embed"]
