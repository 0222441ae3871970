"""Does a GPU keep slowing itself down for heat?"""

from __future__ import annotations

from collections.abc import Iterable

from gpuctl.model import Verdict
from gpuctl.plugin import Check, Scene
from gpuctl.trends import SLOWED_MINUTES


def run(scene: Scene) -> Iterable[Verdict]:
    """
    Judge every planned GPU by how many of the last ten minutes saw a slowdown.

    Six of ten, as gpud's hw-slowdown component has it: 0.6 a minute over ten minutes.
    """
    for gpu in scene.gpus():
        if gpu.throttle_reasons is None:
            continue
        minutes = len(scene.trends.gpu(gpu.uuid).slowed)
        often = minutes >= scene.plan.watchdog.throttle_minutes
        yield Verdict(
            check="throttle",
            subject=gpu.uuid,
            state="degraded" if often else "ok",
            reason="slowed_by_heat" if often else "",
            evidence={
                "minutes": minutes,
                "of": SLOWED_MINUTES,
                "now": gpu.throttle_reasons,
                "temperature_celsius": gpu.temperature_celsius,
                "sm_clock_hertz": gpu.sm_clock_hertz,
            },
        )


CHECK = Check(name="throttle", order=56, run=run)
