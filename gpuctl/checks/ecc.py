"""
Does a GPU's memory lose bits?

1. bits that could not be corrected: the GPU is not used, but where all that was lost was contained
   in one application (Xid 94), which is what is restarted
2. bits that are corrected ever more often: told, as a card's memory fails slowly
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

from gpuctl.history import GpuHistory
from gpuctl.model import Evidence, GpuHealth, GpuReading, Json, State, Verdict
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
    seen = _seen(gpu, count, scene)
    evidence: Evidence = {
        "uncorrected": count,
        "uncorrected_seen": seen,
        "uncorrected_in_its_life": health.ecc_uncorrected_aggregate,
        "corrected": health.ecc_corrected_volatile,
    }
    if count > seen:  # 1
        numbers = _numbers(scene.history.gpu(gpu.uuid))
        if _CONTAINED in numbers and numbers.isdisjoint(_UNCONTAINED):
            return _verdict(gpu, health, "degraded", "ecc_contained", evidence)
        return _verdict(gpu, health, "failed", "ecc_uncorrected", evidence)
    rate = _corrected_in_an_hour(scene.trends.gpu(gpu.uuid).aging)
    if rate is not None and rate > scene.plan.watchdog.ecc_corrected_per_hour:  # 2
        told = {**evidence, "corrected_in_an_hour": rate}
        return _verdict(gpu, health, "degraded", "ecc_corrected_often", told)
    return _verdict(gpu, health, "ok", "", evidence)


def _seen(gpu: GpuReading, count: int, scene: Scene) -> int:
    """Return how many of these an operator knew of who found the GPU well in this boot."""
    known, before = scene.history.gpu(gpu.uuid), scene.before.get((CHECK.name, gpu.uuid))
    if known.cleared_at is None or known.cleared_at < 0.0:
        return 0
    seen: Json = known.cleared_uncorrected
    if before is not None and (before.verdict.reading_boot_seconds or 0.0) > known.cleared_at:
        seen = before.verdict.evidence.get("uncorrected_seen")
    if not isinstance(seen, int):
        return count  # it could not be read then: all that is first seen was there
    # A counter that has fallen began anew: a reset of the card, or the driver loaded again.
    return seen if count >= seen else 0


def _numbers(known: GpuHistory) -> set[int]:
    """Return the Xids of this boot since an operator last found the GPU well."""
    since = max(0.0, known.cleared_at or 0.0)
    return {each.number for each in known.xids if each.at >= since}


def _corrected_in_an_hour(aging: tuple[GpuHealth, ...]) -> int | None:
    counts = [
        each.ecc_corrected_volatile
        for each in aging
        if each.ecc_corrected_volatile is not None
        and each.boot_seconds >= aging[-1].boot_seconds - _HOUR
    ]
    # One that has fallen began anew, as above.
    grown = (now - before if now >= before else now for before, now in pairwise(counts))
    return sum(grown) if counts else None


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
