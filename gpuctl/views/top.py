"""The live view: GPUs with bars, replicas, conditions, the last events, on one screen."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.text import Text

from gpuctl.model import Event
from gpuctl.model.status import GpuStatus, ReplicaStatus, Status
from gpuctl.views import journal, summary, tables, words
from gpuctl.views.terminal import heading

_BAR_WIDTH = 16
_EVENTS = 8
#: Fewer than these are not worth a heading.
_LEAST_EVENTS = 2
#: However small the screen, so many replicas are on it.
_LEAST_REPLICAS = 4


def screen(
    status: Status, events: Sequence[Event], *, alive: bool, now: float, lines: int = 1000
) -> Group:
    """
    Return everything the operator watches, on a screen of so many lines.

    *events* come oldest first, and as many of the last are shown as there is room for. Where not
    even the replicas have room, those that are not well come first.
    """
    names = tables.gpu_names(status)
    above: list[RenderableType] = [heading(status, alive=alive, now=now), Text()]
    if status["gpus"]:
        above += [gpus(status["gpus"]), Text()]
    below: list[RenderableType] = []
    if status["conditions"]:
        below += [Text(), tables.conditions(status["conditions"], names, now)]
    # Headings of the tables, lines between them, and the last line.
    taken = 5 + sum(3 + len(part) for part in (status["gpus"], status["conditions"]) if part)
    shown = _shown(status["replicas"], max(_LEAST_REPLICAS, lines - taken))
    left = [replica for replica in status["replicas"] if replica not in shown]
    middle: list[RenderableType] = [tables.replicas({**status, "replicas": shown}, now, wrap=False)]
    if left:
        middle.append(Text(f"and {summary.phases(left)}", style="dim"))
    room = min(_EVENTS, lines - taken - len(shown) - bool(left) - 2)
    if events and room >= _LEAST_EVENTS:
        below.append(Text("\nlast events", style="bold"))
        told = (journal.line(event, names=names) for event in events[-room:])
        below += [Text(line, no_wrap=True, overflow="ellipsis") for line in told]
    return Group(*above, *middle, *below, Text("\nq quits", style="dim"))


def _shown(replicas: list[ReplicaStatus], room: int) -> list[ReplicaStatus]:
    """Return those that fit, in their order; one line is kept for what is said of the others."""
    if len(replicas) <= room:
        return replicas
    worst = sorted(replicas, key=lambda replica: summary.WELL.count(replica["phase"]))[: room - 1]
    return [replica for replica in replicas if replica in worst]


def gpus(readings: Sequence[GpuStatus]) -> tables.Columns:
    """Return one line a GPU, with bars for VRAM and utilization beside their numbers."""
    made = tables.Columns(
        "gpu>", "name", "state", "vram>", "", "busy>", " ", "temp>", "power>",
        spare=(" ", "", "name", "power>"),
    )  # fmt: skip
    for gpu in readings:
        ratio = tables.vram_ratio(gpu)
        made.add_row(
            str(gpu["index"]),
            gpu["name"],
            tables.styled(gpu["state"], tables.STATE_STYLES),
            words.size(gpu["memory_used_bytes"]),
            _bar(ratio),
            words.share(gpu["utilization_ratio"]),
            _bar(gpu["utilization_ratio"]),
            words.degrees(gpu["temperature_celsius"]),
            words.watts(gpu["power_watts"]),
        )
    return made


def _bar(ratio: float | None) -> RenderableType:
    if ratio is None:
        return Text(words.NONE)
    return ProgressBar(total=1.0, completed=ratio, width=_BAR_WIDTH)
