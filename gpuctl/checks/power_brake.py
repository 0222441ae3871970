"""Does the power supply, or the board, keep a GPU from its clocks?"""

from __future__ import annotations

from collections.abc import Iterable

from gpuctl.model import Verdict
from gpuctl.plugin import Check, Scene
from gpuctl.trends import SLOWED_MINUTES


def run(scene: Scene) -> Iterable[Verdict]:
    """Judge every planned GPU as `throttle` does, by the power brake alone."""
    for gpu in scene.gpus():
        if gpu.throttle_reasons is None:
            continue
        minutes = len(scene.trends.gpu(gpu.uuid).braked)
        often = minutes >= scene.plan.watchdog.throttle_minutes
        yield Verdict(
            check="power_brake",
            subject=gpu.uuid,
            state="degraded" if often else "ok",
            reason="slowed_by_power" if often else "",
            evidence={
                "minutes": minutes,
                "of": SLOWED_MINUTES,
                "power_watts": gpu.power_watts,
                "power_limit_watts": gpu.power_limit_watts,
                "hint": "look at the power supply and the card's power cables",
            },
        )


CHECK = Check(name="power_brake", order=57, run=run)
