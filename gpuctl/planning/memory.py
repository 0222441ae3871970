"""What a replica takes of its GPUs: the profile's word, a measurement, or the model's headers."""

from __future__ import annotations

from gpuctl.model import Known, VramPlan, Workload
from gpuctl.plugin import Engine, Slot


def vram_plan(workload: Workload, slot: Slot, engine: Engine, known: Known) -> VramPlan | None:
    """Return the sum for one replica, `None` on the CPU and where nothing is known."""
    if not slot.gpus:
        return None
    if workload.vram_bytes is not None:
        return VramPlan(total_bytes=workload.vram_bytes, source="profile")
    facts = known.facts.get(workload.name)
    if facts is None or engine.memory is None:
        return None
    return engine.memory(workload, slot, facts)
