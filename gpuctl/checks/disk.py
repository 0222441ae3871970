"""Is there room on the disk that gpuctl writes its state to, and will there be tomorrow?"""

from __future__ import annotations

from collections.abc import Iterable

from gpuctl.levels import below
from gpuctl.line import even
from gpuctl.model import Verdict
from gpuctl.plugin import Check, Scene

#: Minutes of samples that make a trend: a large model or image is downloaded in less.
_LEAST_SAMPLES = 30


def run(scene: Scene) -> Iterable[Verdict]:
    """Judge the host by its free bytes, and by when they are used up at the last hour's rate."""
    free, settings = scene.now.host.disk_free_bytes, scene.plan.watchdog
    if free is None or "host" in scene.now.errors:
        return
    seconds = _full_in(scene)
    reason = ""
    low = scene.said(CHECK.name, "host") == "disk_low"
    if below(free, settings.disk_free_bytes, before=low):
        reason = "disk_low"
    elif seconds is not None and seconds < settings.disk_full_seconds:
        reason = "disk_filling"
    yield Verdict(
        check="disk",
        subject="host",
        state="degraded" if reason else "ok",
        reason=reason,
        evidence={
            "free_bytes": free,
            "total_bytes": scene.now.host.disk_total_bytes,
            "full_in_seconds": None if seconds is None else round(seconds),
        },
        reading_boot_seconds=scene.now.host.boot_seconds,
    )


def _full_in(scene: Scene) -> float | None:
    """Return the seconds until the disk is full, `None` where it does not fill steadily."""
    points = scene.trends.disk
    line = even(points) if len(points) >= _LEAST_SAMPLES else None
    return line.last / -line.slope if line is not None and line.falls else None


CHECK = Check(name="disk", order=70, run=run)
