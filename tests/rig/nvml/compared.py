"""
What gpuctl reads of a card beside what `nvidia-smi` says of it, field by field.

`tests/e2e/test_real_gpu.py` holds a real card against it; `nvidia-smi` is asked as a user asks it.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from gpuctl.host_state import THROTTLE_REASONS
from gpuctl.model import GpuReading

PAGE = Path(__file__).resolve().parents[3] / "docs" / "hardware.md"
#: `missed`: nvidia-smi has it and gpuctl has not, from the same library; `neither` reports it.
Outcome = Literal["equal", "moved", "differs", "missed", "neither", "gpuctl only", "not listed"]
#: What says that gpuctl reads a card wrongly.
WRONG = frozenset({"differs", "missed"})
#: A field's name before it was changed, in R535.
_FORMERLY = {"clocks_event_reasons.active": "clocks_throttle_reasons.active"}
#: Of one card only, and nobody's business.
_PRIVATE = frozenset({"uuid", "serial"})
_MIB = 1024**2


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """A field of `--query-gpu`: how its text is understood, and the same of a reading."""

    name: str
    read: Callable[[GpuReading], Any]
    parse: Callable[[str], Any] = float
    near: float = 0.0  # it may be so far off, in its own unit
    ratio: float = 0.0  # or by this part of what is told
    within: tuple[float, float] | None = None  # it moves at once: both are to be in here


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One field of one card."""

    field: str
    told: str  # nvidia-smi's words
    read: Any  # gpuctl's, in nvidia-smi's unit
    outcome: Outcome


def compare(gpu: GpuReading, told: Mapping[str, str]) -> tuple[Compared, ...]:
    """Return each of FIELDS; *told* is nvidia-smi's text of those that it lists, by name."""
    return tuple(
        Compared(
            field=field.name,
            told=told.get(field.name, ""),
            read=field.read(gpu),
            outcome=_outcome(field, told.get(field.name), field.read(gpu)),
        )
        for field in FIELDS
    )


def listed(program: str = "nvidia-smi") -> dict[str, str]:
    """Return the fields of `--help-query-gpu`, each with the name that this driver has for it."""
    own = set(re.findall(r'"([a-z][a-z0-9_.]*)"', _said(program, "--help-query-gpu")))
    former = {new: old for new, old in _FORMERLY.items() if old in own}
    return {**former, **{name: name for name in own}}


def ask(program: str = "nvidia-smi") -> tuple[dict[str, str], ...]:
    """Return what it says of each card, by index: the text of every field that it lists."""
    known = listed(program)
    fields = [field.name for field in FIELDS if field.name in known]
    query = ",".join(known[name] for name in fields)
    said = _said(program, f"--query-gpu={query}", "--format=csv,noheader,nounits")
    rows = [[each.strip() for each in line.split(",")] for line in said.splitlines() if line]
    return tuple(dict(zip(fields, row, strict=True)) for row in rows)


def table(compared: Sequence[Compared]) -> str:
    """Return the table of a card for docs/hardware.md; what only this one has is left out."""
    lines = ["| field | nvidia-smi | gpuctl | |", "|---|---|---|---|"]
    for each in compared:
        told, read = ("…", "…") if each.field in _PRIVATE else (each.told, _shown(each.read))
        lines.append(f"| `{each.field}` | {told} | {read} | {each.outcome} |")
    return "\n".join(lines)


def left_over(gpu: GpuReading) -> str:
    """Return a line on the VRAM in use that none of the processes listed is told to hold."""
    listed = gpu.processes
    held = None if listed is None else [each.used_bytes for each in listed]
    if gpu.memory_used_bytes is None or held is None or None in held:
        return "VRAM in use that no process is listed with: not told."
    rest = gpu.memory_used_bytes - sum(each or 0 for each in held)
    return (
        f"VRAM in use that no process is listed with: {rest / _MIB:.0f} MiB ({len(held)} listed)."
    )


def record(text: str, page: Path = PAGE) -> None:
    """Put it on the page between its marks, where GPUCTL_RECORD asks for it."""
    if os.environ.get("GPUCTL_RECORD") != "1":
        return
    begin, end = "<!-- cards -->\n", "<!-- end -->"
    head, found, rest = page.read_text().partition(begin)
    rest = rest.partition(end)[2]
    assert found, f"{page} has no place for cards"
    page.write_text(f"{head}{begin}{text}\n{end}{rest}")


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def _outcome(field: Field, told: str | None, read: Any) -> Outcome:
    if told is None:
        return "not listed"
    # [N/A], [Not Supported], [Unknown Error] and the like; a value is never in brackets.
    if told.startswith("[") or told in ("N/A", ""):
        return "neither" if read is None else "gpuctl only"
    if read is None:
        return "missed"
    try:
        value = field.parse(told)
    except ValueError:
        return "differs"
    if value == read:
        return "equal"
    if field.within is not None:
        low, high = field.within
        return "moved" if low <= value <= high and low <= read <= high else "differs"
    allowed = max(field.near, abs(value) * field.ratio) if field.near or field.ratio else None
    return "moved" if allowed is not None and abs(value - read) <= allowed else "differs"


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) and value < 1e5 else str(value)


def _scaled(name: str, factor: float, part: str = "") -> Callable[[GpuReading], float | None]:
    """Return what reads a number in nvidia-smi's unit."""

    def read(gpu: GpuReading) -> float | None:
        value = getattr(getattr(gpu, part) if part else gpu, name)
        # Powers of ten are no exact factors of a float: nvidia-smi has two decimals at most.
        return None if value is None else round(value * factor, 2)

    return read


def _of(name: str, part: str = "") -> Callable[[GpuReading], Any]:
    return lambda gpu: getattr(getattr(gpu, part) if part else gpu, name)


def _capability(gpu: GpuReading) -> str | None:
    return gpu.compute_capability and "{}.{}".format(*gpu.compute_capability)


def _reasons(gpu: GpuReading) -> int | None:
    if gpu.throttle_reasons is None:
        return None
    return sum(1 << THROTTLE_REASONS.index(reason) for reason in gpu.throttle_reasons)


def _truth(text: str) -> bool:
    words = {"Enabled": True, "Yes": True, "Disabled": False, "No": False}
    if text not in words:
        raise ValueError(f"{text!r} is neither yes nor no")
    return words[text]


def _state(text: str) -> int:
    return int(text.removeprefix("P"))


_now, _facts, _health = _scaled, partial(_scaled, part="facts"), partial(_scaled, part="health")
_PERCENT = (0.0, 100.0)

FIELDS = (
    Field(name="index", read=_of("index"), parse=int),
    Field(name="name", read=_of("name"), parse=str),
    Field(name="uuid", read=_of("uuid"), parse=str),
    Field(name="serial", read=_of("serial", "facts"), parse=str),
    Field(name="pci.bus_id", read=_of("pci_bus_id"), parse=str.lower),
    Field(name="compute_cap", read=_capability, parse=str),
    Field(name="driver_version", read=_of("driver_version", "facts"), parse=str),
    # It rounds to whole MiB.
    Field(name="memory.total", read=_now("memory_total_bytes", 1 / _MIB), near=1),
    Field(name="memory.reserved", read=_now("memory_reserved_bytes", 1 / _MIB), near=1),
    Field(name="memory.used", read=_now("memory_used_bytes", 1 / _MIB), near=1),
    Field(name="temperature.gpu", read=_now("temperature_celsius", 1), near=2),
    Field(name="temperature.memory", read=_now("memory_temperature_celsius", 1), near=2),
    Field(name="power.draw", read=_now("power_watts", 1), ratio=0.1),
    Field(name="enforced.power.limit", read=_now("power_limit_watts", 1)),
    Field(name="power.default_limit", read=_facts("power_limit_default_watts", 1)),
    Field(name="power.min_limit", read=_facts("power_limit_min_watts", 1)),
    Field(name="power.max_limit", read=_facts("power_limit_max_watts", 1)),
    Field(name="utilization.gpu", read=_now("utilization_ratio", 100), within=_PERCENT),
    Field(name="utilization.memory", read=_now("memory_utilization_ratio", 100), within=_PERCENT),
    Field(name="fan.speed", read=_now("fan_ratio", 100), near=5),
    # What is asked wakes a card: its clocks and link rise within milliseconds. MHz, of any card.
    Field(name="clocks.sm", read=_now("sm_clock_hertz", 1e-6), within=(100, 4_000)),
    Field(name="clocks.mem", read=_now("memory_clock_hertz", 1e-6), within=(100, 20_000)),
    Field(name="clocks.max.sm", read=_facts("sm_clock_max_hertz", 1e-6)),
    Field(name="clocks.max.memory", read=_facts("memory_clock_max_hertz", 1e-6)),
    Field(name="pstate", read=_of("performance_state"), parse=_state, within=(0, 15)),
    Field(
        name="clocks_event_reasons.active",
        read=_reasons,
        parse=partial(int, base=16),
        within=(0, 2 ** len(THROTTLE_REASONS) - 1),
    ),
    Field(name="pcie.link.gen.current", read=_health("pcie_generation", 1), within=(1, 7)),
    Field(name="pcie.link.width.current", read=_health("pcie_width", 1), within=(1, 16)),
    Field(name="pcie.link.gen.max", read=_facts("pcie_generation_max", 1)),
    Field(name="pcie.link.width.max", read=_facts("pcie_width_max", 1)),
    Field(name="mig.mode.current", read=_of("mig_enabled", "facts"), parse=_truth),
    Field(name="ecc.mode.current", read=_of("ecc_enabled", "facts"), parse=_truth),
    *(
        Field(
            name=f"ecc.errors.{what}.{since}.total",
            read=_of(f"ecc_{what}_{since}", "health"),
            parse=int,
        )
        for what in ("corrected", "uncorrected")
        for since in ("volatile", "aggregate")
    ),
    Field(
        name="retired_pages.pending",
        read=_of("retired_pages_pending", "health"),
        parse=_truth,
    ),
)
