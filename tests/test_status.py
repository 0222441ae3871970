"""One tick folded into the Status document."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.gates import Wait
from gpuctl.history import History
from gpuctl.model import (
    Condition,
    EngineStats,
    Event,
    GatewayReading,
    GatewayReplica,
    GatewaySettings,
    GpuIdentity,
    GpuProcess,
    Plan,
    ProbeSpec,
    Snapshot,
)
from gpuctl.model.status import DaemonStatus, ReplicaStatus, RouteReplica, Status
from gpuctl.status import Header, status
from tests import make
from tests.make import AT, NOW

HEADER = Header(
    seq=7,
    instance=make.INSTANCE,
    last_event=42,
    simulated=False,
    daemon=DaemonStatus(pid=1, version="0", tick_seconds=0.1, started_at=AT, interval_seconds=5.0),
    gateway=None,
)
READY = make.history(make.served())
RUNNING = make.snapshot(make.container(), probes=[make.probe()])
DEAD = make.snapshot(make.container(state="exited"))


def published(
    now: Snapshot = RUNNING,
    past: History = READY,
    *held: Condition,
    waits: dict[str, Wait] | None = None,
    before: Status | None = None,
    plan: Plan | None = None,
    header: Header = HEADER,
) -> Status:
    held_by = make.conditions(*held)
    return status(plan or make.plan(), now, held_by, past, waits or {}, before, header)


def row(*arguments: Any, **fields: Any) -> ReplicaStatus:
    return published(*arguments, **fields)["replicas"][0]


def route(*arguments: Any, **fields: Any) -> RouteReplica:
    return published(*arguments, **fields)["routes"][0]["replicas"][0]


def drain(at: float = NOW - 5) -> Event:
    told: dict[str, Any] = {"action": "drain", "container": "c1", "deadline_seconds": 30.0}
    return make.event("attempt", reason="stop", at=at, **told)


def steps(*names: str) -> list[Event]:
    """Return the events of these steps of a stop, the last one still under way."""
    told = [{"attempt": name, "action": name, "container": "c1"} for name in names]
    events = [
        make.event(kind, "chat-0", "stop", NOW - 1, **each)
        for each in told
        for kind in ("attempt", "done")
    ]
    return events[:-1]


BUSY = make.probe(in_flight=1)
FAILED = make.failed()


@pytest.mark.parametrize(
    ("now", "past", "held", "wait", "phase"),
    [
        pytest.param(
            make.snapshot(), make.history(), None, None, ("pending", ""), id="not-started-yet"
        ),
        pytest.param(
            make.snapshot(),
            make.history(make.started()[0]),
            None,
            None,
            ("pending", "wanted"),
            id="being-started",
        ),
        pytest.param(
            make.snapshot(),
            make.history(make.event("attempt", attempt="r", action="remove")),
            None,
            None,
            ("pending", ""),
            id="being-removed",
        ),
        pytest.param(
            DEAD, make.history(make.served(), FAILED), None, None, ("pending", "exit_1"), id="dead"
        ),
        pytest.param(
            make.snapshot(),
            make.history(),
            None,
            Wait(reason="load_slots_taken"),
            ("pending", "load_slots_taken"),
            id="waits-for-a-slot",
        ),
        pytest.param(
            make.snapshot(),
            make.history(),
            None,
            Wait(reason="gpu_avoided"),
            ("failed", "gpu_avoided"),
            id="its-gpu-is-lost",
        ),
        pytest.param(
            DEAD,
            make.history(make.served(), FAILED),
            None,
            Wait(reason="host_fault", until=NOW + 9),
            ("backoff", "host_fault"),
            id="host-fault",
        ),
        pytest.param(
            DEAD,
            make.history(make.served(), FAILED),
            None,
            Wait(reason="backoff", until=NOW + 9),
            ("backoff", "exit_1"),
            id="back-off",
        ),
        pytest.param(
            DEAD,
            make.history(make.served(), FAILED),
            None,
            Wait(reason="action_failed", until=NOW + 5),
            ("backoff", "exit_1"),
            id="was-not-carried-out",
        ),
        pytest.param(
            DEAD,
            make.history(make.served(), FAILED),
            None,
            Wait(reason="crash_loop", until=NOW + 9),
            ("backoff", "crash_loop: exit_1"),
            id="crash-loop",
        ),
        pytest.param(
            DEAD,
            make.history(make.served(), make.event("intent", reason="stop")),
            None,
            None,
            ("stopped", "stop"),
            id="stopped",
        ),
        pytest.param(
            make.snapshot(),
            make.history(cautious=True),
            None,
            None,
            ("stopped", "events_lost"),
            id="cautious",
        ),
        pytest.param(
            make.snapshot(make.container()),
            make.history(make.started()),
            None,
            None,
            ("loading", ""),
            id="loading",
        ),
        pytest.param(RUNNING, READY, None, None, ("ready", ""), id="ready"),
        pytest.param(
            make.snapshot(make.container(), probes=[BUSY]),
            READY,
            None,
            None,
            ("busy", ""),
            id="busy",
        ),
        pytest.param(
            RUNNING,
            READY,
            make.condition(state="degraded", reason="health_slow"),
            None,
            ("degraded", "health_slow"),
            id="degraded",
        ),
        pytest.param(
            RUNNING,
            READY,
            make.condition(state="unknown", reason="runtime_unread"),
            None,
            ("ready", ""),
            id="unknown-is-no-fault",
        ),
        pytest.param(
            RUNNING,
            make.history(make.served(), drain()),
            None,
            None,
            ("draining", "stopping"),
            id="draining",
        ),
        pytest.param(
            RUNNING,
            make.history(make.served(), *steps("terminate")),
            None,
            None,
            ("ready", ""),
            id="being-told-to-end",
        ),
        pytest.param(
            RUNNING,
            make.history(make.served(), *steps("terminate", "kill")),
            None,
            None,
            ("draining", "stop"),
            id="told-to-end",
        ),
        pytest.param(
            RUNNING,
            make.history(make.served(), FAILED, *steps("terminate", "kill")),
            None,
            None,
            ("draining", "exit_1"),
            id="failed-and-told-to-end",
        ),
    ],
)
def test_phase(
    now: Snapshot,
    past: History,
    held: Condition | None,
    wait: Wait | None,
    phase: tuple[str, str],
) -> None:
    """Each state of a replica has its phase and the reason for it."""
    conditions = [held] if held else []
    found = row(now, past, *conditions, waits={"chat-0": wait} if wait else {})
    assert (found["phase"], found["reason"]) == phase


def test_a_phase_holds_since_it_began() -> None:
    """A phase keeps its time while it holds, and a new one begins now."""
    before = published()
    later = replace(RUNNING, at=AT + 60, boot_seconds=NOW + 60)
    assert row(later, before=before)["since"] == before["replicas"][0]["since"]
    assert row(replace(later, probes={}, owned={}), before=before)["since"] == AT + 60


def test_a_new_daemon_is_not_a_new_replica() -> None:
    """The first Status after a start knows since when a replica has been ready."""
    assert row()["since"] == AT - 1000
    assert row(DEAD)["since"] == AT


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


def bad(check: str = "health", readings: int = 2, **fields: Any) -> Condition:
    return make.condition(check, readings=readings, reason="x", **fields)


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


def test_gpus_say_what_they_are_for() -> None:
    """A GPU in reserve is told as such while it is well; what is not reported is null."""
    now = make.snapshot(
        gpus=[make.gpu(0, throttle_reasons=("hw_thermal",)), make.gpu(1), make.gpu(2, state="lost")]
    )
    plan = make.plan(reserve=(make.identity(1), make.identity(2)))
    found = published(now, plan=plan)["gpus"]
    assert [(gpu["uuid"], gpu["state"], gpu["throttle_reasons"]) for gpu in found] == [
        ("GPU-0", "ok", ["hw_thermal"]),
        ("GPU-1", "reserve", None),
        ("GPU-2", "lost", None),
    ]


def test_a_gpu_that_is_no_longer_listed_is_missing() -> None:
    """It keeps the name and place that it was planned with, and nothing else is known of it."""
    gone = GpuIdentity(index=1, uuid="GPU-b", name="NVIDIA P106-100", memory_total_bytes=6)
    plan = replace(make.plan(), gpus=(make.identity(0), gone), reserve=(gone,))
    now = make.snapshot(gpus=[make.gpu(0), make.gpu(2)])
    now = replace(now, gpus_boot_seconds=NOW - 3)
    found = published(now, plan=plan)["gpus"]
    assert [(gpu["uuid"], gpu["state"]) for gpu in found] == [
        ("GPU-0", "ok"),
        ("GPU-b", "missing"),
        ("GPU-2", "ok"),
    ]
    assert found[1] == {
        "index": 1,
        "uuid": "GPU-b",
        "name": "NVIDIA P106-100",
        "memory_total_bytes": 6,
        "memory_used_bytes": None,
        "utilization_ratio": None,
        "temperature_celsius": None,
        "power_watts": None,
        "throttle_reasons": None,
        "state": "missing",
        "at": AT - 3,
    }


def test_no_gpu_is_missing_before_any_was_read() -> None:
    """What NVML has not been heard of says nothing of what is there."""
    now = replace(make.snapshot(), gpus_boot_seconds=None)
    assert published(now)["gpus"] == []


def test_only_what_is_not_ok_is_listed() -> None:
    """Conditions are listed with since when and the evidence; what is ok is not."""
    told = bad(since=NOW - 9, evidence={"answer": "none"})
    assert published(RUNNING, READY, told, make.condition("vram", state="ok"))["conditions"] == [
        {
            "check": "health",
            "subject": "chat-0",
            "state": "failed",
            "reason": "x",
            "since": AT - 9,
            "evidence": {"answer": "none"},
        }
    ]


def test_the_document_says_whose_it_is() -> None:
    """The header, the plan's warnings and the gateway's settings are in the document."""
    header = replace(HEADER, gateway=GatewaySettings(listen="127.0.0.1:1"))
    found = published(plan=make.plan(warnings=("tight",)), header=header)
    assert (found["schema"], found["seq"], found["instance"]) == (1, 7, make.INSTANCE)
    assert (found["last_event"], found["profile"], found["mode"]) == (42, "test", "enforce")
    assert (found["at"], found["warnings"], found["daemon"]["pid"]) == (AT, ["tight"], 1)
    assert found["gateway"] is not None
    assert found["gateway"]["listen"] == "127.0.0.1:1"
    assert published()["gateway"] is None


DOWN = make.event("intent", "", "down", boot_seconds=NOW - 1)


@pytest.mark.parametrize(
    ("now", "past", "expected"),
    [
        pytest.param(RUNNING, READY, [], id="the replica's own"),
        pytest.param(DEAD, READY, [], id="stopped, and kept for its log"),
        pytest.param(
            RUNNING, make.history(make.served(), DOWN), ["gpuctl-chat-0"], id="on its way down"
        ),
        pytest.param(DEAD, make.history(make.served(), DOWN), ["gpuctl-chat-0"], id="not removed"),
        pytest.param(
            make.snapshot(make.container(state="removed")),
            make.history(make.served(), DOWN),
            [],
            id="removed",
        ),
        pytest.param(
            make.snapshot(
                make.container(),
                make.container(id_="c0", name="gpuctl-chat-0.old-c0", state="exited"),
            ),
            READY,
            ["gpuctl-chat-0.old-c0"],
            id="renamed aside by a start",
        ),
        pytest.param(
            make.snapshot(make.container("other-0")), READY, ["gpuctl-other-0"], id="not planned"
        ),
        pytest.param(
            make.snapshot(make.container(), errors={"runtime": "down"}), READY, None, id="unread"
        ),
        pytest.param(
            replace(make.snapshot(), runtime_boot_seconds=None),
            make.history(DOWN),
            None,
            id="never read",
        ),
    ],
)
def test_what_is_to_go_is_named(now: Snapshot, past: History, expected: list[str] | None) -> None:
    """Containers that must end are listed, whoever had them; null where it cannot be told."""
    assert published(now, past)["leftovers"] == expected
