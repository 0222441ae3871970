"""Everything one tick looks at, in one immutable value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from gpuctl.model.readings import (
    ContainerReading,
    GatewayReading,
    GpuReading,
    HostReading,
    ProbeReading,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceError:
    """A source that could not be read, in its own words."""

    message: str
    since_boot_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """
    The latest reading of every source.

    A source in `errors` could not be read: what it last told is still here, and nothing that
    depends on it may be acted on.
    """

    at: float  # Unix seconds
    boot_id: str
    boot_seconds: float  # CLOCK_BOOTTIME
    gap: bool = False  # the last tick is too long ago: forget every failure streak
    gpus: tuple[GpuReading, ...] = ()  # by index
    gpus_boot_seconds: float | None = None  # when they were read; None: never yet
    containers: tuple[ContainerReading, ...] = ()
    probes: Mapping[str, ProbeReading] = field(default_factory=dict)  # by replica
    host: HostReading = field(default_factory=HostReading)
    gateway: GatewayReading | None = None
    errors: Mapping[str, SourceError] = field(default_factory=dict)  # runtime | gpus | host

    def own(self, replica: str) -> ContainerReading | None:
        """Return the container that carries the replica's fixed name, or the last trace of it."""
        name = f"gpuctl-{replica}"
        return next((c for c in self.containers if c.replica == replica and c.name == name), None)

    def aside(self, replica: str) -> tuple[ContainerReading, ...]:
        """Return the replica's containers that were renamed aside by a start."""
        name = f"gpuctl-{replica}"
        return tuple(c for c in self.containers if c.replica == replica and c.name != name)
