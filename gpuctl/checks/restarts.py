"""Does a replica restart more often than it should?"""

from __future__ import annotations

from collections.abc import Iterable

from gpuctl.model import Verdict
from gpuctl.plugin import Check, Scene

HOUR = 3600.0
DAY = 24 * HOUR


def run(scene: Scene) -> Iterable[Verdict]:
    """Judge every replica that was ever restarted after a failure."""
    settings, now = scene.plan.watchdog, scene.now.boot_seconds
    for replica in scene.plan.replicas:
        restarts = scene.history.replica(replica.name).restarts
        if not restarts:
            continue
        hour = sum(at > now - HOUR for at in restarts)
        day = sum(at > now - DAY for at in restarts)
        often = hour > settings.restarts_per_hour or day > settings.restarts_per_day
        yield Verdict(
            check="restarts",
            subject=replica.name,
            state="degraded" if often else "ok",
            reason="restarts_often" if often else "",
            evidence={"last_hour": hour, "last_day": day},
        )


CHECK = Check(name="restarts", order=60, run=run)
