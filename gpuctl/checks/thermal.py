"""
Is a GPU too hot?

1. within a few degrees of the temperature at which the card turns itself off: it is not used until
   it has cooled by the margin of a level
2. hot: it gets fewer requests (`heat` says how many fewer), and nothing else is done
"""

from __future__ import annotations

from collections.abc import Iterable

from gpuctl.heat import LEVELS, critical_celsius
from gpuctl.model import Evidence, GpuReading, State, Verdict
from gpuctl.plugin import Check, Scene

#: One reading may be a mistake of the card's; what follows from two is not taken back.
_READINGS = 2
_REASONS = {"throttling": "heat_throttling", "critical": "heat_critical"}


def run(scene: Scene) -> Iterable[Verdict]:
    """Judge every planned GPU that reports its temperature."""
    for gpu in scene.gpus():
        if gpu.temperature_celsius is not None:
            yield _judge(gpu, gpu.temperature_celsius, scene)


def _judge(gpu: GpuReading, celsius: float, scene: Scene) -> Verdict:
    settings, facts = scene.plan.watchdog, gpu.facts
    level = scene.trends.gpu(gpu.uuid).heat
    evidence: dict[str, float | str] = {
        "temperature_celsius": celsius,
        "critical_celsius": critical_celsius(gpu, settings),
    }
    shutdown = facts.temperature_shutdown_celsius if facts is not None else None
    before = scene.before.get(("thermal", gpu.uuid))
    held = before is not None and before.verdict.reason == "near_shutdown"
    margin = settings.shutdown_margin_celsius + (settings.heat_margin_celsius if held else 0.0)
    if shutdown is not None and celsius >= shutdown - margin:  # 1
        evidence["shutdown_celsius"] = shutdown
        return _verdict(gpu, scene, "failed", "near_shutdown", evidence)
    if level in _REASONS:  # 2
        evidence["does"] = LEVELS[level].words
        return _verdict(gpu, scene, "degraded", _REASONS[level], evidence)
    limit = facts.memory_temperature_max_celsius if facts is not None else None
    memory = gpu.memory_temperature_celsius
    if limit is not None and memory is not None and memory >= limit:
        told = {**evidence, "memory_celsius": memory, "memory_limit_celsius": limit}
        return _verdict(gpu, scene, "degraded", "memory_hot", told)
    return _verdict(gpu, scene, "ok", "", evidence)


def _verdict(
    gpu: GpuReading, scene: Scene, state: State, reason: str, evidence: Evidence
) -> Verdict:
    failed = state == "failed"
    return Verdict(
        check="thermal",
        subject=gpu.uuid,
        state=state,
        reason=reason,
        evidence=evidence,
        remedy="avoid" if failed else "none",
        patience_readings=_READINGS if failed else 1,
        reading_boot_seconds=scene.now.gpus_boot_seconds,
    )


CHECK = Check(name="thermal", order=55, run=run)
