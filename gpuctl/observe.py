"""
The samplers' latest readings → one Snapshot. Never waits, never raises.

`Latest` is the board that samplers write on, each its own field, whole values only: an assignment
(and setting or copying one key of a dict) is atomic, so no lock is needed and a sampler that hangs
holds up nobody.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from gpuctl.model import (
    ContainerReading,
    GatewayReading,
    GpuReading,
    HostReading,
    LoadReading,
    ProbeReading,
    Snapshot,
    SourceError,
    Xid,
)
from gpuctl.ports import Clock


@dataclass(slots=True, kw_only=True)
class Latest:
    """What each sampler last read."""

    containers: Mapping[str, ContainerReading] = field(default_factory=dict)  # by id
    runtime_boot_seconds: float | None = None
    runtime_back_boot_seconds: float | None = None  # listed again after it had gone
    gpus: tuple[GpuReading, ...] = ()
    gpus_boot_seconds: float | None = None
    device_access: Mapping[str, bool | None] = field(default_factory=dict)  # by container
    xids: tuple[Xid, ...] = ()  # the latest, oldest first
    probes: dict[str, ProbeReading] = field(default_factory=dict)  # written by many threads
    loads: Mapping[str, LoadReading] = field(default_factory=dict)  # by replica
    host: HostReading = field(default_factory=HostReading)
    gateway: GatewayReading | None = None
    errors: dict[str, SourceError] = field(default_factory=dict)


def observe(
    latest: Latest, clock: Clock, *, gap: bool = False, stale_seconds: float = math.inf
) -> Snapshot:
    """
    Gather the board into a Snapshot of this moment.

    A source whose last reading is older than *stale_seconds* counts as unread: its thread hangs.
    """
    owned, aside = _by_replica(latest.containers.values())
    return Snapshot(
        at=clock.now(),
        boot_id=clock.boot_id,
        boot_seconds=clock.boot_seconds(),
        gap=gap,
        gpus={gpu.uuid: gpu for gpu in latest.gpus},
        gpus_boot_seconds=latest.gpus_boot_seconds,
        device_access=latest.device_access,
        xids=latest.xids,
        owned=owned,
        aside=aside,
        runtime_boot_seconds=latest.runtime_boot_seconds,
        runtime_back_boot_seconds=latest.runtime_back_boot_seconds,
        probes=dict(latest.probes),
        loads=latest.loads,
        host=latest.host,
        gateway=latest.gateway,
        errors={**_stale(latest, clock.boot_seconds(), stale_seconds), **latest.errors},
    )


def _stale(latest: Latest, now: float, stale_seconds: float) -> dict[str, SourceError]:
    read = {"runtime": latest.runtime_boot_seconds, "gpus": latest.gpus_boot_seconds}
    return {
        source: SourceError(message=f"no reading for {now - at:.0f} s", since_boot_seconds=at)
        for source, at in read.items()
        if at is not None and now - at > stale_seconds
    }


def _by_replica(
    containers: Iterable[ContainerReading],
) -> tuple[dict[str, ContainerReading], dict[str, tuple[ContainerReading, ...]]]:
    owned: dict[str, ContainerReading] = {}
    aside: dict[str, tuple[ContainerReading, ...]] = {}
    for container in containers:
        name = container.replica
        if container.name == f"gpuctl-{name}":
            # A removed one is only a trace: whatever else carries the name counts for more.
            if name not in owned or container.state != "removed":
                owned[name] = container
        elif container.state != "removed":
            aside[name] = (*aside.get(name, ()), container)
    return owned, aside
