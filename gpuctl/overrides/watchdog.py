"""What the numbers of `[watchdog]` must keep among themselves, wherever they were set."""

from __future__ import annotations

from itertools import pairwise

from gpuctl.model import WatchdogSettings

#: Keys of which each begins where the one before it ends.
_RISING = (
    (
        *("pressure_normal_ratio", "pressure_high_ratio"),
        *("pressure_critical_ratio", "pressure_full_ratio"),
    ),
    ("heat_warning_celsius", "heat_throttling_celsius", "heat_critical_celsius"),
    ("utilization_low_ratio", "utilization_target_ratio", "utilization_high_ratio"),
)


def doubts(watchdog: WatchdogSettings) -> tuple[tuple[str, str, str], ...]:
    """Return what cannot work together, as (key in `[watchdog]`, what is wrong, hint)."""
    found: list[tuple[str, str, str]] = []
    interval, timeout = watchdog.interval_seconds, watchdog.health_timeout_seconds
    if interval <= 0:
        found.append(("interval", "0 is not an interval", 'the usual one is "5s"'))
    if timeout <= 0:
        found.append(("health_timeout", "0 is not a time-out", 'the usual one is "5s"'))
    if interval >= watchdog.tick_gap_seconds:
        gap = f"{watchdog.tick_gap_seconds:g}s"
        what = f"{interval:g}s reaches tick_gap ({gap}): every failure streak would be forgotten"
        found.append(("interval", what, "set tick_gap to several intervals"))
    if watchdog.startup_limit_seconds < watchdog.startup_seconds:
        limit, startup = f"{watchdog.startup_limit_seconds:g}s", f"{watchdog.startup_seconds:g}s"
        what = f"{limit} is less than startup ({startup})"
        found.append(("startup_limit", what, "set it to startup or more"))
    for keys in _RISING:
        for below, key in pairwise(keys):
            least, value = getattr(watchdog, below), getattr(watchdog, key)
            if value is not None and value <= least:
                what = f"{value:g} does not lie above {below} ({least:g})"
                found.append((key, what, f"set it to more than {below}"))
    return tuple(found)
