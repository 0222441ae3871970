"""The live view: GPUs with bars, replicas, conditions, the last events, on one screen."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from gpuctl.model import Event
from gpuctl.model.status import GpuStatus, Status
from gpuctl.views import journal, tables, words
from gpuctl.views.terminal import heading

_BAR_WIDTH = 16
_EVENTS = 8


def screen(status: Status, events: Sequence[Event], *, alive: bool, now: float) -> Group:
    """Return everything the operator watches; *events* oldest first, the last few are shown."""
    parts: list[RenderableType] = [heading(status, alive=alive, now=now), Text()]
    if status["gpus"]:
        parts += [gpus(status["gpus"]), Text()]
    parts.append(tables.replicas(status, now))
    names = tables.gpu_names(status)
    if status["conditions"]:
        parts += [Text(), tables.conditions(status["conditions"], names, now)]
    if events:
        parts.append(Text("\nlast events", style="bold"))
        lines = (journal.named(journal.line(event), names) for event in events[-_EVENTS:])
        parts += [Text(line, no_wrap=True, overflow="ellipsis") for line in lines]
    parts.append(Text("\nq quits", style="dim"))
    return Group(*parts)


def gpus(readings: Sequence[GpuStatus]) -> Table:
    """Return one line a GPU, with bars for VRAM and utilization."""
    made = tables.table(
        "gpu>", "name", "state", "vram", "used>", "busy", "part>", "temp>", "power>"
    )
    for gpu in readings:
        ratio = tables.vram_ratio(gpu)
        made.add_row(
            str(gpu["index"]),
            gpu["name"],
            tables.styled(gpu["state"], tables.STATE_STYLES),
            _bar(ratio),
            words.size(gpu["memory_used_bytes"]),
            _bar(gpu["utilization_ratio"]),
            words.share(gpu["utilization_ratio"]),
            words.degrees(gpu["temperature_celsius"]),
            words.watts(gpu["power_watts"]),
        )
    return made


def _bar(ratio: float | None) -> RenderableType:
    if ratio is None:
        return Text(words.NONE)
    return ProgressBar(total=1.0, completed=ratio, width=_BAR_WIDTH)
