"""
Numbers as people read them. Imports nothing: the fast path of `gpuctl status` uses it too.

A value the device does not report is `None`, and is shown as a dash.
"""

from __future__ import annotations

NONE = "-"

_AGES = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def age(seconds: float | None) -> str:
    """Return a length of time in its two largest units: `42 s`, `3 min 20 s`, `2 d 4 h`."""
    if seconds is None:
        return NONE
    whole = max(0, int(seconds))
    for position, (length, unit) in enumerate(_AGES):
        if whole >= length:
            text = f"{whole // length} {unit}"
            rest = whole % length
            if position + 1 < len(_AGES):
                smaller, smaller_unit = _AGES[position + 1]
                if rest // smaller:
                    text += f" {rest // smaller} {smaller_unit}"
            return text
    return "0 s"


def short_age(seconds: float | None) -> str:
    """Return a length of time in its largest unit, for a column: `42s`, `3min`, `2d`."""
    return age(seconds) if seconds is None else "".join(age(seconds).split()[:2])


def lasted(seconds: float | None) -> str:
    """Return how long something took, with tenths below ten seconds: `0.3 s`, `12 s`."""
    if seconds is None or seconds >= 10:
        return age(seconds)
    return f"{seconds:.1f} s"


def size(count: float | None) -> str:
    """Return bytes in binary units with three digits: `512 MiB`, `5.8 GiB`."""
    if count is None:
        return NONE
    value, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"


def share(ratio: float | None) -> str:
    """Return a ratio (0-1) in per cent."""
    return NONE if ratio is None else f"{ratio * 100:.0f} %"


def degrees(celsius: float | None) -> str:
    return NONE if celsius is None else f"{celsius:.0f} °C"


def watts(power: float | None) -> str:
    return NONE if power is None else f"{power:.0f} W"


def number(value: float | None) -> str:
    return NONE if value is None else f"{value:g}"


def counted(count: int, noun: str) -> str:
    """Return `1 replica`, `2 replicas`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
