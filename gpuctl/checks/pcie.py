"""
Is a GPU's PCIe link as fast as it should be, and without errors?

An idle card lowers its generation to save power: the link is judged only by readings under load.
"""

from __future__ import annotations

from collections.abc import Iterable

from gpuctl.model import Evidence, GpuFacts, GpuHealth, GpuReading, Verdict
from gpuctl.plugin import Check, Scene

#: So busy a card has left its idle states.
_LOADED_RATIO = 0.5
#: One reading may have caught a card on its way out of an idle state.
_READINGS = 2
_MINUTE = 60.0


def run(scene: Scene) -> Iterable[Verdict]:
    """Judge every planned GPU whose link was read."""
    for gpu in scene.gpus():
        aging = scene.trends.gpu(gpu.uuid).aging
        if gpu.health is None or not aging:
            continue
        reason, evidence = _judge(gpu, gpu.health, aging, scene)
        yield Verdict(
            check="pcie",
            subject=gpu.uuid,
            state="degraded" if reason else "ok",
            reason=reason,
            evidence=evidence,
            reading_boot_seconds=gpu.health.boot_seconds,
        )


def _judge(
    gpu: GpuReading, health: GpuHealth, aging: tuple[GpuHealth, ...], scene: Scene
) -> tuple[str, Evidence]:
    facts = gpu.facts or GpuFacts()
    meant = scene.plan.watchdog.pcie_width or facts.pcie_width_max
    evidence: Evidence = {
        "generation": health.pcie_generation,
        "generation_max": facts.pcie_generation_max,
        "width": health.pcie_width,
        "width_max": meant,
        "replays": health.pcie_replays,
    }
    rate = _replays_per_minute(aging)
    # DCGM's health check has the same limit (DCGM_LIMIT_MAX_PCIREPLAY_RATE).
    if rate is not None and rate > scene.plan.watchdog.pcie_replays_per_minute:
        return "pcie_replays", {**evidence, "replays_per_minute": round(rate, 1)}
    loaded = [each for each in aging if (each.pcie_utilization_ratio or 0.0) >= _LOADED_RATIO]
    latest = loaded[-_READINGS:]
    slow = len(latest) == _READINGS and all(_slow(each, facts, meant) for each in latest)
    return ("pcie_slow" if slow else ""), evidence


def _slow(health: GpuHealth, facts: GpuFacts, width: int | None) -> bool:
    pairs = (
        (health.pcie_generation, facts.pcie_generation_max),
        (health.pcie_width, width),
    )
    return any(now is not None and most is not None and now < most for now, most in pairs)


def _replays_per_minute(aging: tuple[GpuHealth, ...]) -> float | None:
    """Return the rate since the reading before, `None` where there is none or it began anew."""
    if len(aging) < 2:
        return None
    before, now = aging[-2:]
    if before.pcie_replays is None or now.pcie_replays is None:
        return None
    minutes = max(1.0, (now.boot_seconds - before.boot_seconds) / _MINUTE)
    return (now.pcie_replays - before.pcie_replays) / minutes


CHECK = Check(name="pcie", order=58, run=run)
