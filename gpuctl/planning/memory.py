"""What a replica takes of its GPUs: the profile's word, a measurement, or the model's headers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace

from gpuctl.model import Known, ModelFacts, VramLine, VramPlan, Workload
from gpuctl.plugin import Engine, Slot
from gpuctl.quantities import format_bytes

#: What is known of a model whose headers are not here: an engine may claim VRAM all the same.
_UNREAD = ModelFacts(source="", format="config", architecture="")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sized:
    """One replica with all that its sum was made from, so that another can be made."""

    replica: str
    workload: Workload  # as it is to run: tuned, and in the shape it has where it is
    slot: Slot
    engine: Engine
    facts: ModelFacts | None = None
    vram: VramPlan | None = None

    @property
    def flexible(self) -> bool:
        """True where another context or quantization would give another sum."""
        if self.engine.memory is None or self.facts is None or self.vram is None:
            return False
        return self.vram.source != "profile"

    def otherwise(
        self, *, context: int | None = None, facts: ModelFacts | None = None
    ) -> VramPlan | None:
        """
        Return its sum with another context or model; what was measured beyond it stays.

        Asked only of a `flexible` one; `None` where it was measured, and its headers do not tell.
        """
        assert self.engine.memory is not None
        assert self.facts is not None
        assert self.vram is not None
        changed = replace(self.workload, context=context) if context else self.workload
        found = self.engine.memory(changed, self.slot, facts or self.facts)
        before = self.engine.memory(self.workload, self.slot, self.facts)
        if found is None or before is None:
            return None
        beyond = self.vram.total_bytes - before.total_bytes
        return replace(found, total_bytes=found.total_bytes + beyond)


def sized(name: str, workload: Workload, slot: Slot, engine: Engine, known: Known) -> Sized:
    """Return one replica with its sum, and what that was made from."""
    return Sized(
        replica=name,
        workload=workload,
        slot=slot,
        engine=engine,
        facts=known.facts.get(workload.name),
        vram=vram_plan(workload, slot, engine, known),
    )


def vram_plan(workload: Workload, slot: Slot, engine: Engine, known: Known) -> VramPlan | None:
    """
    Return the sum for one replica, `None` on the CPU and where nothing is known.

    What the profile states prevails; then what was measured; then what the headers tell. A claim
    is taken whatever the model, so there is nothing in it to be learned.
    """
    if not slot.gpus:
        return None
    facts = known.facts.get(workload.name, _UNREAD)
    estimate = None
    if engine.memory is not None:
        estimate = engine.memory(workload, slot, facts)
    if estimate is not None and estimate.source == "claim" and workload.vram_bytes is None:
        return estimate
    key = measure_key(workload, slot, facts)
    measured = known.measured.get(key)
    if workload.vram_bytes is not None:
        return _stated(workload.vram_bytes, key, estimate, measured)
    if measured is not None:
        return _measured(measured, key, estimate)
    return None if estimate is None else replace(estimate, measure_key=key)


def measure_key(workload: Workload, slot: Slot, facts: ModelFacts = _UNREAD) -> str:
    """
    Return what a measurement is stored under: all that changes what the replica takes.

    The model's size is in it where its headers tell it, because a file may be replaced.
    """
    given = {name: value for name, value in workload.options.items() if value is not None}
    options = json.dumps(given, sort_keys=True, default=str, separators=(",", ":"))
    told = (f"{name}={value}" for name, value in sorted(workload.environment.items()))
    said = "\0".join((*workload.command, *workload.args, *told))
    # It may hold a key, and what an Event is stored under is shown.
    digest = hashlib.sha256(said.encode()).hexdigest()[:8] if said else ""
    parts = (
        workload.engine,
        workload.model,
        "" if facts.weights_bytes is None else f"{facts.weights_bytes} bytes",
        workload.image,
        f"{workload.context or 'default'}x{workload.parallel}",
        options if given else "",
        digest,
        f"{len(slot.gpus)}x {slot.gpus[0].name}".strip(),
    )
    return " | ".join(part for part in parts if part)


def _stated(total: int, key: str, estimate: VramPlan | None, measured: int | None) -> VramPlan:
    """Return the profile's word, with what else is known of it where that is more."""
    notes = []
    if estimate is not None and estimate.total_bytes > total:
        notes.append(
            f"the profile states {format_bytes(total)}, its headers make it"
            f" {format_bytes(estimate.total_bytes)}"
        )
    if measured is not None and measured > total:
        notes.append(
            f"the profile states {format_bytes(total)}, {format_bytes(measured)} were measured"
        )
    # It is spread as the estimate is.
    uneven = 0
    if estimate is not None and estimate.uneven_bytes:
        uneven = estimate.uneven_bytes * total // estimate.total_bytes
    return VramPlan(
        total_bytes=total,
        source="profile",
        uneven_bytes=uneven,
        notes=tuple(notes),
        measure_key=key,
    )


def _measured(measured: int, key: str, estimate: VramPlan | None) -> VramPlan:
    """Return what was measured, with the estimate's lines and what these are off by."""
    if estimate is None:
        line = VramLine(label="measured", amount_bytes=measured, why="its peak, as NVML told it")
        return VramPlan(total_bytes=measured, source="measured", lines=(line,), measure_key=key)
    beyond = measured - estimate.total_bytes
    why = f"measured {format_bytes(measured)}, estimated {format_bytes(estimate.total_bytes)}"
    overhead = (estimate.overhead_bytes or 0) + beyond
    return replace(
        estimate,
        total_bytes=measured,
        # Below zero it is weights or cache that were estimated too high, and nobody knows which.
        overhead_bytes=overhead if overhead >= 0 else None,
        source="measured",
        lines=(*estimate.lines, VramLine(label="measured", amount_bytes=beyond, why=why)),
        measure_key=key,
    )
