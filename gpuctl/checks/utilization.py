"""
Is a GPU used as much as it should be? Advice: nothing is ever done about it.

A card that is busy all the time makes requests wait; one that seldom is could serve more.
"""

from __future__ import annotations

from collections.abc import Iterable

from gpuctl.model import Verdict
from gpuctl.plugin import Check, Scene

#: Half an hour at the default interval: a burst of work is no use of a card.
_LEAST_SAMPLES = 60


def run(scene: Scene) -> Iterable[Verdict]:
    """Judge every GPU that a replica runs on, by the mean of what is kept of it."""
    settings = scene.plan.watchdog
    used = {gpu.uuid for replica in scene.plan.replicas for gpu in replica.gpus}
    for gpu in scene.gpus():
        samples = scene.trends.gpu(gpu.uuid).samples
        ratios = [s.utilization_ratio for s in samples if s.utilization_ratio is not None]
        if gpu.uuid not in used or len(ratios) < _LEAST_SAMPLES:
            continue
        mean = sum(ratios) / len(ratios)
        high = mean > settings.utilization_high_ratio
        low = mean < settings.utilization_low_ratio
        advice = "it has room for more: another model, or more requests at once" if low else ""
        yield Verdict(
            check="utilization",
            subject=gpu.uuid,
            state="degraded" if high else "ok",
            reason="utilization_high" if high else "",
            evidence={
                "mean_ratio": round(mean, 3),
                "target_ratio": settings.utilization_target_ratio,
                "advice": "add a replica on another GPU: `gpuctl scale`" if high else advice,
            },
        )


CHECK = Check(name="utilization", order=62, run=run)
