"""
Numbers as people read them, a dash for what a device does not report (`None`).

The fast path of `gpuctl status` uses it too, so it imports nothing but `quantities`.
"""

from __future__ import annotations

from gpuctl.quantities import format_bytes, format_ratio, format_seconds

NONE = "-"


def age(seconds: float | None) -> str:
    """Return how long ago something was, in whole seconds: `42 s`, `3 m 20 s`, `2 d 4 h`."""
    return NONE if seconds is None else format_seconds(max(0, int(seconds)))


def short_age(seconds: float | None) -> str:
    """Return how long ago something was in its largest unit, for a column: `42 s`, `2 d`."""
    return " ".join(age(seconds).split()[:2])


def lasted(seconds: float | None) -> str:
    """Return how long something took: `250 ms`, `3.1 s`, `2 m 5 s`."""
    return NONE if seconds is None else format_seconds(max(0.0, seconds))


def size(count: float | None) -> str:
    """Return bytes: `512 MiB`, `5.8 GiB`."""
    return NONE if count is None else format_bytes(int(count))


def share(ratio: float | None) -> str:
    """Return a ratio (0-1) in whole per cent."""
    return NONE if ratio is None else format_ratio(round(ratio, 2))


def degrees(celsius: float | None) -> str:
    return NONE if celsius is None else f"{celsius:.0f} °C"


def watts(power: float | None) -> str:
    return NONE if power is None else f"{power:.0f} W"


def number(value: float | None) -> str:
    return NONE if value is None else f"{value:g}"


def counted(count: int, noun: str) -> str:
    """Return `1 replica`, `2 replicas`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
