"""Domain values for tests: every field has a default, a test names only what it is about."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from gpuctl.history import History, fold
from gpuctl.model import (
    Condition,
    ContainerReading,
    ContainerSpec,
    EngineStats,
    Event,
    EventKind,
    GpuIdentity,
    GpuProcess,
    GpuReading,
    Plan,
    ProbeReading,
    ProbeSpec,
    Replica,
    Snapshot,
    SourceError,
    Verdict,
    WatchdogSettings,
)
from gpuctl.plugin import Scene

#: The moment most tests take place at: boot seconds and Unix seconds.
NOW = 10_000.0
AT = 1_750_000_000.0
BOOT = "boot-1"
INSTANCE = "daemon-1"
MIB = 1024**2

SETTINGS = WatchdogSettings(load_spacing_seconds=0.0, loads_at_once=0, host_fault_ratio=0.0)


def identity(index: int = 0) -> GpuIdentity:
    return GpuIdentity(index=index, uuid=f"GPU-{index}", name="P106-100")


def replica(name: str = "chat-0", *, gpus: Iterable[int] = (0,), **fields: Any) -> Replica:
    workload, _, number = name.rpartition("-")
    port = 8081 + int(number)
    return replace(
        Replica(
            name=name,
            workload=workload,
            engine="llama.cpp",
            gpus=tuple(identity(index) for index in gpus),
            spec=ContainerSpec(image="engine:1", host_port=port, container_port=8080),
            probe=ProbeSpec(port=port, health_path="/health", metrics_path="/metrics"),
            watchdog=SETTINGS,
            model=workload,
            digest="v1:a",
            spec_digest="a",
        ),
        **fields,
    )


def plan(*replicas: Replica, watchdog: WatchdogSettings = SETTINGS, **fields: Any) -> Plan:
    replicas = replicas or (replica(),)
    gpus = {gpu.uuid: gpu for each in replicas for gpu in each.gpus}
    return Plan(
        profile="test",
        watchdog=watchdog,
        replicas=tuple(replace(each, watchdog=watchdog) for each in replicas),
        gpus=tuple(gpus.values()),
        **fields,
    )


def container(replica: str = "chat-0", id_: str = "c1", **fields: Any) -> ContainerReading:
    return ContainerReading(
        **{
            "id": id_,
            "name": f"gpuctl-{replica}",
            "replica": replica,
            "profile": "test",
            "state": "running",
            "pid": 100,
            "digest": "v1:a",
            "boot_seconds": NOW,
            **fields,
        }
    )


def gpu(
    index: int = 0, *, processes: Iterable[GpuProcess] | None = (), **fields: Any
) -> GpuReading:
    return GpuReading(
        **{
            "index": index,
            "uuid": f"GPU-{index}",
            "name": "P106-100",
            "memory_total_bytes": 6 * 1024 * MIB,
            "processes": None if processes is None else tuple(processes),
            "at": AT,
            "boot_seconds": NOW,
            **fields,
        }
    )


def probe(name: str = "chat-0", id_: str = "c1", **fields: Any) -> ProbeReading:
    return ProbeReading(
        **{
            "replica": name,
            "container": id_,
            "outcome": "ok",
            "stats": EngineStats(progress=1.0, running=0, waiting=0),
            "stats_at": NOW,
            "in_flight": 0,
            "moving_at": NOW,
            "boot_seconds": NOW,
            **fields,
        }
    )


def snapshot(
    *containers: ContainerReading,
    gpus: Iterable[GpuReading] = (),
    probes: Iterable[ProbeReading] = (),
    errors: Mapping[str, str] | None = None,
    boot_seconds: float = NOW,
    **fields: Any,
) -> Snapshot:
    owned = {c.replica: c for c in containers if c.name == f"gpuctl-{c.replica}"}
    others = [c for c in containers if c not in owned.values()]
    return Snapshot(
        at=AT + boot_seconds - NOW,
        boot_id=BOOT,
        boot_seconds=boot_seconds,
        owned=owned,
        aside={c.replica: tuple(o for o in others if o.replica == c.replica) for c in others},
        runtime_boot_seconds=boot_seconds,
        gpus={reading.uuid: reading for reading in gpus},
        gpus_boot_seconds=boot_seconds,
        probes={reading.replica: reading for reading in probes},
        errors={
            source: SourceError(message=message, since_boot_seconds=boot_seconds - 1)
            for source, message in (errors or {}).items()
        },
        **fields,
    )


def event(
    kind: EventKind | str,
    subject: str = "chat-0",
    reason: str = "",
    at: float = NOW,
    **evidence: Any,
) -> Event:
    """An Event *at* boot seconds."""
    return Event(
        kind=EventKind(kind),
        subject=subject,
        reason=reason,
        evidence=evidence,
        at=AT + at - NOW,
        boot_id=BOOT,
        boot_seconds=at,
    )


def started(name: str = "chat-0", id_: str = "c1", at: float = NOW - 1000) -> tuple[Event, ...]:
    """The two events of a container that was started."""
    return (
        event("attempt", name, "wanted", at, attempt=f"s-{id_}", action="start", instance=INSTANCE),
        event("done", name, "wanted", at, attempt=f"s-{id_}", container=id_, spec_digest="a"),
    )


def served(name: str = "chat-0", id_: str = "c1", at: float = NOW - 1000) -> tuple[Event, ...]:
    """The events of a replica that started and became ready, both *at*."""
    return (*started(name, id_, at), event("ready", name, at=at, container=id_))


def failed(
    name: str = "chat-0",
    id_: str = "c1",
    reason: str = "exit_1",
    at: float = NOW,
    failures: int = 1,
) -> Event:
    return event("failed", name, reason, at, container=id_, failures=failures)


def history(*events: Event | Iterable[Event], cautious: bool = False) -> History:
    folded = History(cautious=cautious)
    for item in events:
        for each in (item,) if isinstance(item, Event) else item:
            folded = fold(folded, each)
    return folded


def scene(
    now: Snapshot,
    *replicas: Replica,
    past: History | None = None,
    before: Iterable[Condition] = (),
    **fields: Any,
) -> Scene:
    return Scene(
        plan=plan(*replicas, **fields),
        now=now,
        history=past or History(),
        before={(c.verdict.check, c.verdict.subject): c for c in before},
    )


def condition(
    check: str = "health",
    subject: str = "chat-0",
    *,
    since: float = NOW,
    readings: int = 1,
    **verdict: Any,
) -> Condition:
    """A condition that has held *since* boot seconds."""
    return Condition(
        verdict=Verdict(check=check, subject=subject, **{"state": "failed", **verdict}),
        since=AT + since - NOW,
        since_boot_seconds=since,
        readings=readings,
    )


def conditions(*held: Condition) -> dict[tuple[str, str], Condition]:
    return {(c.verdict.check, c.verdict.subject): c for c in held}
