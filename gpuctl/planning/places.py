"""
Where one replica is, and what that makes of its workload. PURE; `plan` asks.

At home, on other GPUs, on the CPU for want of one; or added by `scale`, in a shape of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from gpuctl.model import Assignment, Variant, Workload
from gpuctl.planning import variants
from gpuctl.planning.placement import Group


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one replica is, and what that makes of its workload."""

    home: Group | None  # where the profile puts it; None: `scale` added it
    gpus: Group
    assigned: Assignment | None = None
    surplus: str = ""  # why it is one too many

    def on_cpu(self, workload: Workload) -> bool:
        """True when it has no GPU and should have one."""
        if self.assigned is None or self.gpus:
            return False
        return bool(self.home) or (self.home is None and _scaled_gpus(workload) > 0)

    def takes(self, workload: Workload, homes: tuple[Group, ...]) -> int:
        """Return the GPUs that it has, or comes back to from the CPU."""
        have = len(self.home or self.gpus)
        return have or (each_scaled(workload, homes) if self.on_cpu(workload) else 0)

    def shape(self, workload: Workload) -> Workload:
        """Return the workload as it runs here."""
        if self.home is None:
            workload = variants.scaled(workload)
        return variants.on_cpu(workload) if self.on_cpu(workload) else workload

    def names(self, workload: Workload) -> tuple[str, ...]:
        """Return what its variants are known by, that which counts first."""
        found = (f"{workload.name}/on_cpu",) if self.on_cpu(workload) else ()
        return (*found, f"{workload.name}/scaled") if self.home is None else found

    def variants(self, workload: Workload) -> tuple[Variant, ...]:
        found = (workload.scaled,) if self.home is None else ()
        return (*found, workload.on_cpu) if self.on_cpu(workload) else found


def each_scaled(workload: Workload, homes: tuple[Group, ...]) -> int:
    """Return how many GPUs one has that `scale` adds: as many as the others, or as is written."""
    took = len(homes[0]) if homes else 1
    return took if workload.scaled.gpus is None else workload.scaled.gpus


def _scaled_gpus(workload: Workload) -> int:
    if workload.scaled.gpus is not None:
        return workload.scaled.gpus
    return 0 if workload.gpus == "none" else 1
