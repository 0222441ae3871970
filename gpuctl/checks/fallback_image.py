"""
Is the image there that a workload would need on the CPU?

It is fetched ahead of a failover. Where that failed nothing is wrong yet, and a failover would wait
for it, or find no registry.
"""

from __future__ import annotations

from collections.abc import Iterable

from gpuctl.model import Verdict
from gpuctl.plugin import Check, Scene


def run(scene: Scene) -> Iterable[Verdict]:
    """Judge every workload whose image could not be fetched."""
    for workload in scene.plan.workloads:
        error = scene.history.images.get(workload.fallback_image)
        if error is not None:
            yield Verdict(
                check="fallback_image",
                subject=workload.name,
                state="degraded",
                reason="fallback_image_missing",
                evidence={"image": workload.fallback_image, "error": error},
            )


CHECK = Check(name="fallback_image", order=63, run=run)
