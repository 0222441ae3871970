"""
How full a GPU's VRAM is, in five levels, and the one thing that follows from each. PURE.

A level says what another model may take of the card. It holds back no replica of the plan, which
was planned with all of them, and no request: an engine that owns 90 % of its card by design is not
overloaded, and its KV cache tells when it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gpuctl.levels import level
from gpuctl.model import GpuReading, WatchdogSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """What one level means."""

    action: str  # a stable word for scripts
    words: str
    fills: str = ""  # the level that another model may fill the card up to; "" is not at all


#: From the emptiest to the fullest.
LEVELS: Mapping[str, Pressure] = {
    "low": Pressure(
        action="load_any", words="another model of any size that fits may be loaded", fills="all"
    ),
    "normal": Pressure(
        action="load_below_full",
        words="another model may be loaded that leaves the card below full",
        fills="full",
    ),
    "high": Pressure(
        action="load_small",
        words="another model may be loaded that leaves the card below critical",
        fills="critical",
    ),
    "critical": Pressure(action="load_none", words="no other model is loaded"),
    "full": Pressure(action="make_room", words="no other model is loaded; lower what is planned"),
}


def ladder(settings: WatchdogSettings) -> tuple[tuple[str, float], ...]:
    """Return each level and the share of the VRAM in use (0-1) that it begins at."""
    return (
        ("low", 0.0),
        ("normal", settings.pressure_normal_ratio),
        ("high", settings.pressure_high_ratio),
        ("critical", settings.pressure_critical_ratio),
        ("full", settings.pressure_full_ratio),
    )


def pressure(gpu: GpuReading, settings: WatchdogSettings, before: str = "") -> str:
    """Return the level of a GPU, "" where it does not report its VRAM."""
    if gpu.state != "ok" or gpu.memory_used_bytes is None or not gpu.memory_total_bytes:
        return ""
    ratio = gpu.memory_used_bytes / gpu.memory_total_bytes
    margin = settings.pressure_margin_ratio
    return level(ratio, ladder(settings), before=before, margin=margin)


def room_bytes(name: str, used: int, total: int, settings: WatchdogSettings) -> int:
    """Return what another model may take of a card of so many bytes that is on this level."""
    ends = {"all": 1.0, "": 0.0, **dict(ladder(settings))}
    return max(0, int(ends[LEVELS[name].fills] * total) - used)
