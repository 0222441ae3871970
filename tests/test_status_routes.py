"""What the gateway learns of the replicas: which may answer, and how to get there."""

from __future__ import annotations

import pytest

from gpuctl.history import History
from gpuctl.model import Condition, EngineStats, ProbeSpec, Snapshot
from gpuctl.model.status import RouteReplica
from tests import make
from tests.make import AT
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
    """The gateway learns the address, the slots, the weight and how full its cache is."""
    stats = EngineStats(kv_ratio=0.5)
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
    )
    assert route(now)["weight"] == 1.0
    keyed = make.replica(probe=ProbeSpec(port=8081, health_path="/", key_file="/etc/key"))
    assert route(now, plan=make.plan(keyed))["key_file"] == "/etc/key"
    unread = make.snapshot(make.container(), probes=[make.probe(stats=None)])
    assert route(unread)["kv_ratio"] is None
    assert route(DEAD)["kv_ratio"] is None


def test_a_drain_has_its_deadline() -> None:
    """The gateway learns when what is still in flight will be cut off."""
    found = route(RUNNING, make.history(make.served(), drain()))
    assert found["drain_deadline"] == AT + 25


def test_replicas_of_a_workload_share_a_route() -> None:
    """One route per workload, with every replica of it."""
    plan = make.plan(make.replica(), make.replica("chat-1"), make.replica("embed-0"))
    found = published(plan=plan)["routes"]
    assert [(r["model"], [x["name"] for x in r["replicas"]]) for r in found] == [
        ("chat", ["chat-0", "chat-1"]),
        ("embed", ["embed-0"]),
    ]
