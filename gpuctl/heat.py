"""
How hot a GPU is, in four levels, and the one thing that follows from each. PURE.

Heat changes which replica gets a request and nothing else: a card protects itself by lowering its
clocks, and a replica that moves heats the next one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gpuctl.levels import level
from gpuctl.model import GpuReading, WatchdogSettings

#: Where a card is critical if neither the profile nor the card says otherwise, a little below where
#: most lower their clocks. Source: 93 °C is the maximum of a GeForce RTX 3090 (its specification).
CRITICAL_CELSIUS = 85.0
#: An A100 lowers its clocks from here on. Source: the temperature limit of its operators' guides.
CRITICAL_A100_CELSIUS = 83.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """What one level means."""

    weight: float  # of a replica on such a GPU, among the replicas that could take a request
    words: str


#: From the coolest to the hottest.
LEVELS: Mapping[str, Heat] = {
    "normal": Heat(weight=1.0, words="full load"),
    "warning": Heat(weight=0.8, words="a little less load than its siblings"),
    "throttling": Heat(weight=0.4, words="much less load than its siblings"),
    "critical": Heat(weight=0.0, words="no new request that a sibling can take"),
}


def ladder(gpu: GpuReading, settings: WatchdogSettings) -> tuple[tuple[str, float], ...]:
    """Return each level of this card and the temperature (°C) that it begins at."""
    return (
        ("normal", 0.0),
        ("warning", settings.heat_warning_celsius),
        ("throttling", settings.heat_throttling_celsius),
        ("critical", critical_celsius(gpu, settings)),
    )


def critical_celsius(gpu: GpuReading, settings: WatchdogSettings) -> float:
    """Return where a card is critical: as the profile says, or else by its own limits."""
    if settings.heat_critical_celsius is not None:
        return settings.heat_critical_celsius
    usual = CRITICAL_A100_CELSIUS if "A100" in gpu.name else CRITICAL_CELSIUS
    slowdown = gpu.facts.temperature_slowdown_celsius if gpu.facts is not None else None
    return usual if slowdown is None else min(usual, slowdown)


def heat(gpu: GpuReading, settings: WatchdogSettings, before: str = "") -> str:
    """Return the level of a GPU, "" where it does not report its temperature."""
    if gpu.state != "ok" or gpu.temperature_celsius is None:
        return ""
    margin = settings.heat_margin_celsius
    return level(gpu.temperature_celsius, ladder(gpu, settings), before=before, margin=margin)
