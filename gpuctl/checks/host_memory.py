"""Has the host RAM left, or does it swap, or stand still for want of it?"""

from __future__ import annotations

from collections.abc import Iterable

from gpuctl.levels import above, below
from gpuctl.model import HostReading, Verdict, WatchdogSettings
from gpuctl.plugin import Check, Scene


def run(scene: Scene) -> Iterable[Verdict]:
    """Judge the host by what it reports of its memory."""
    host = scene.now.host
    if host.memory_total_bytes is None or "host" in scene.now.errors:
        return
    said = scene.said(CHECK.name, "host")
    reason = _judge(host, host.memory_total_bytes, scene.plan.watchdog, said)
    yield Verdict(
        check="host_memory",
        subject="host",
        state="degraded" if reason else "ok",
        reason=reason,
        evidence={
            "available_bytes": host.memory_available_bytes,
            "total_bytes": host.memory_total_bytes,
            "swap_used_bytes": _swap_used_bytes(host),
            "stall_ratio": host.memory_stall_ratio,
        },
        reading_boot_seconds=host.boot_seconds,
    )


def _judge(host: HostReading, total: int, settings: WatchdogSettings, said: str) -> str:
    available, swapped = host.memory_available_bytes, _swap_used_bytes(host)
    least = settings.host_memory_ratio * total
    if available is not None and below(available, least, before=said == "memory_low"):
        return "memory_low"
    stalled = host.memory_stall_ratio or 0.0
    if above(stalled, settings.memory_stall_ratio, before=said == "memory_stalls"):
        return "memory_stalls"
    most = settings.host_swap_ratio * (host.swap_total_bytes or 0)
    if swapped is not None and above(swapped, most, before=said == "swap_in_use"):
        return "swap_in_use"
    return ""


def _swap_used_bytes(host: HostReading) -> int | None:
    """Return the swap in use; `None` where that is not told."""
    if host.swap_total_bytes is None or host.swap_free_bytes is None:
        return None
    return host.swap_total_bytes - host.swap_free_bytes


CHECK = Check(name="host_memory", order=71, run=run)
