"""
`gpuctl gpus`: each GPU with its bars, levels and faults, and when its VRAM will be full.

Data in, renderables or lines out. What an older daemon's Status lacks is a dash.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from gpuctl import heat, pressure
from gpuctl.views import tables, words

if TYPE_CHECKING:
    from gpuctl.model.status import ForecastStatus, GpuStatus

_LEVEL_STYLES = {
    "high": "yellow", "critical": "red", "full": "bold red",
    "warning": "yellow", "throttling": "red",
}  # fmt: skip
_BAR_WIDTH = 12
#: Why a forecast is not known, in words.
_UNKNOWN = {
    "too_few_samples": "not watched for long enough",
    "level_changed": "a model was just loaded or unloaded",
    "loading": "a model is being loaded",
    "steady": "VRAM does not rise steadily",
    "falling": "VRAM is falling",
    "too_far": "more than a day until its next level",
    "full": "no level is left above it",
}
_MINUTE = 60
_MEGAHERTZ = 1e6


def screen(readings: Sequence[GpuStatus], now: float) -> Group:
    """Return the table, and below it what follows from its levels and what is foreseen."""
    below = [*consequences(readings), *forecasts(readings)]
    return Group(table(readings, now), *([Text(), *map(Text, below)] if below else []))


def table(readings: Iterable[GpuStatus], now: float) -> tables.Columns:
    """Return one line a GPU, by index; what a card does not report is a dash."""
    made = tables.Columns(
        "gpu>", "name", "state", "vram>", "of>", "", "pressure", "busy>", "temp>", "heat",
        "power>", "clock>", "throttled", "faults", "processes", "read>",
        spare=(
            *("read>", "clock>", "of>", "", "processes", "name", "power>"),
            *("throttled", "heat", "pressure"),
        ),
    )  # fmt: skip
    for gpu in readings:
        made.add_row(*_cells(gpu, now))
    return made


def consequences(readings: Iterable[GpuStatus]) -> list[str]:
    """Return a line for each level that holds something back, with the GPUs that are on it."""
    found: dict[str, list[str]] = {}
    for gpu in readings:
        full, hot = gpu.get("pressure"), gpu.get("heat")
        if full is not None and full["level"] in ("high", "critical", "full"):
            line = f"{full['level']} pressure: {pressure.LEVELS[full['level']].words}"
            found.setdefault(line, []).append(str(gpu["index"]))
        if hot is not None and heat.LEVELS[hot].weight < 1.0:
            line = f"heat {hot}: {heat.LEVELS[hot].words}"
            found.setdefault(line, []).append(str(gpu["index"]))
    return [f"gpu {', '.join(indexes)}: {line}" for line, indexes in found.items()]


def forecasts(readings: Sequence[GpuStatus]) -> list[str]:
    """Return a line for each GPU whose next level is foreseen, and one for each reason why not."""
    told, unknown = [], dict[str, list[int]]()
    for gpu in readings:
        foreseen = gpu.get("forecast")
        if foreseen is None or gpu["state"] in ("lost", "missing"):
            continue
        if foreseen["unknown"]:
            unknown.setdefault(foreseen["unknown"], []).append(gpu["index"])
        else:
            told.append(f"gpu {gpu['index']}: {forecast(foreseen)}")
    for reason, indexes in unknown.items():
        which = ", ".join(map(str, indexes))
        told.append(f"gpu {which}: no forecast: {_UNKNOWN.get(reason, reason)}")
    return told


def forecast(foreseen: ForecastStatus) -> str:
    """Return `critical in about 40 min (25-70)`, in hours from two on."""
    unit, seconds = ("min", _MINUTE)
    if foreseen["seconds"] >= 120 * _MINUTE:
        unit, seconds = ("h", 60 * _MINUTE)
    about, least, most = (
        max(1, round(foreseen[key] / seconds))
        for key in ("seconds", "least_seconds", "most_seconds")
    )
    return f"{foreseen['level']} in about {about} {unit} ({least}-{most})"


def lines(readings: Iterable[GpuStatus], now: str) -> Iterator[str]:
    """Yield one plain line a GPU with the time *now*, for a log or a pipe."""
    for gpu in readings:
        pressure = gpu.get("pressure")
        told = (
            now,
            f"gpu {gpu['index']}",
            gpu["state"],
            f"vram {words.size(gpu['memory_used_bytes'])}",
            f"({words.share(tables.vram_ratio(gpu))}, {pressure['level'] if pressure else '-'})",
            f"busy {words.share(gpu['utilization_ratio'])}",
            f"{words.degrees(gpu['temperature_celsius'])} ({gpu.get('heat') or '-'})",
            words.watts(gpu["power_watts"]),
            f"throttled {_throttled(gpu)}",
            f"faults {faults(gpu)}",
        )
        yield "  ".join(told)


def faults(gpu: GpuStatus) -> str:
    """Return what was reported of its errors, `no` where none was and `-` where none would be."""
    told = [
        f"Xid {xid['number']}" + (f" x{xid['count']}" if xid["count"] > 1 else "")
        for xid in gpu.get("xids", ())
    ]
    health = gpu.get("health")
    if health is not None:
        if health["ecc_uncorrected"]:
            told.append(f"ECC {health['ecc_uncorrected']}")
        if health["remapped_rows"]:
            told.append(words.counted(health["remapped_rows"], "row"))
        if health["remapped_rows_failure"]:
            told.append("no row left")
        elif health["remapped_rows_pending"]:
            told.append("row pending")
        if (health["recovery_action"] or "none") != "none":
            told.append(f"asks for {health['recovery_action']}")
    if told:
        return ", ".join(told)
    return words.NONE if health is None and "xids" not in gpu else "no"


def _cells(gpu: GpuStatus, now: float) -> tuple[RenderableType, ...]:
    pressure, heat, trouble = gpu.get("pressure"), gpu.get("heat"), faults(gpu)
    return (
        str(gpu["index"]),
        gpu["name"],
        tables.styled(gpu["state"], tables.STATE_STYLES),
        words.size(gpu["memory_used_bytes"]),
        words.size(gpu["memory_total_bytes"]),
        _bar(tables.vram_ratio(gpu)),
        tables.styled(pressure["level"] if pressure else words.NONE, _LEVEL_STYLES),
        words.share(gpu["utilization_ratio"]),
        words.degrees(gpu["temperature_celsius"]),
        tables.styled(heat or words.NONE, _LEVEL_STYLES),
        _power(gpu),
        _clock(gpu.get("sm_clock_hertz")),
        _throttled(gpu),
        Text(trouble, style="" if trouble in ("no", words.NONE) else "red"),
        _processes(gpu),
        words.short_age(None if gpu["at"] is None else now - gpu["at"]),
    )


def _bar(ratio: float | None) -> str:
    """Return a bar that can be read without colour."""
    full = 0 if ratio is None else round(ratio * _BAR_WIDTH)
    return words.NONE if ratio is None else "#" * full + "." * (_BAR_WIDTH - full)


def _power(gpu: GpuStatus) -> str:
    limit = gpu.get("power_limit_watts")
    drawn = words.watts(gpu["power_watts"])
    return drawn if limit is None else f"{drawn.removesuffix(' W')}/{words.watts(limit)}"


def _clock(hertz: float | None) -> str:
    return words.NONE if hertz is None else f"{hertz / _MEGAHERTZ:.0f} MHz"


def _throttled(gpu: GpuStatus) -> str:
    reasons = gpu["throttle_reasons"]
    return words.NONE if reasons is None else ", ".join(reasons) or "no"


def _processes(gpu: GpuStatus) -> str:
    """Return the program that holds most, and how many others hold something."""
    processes = gpu.get("processes")
    if not processes:
        return words.NONE if processes is None else "none"
    largest = processes[0]
    name = largest["name"] or f"pid {largest['pid']}"
    return name if len(processes) == 1 else f"{name} +{len(processes) - 1}"
