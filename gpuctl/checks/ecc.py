"""
Does a GPU's memory lose bits?

1. bits that could not be corrected: the GPU is not used, but where all that was lost was contained
   in one application (Xid 94), which is what is restarted
2. bits that are corrected ever more often: told, as a card's memory fails slowly
"""

from __future__ import annotations

from collections.abc import Iterable

from gpuctl.model import Evidence, GpuHealth, GpuReading, State, Verdict
from gpuctl.plugin import Check, Scene

#: Contained in one application; and not contained. Source: NVIDIA's Xid catalog.
_CONTAINED = 94
_UNCONTAINED = frozenset({48, 95, 140})
_HOUR = 3600.0


def run(scene: Scene) -> Iterable[Verdict]:
    """Judge every planned GPU that counts its ECC errors."""
    for gpu in scene.gpus():
        health = gpu.health
        if health is None or health.ecc_uncorrected_volatile is None:
            continue
        yield _judge(gpu, health, health.ecc_uncorrected_volatile, scene)


def _judge(gpu: GpuReading, health: GpuHealth, count: int, scene: Scene) -> Verdict:
    aging = scene.trends.gpu(gpu.uuid).aging
    evidence: Evidence = {
        "uncorrected": count,
        "uncorrected_in_its_life": health.ecc_uncorrected_aggregate,
        "corrected": health.ecc_corrected_volatile,
    }
    if _since_cleared(gpu, count, aging, scene) > 0:  # 1
        numbers = {each.number for each in scene.history.gpu(gpu.uuid).xids if each.at >= 0.0}
        if _CONTAINED in numbers and numbers.isdisjoint(_UNCONTAINED):
            return _verdict(gpu, health, "degraded", "ecc_contained", evidence)
        return _verdict(gpu, health, "failed", "ecc_uncorrected", evidence)
    rate = _corrected_in_an_hour(aging)
    if rate is not None and rate > scene.plan.watchdog.ecc_corrected_per_hour:  # 2
        told = {**evidence, "corrected_in_an_hour": rate}
        return _verdict(gpu, health, "degraded", "ecc_corrected_often", told)
    return _verdict(gpu, health, "ok", "", evidence)


def _since_cleared(gpu: GpuReading, count: int, aging: tuple[GpuHealth, ...], scene: Scene) -> int:
    """Return how many came since an operator found the GPU well, if that was in this boot."""
    cleared = scene.history.gpu(gpu.uuid).cleared_at
    if cleared is None or cleared < 0.0:
        return count
    before = (each.ecc_uncorrected_volatile or 0 for each in aging if each.boot_seconds <= cleared)
    # What was counted before an earlier daemon cleared it is not known: those now seen first.
    first = next((each.ecc_uncorrected_volatile or 0 for each in aging), count)
    return count - max(before, default=first)


def _corrected_in_an_hour(aging: tuple[GpuHealth, ...]) -> int | None:
    counts = [
        each.ecc_corrected_volatile
        for each in aging
        if each.ecc_corrected_volatile is not None
        and each.boot_seconds >= aging[-1].boot_seconds - _HOUR
    ]
    return counts[-1] - counts[0] if counts else None


def _verdict(
    gpu: GpuReading, health: GpuHealth, state: State, reason: str, evidence: Evidence
) -> Verdict:
    return Verdict(
        check="ecc",
        subject=gpu.uuid,
        state=state,
        reason=reason,
        evidence=evidence,
        remedy="avoid" if state == "failed" else "none",
        reading_boot_seconds=health.boot_seconds,
    )


CHECK = Check(name="ecc", order=53, run=run)
