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
#: And so many lines of conditions, the last of which may count the others.
_LEAST_CONDITIONS = 2


def screen(
    status: Status,
    events: Sequence[Event],
    *,
    alive: bool,
    now: float,
    lines: int = 1000,
    gateway: str = "",
) -> Group:
    """
    Return everything the operator watches, on a screen of so many lines.

    *events* come oldest first, and as many of the last are shown as there is room for. Where not
    even the replicas have room, those that are not well come first.
    """
    front = [Text(gateway)] if gateway else []
    above: list[RenderableType] = [heading(status, alive=alive, now=now), *front, Text()]
    if status["gpus"]:
        above += [gpus(status["gpus"]), Text()]
    # Headings of the tables, lines between them, and the last line.
    taken = 5 + len(front) + (3 + len(status["gpus"]) if status["gpus"] else 0)
    least = min(len(status["replicas"]), _LEAST_REPLICAS)
    below, height = _conditions(status, lines - taken - least, now)
    taken += height
    shown = _shown(status["replicas"], max(_LEAST_REPLICAS, lines - taken))
    left = [replica for replica in status["replicas"] if replica not in shown]
    middle: list[RenderableType] = [tables.replicas({**status, "replicas": shown}, now, wrap=False)]
    if left:
        middle.append(Text(f"and {summary.phases(left)}", style="dim"))
    room = min(_EVENTS, lines - taken - len(shown) - bool(left) - 2)
    if events and room >= _LEAST_EVENTS:
        below.append(Text("\nlast events", style="bold"))
        told = (journal.line(event, names=tables.gpu_names(status)) for event in events[-room:])
        below += [Text(line, no_wrap=True, overflow="ellipsis") for line in told]
    return Group(*above, *middle, *below, Text("\nq quits", style="dim"))


def _conditions(status: Status, room: int, now: float) -> tuple[list[RenderableType], int]:
    """
    Return the conditions for so many lines, and how many lines they take.

    Without room for all, what has failed comes first, and what is left out is counted.
    """
    found = status["conditions"]
    if not found:
        return [], 0
    names, fit = tables.gpu_names(status), max(_LEAST_CONDITIONS, room - 2)
    if len(found) <= fit:
        return [Text(), tables.conditions(found, names, now)], 2 + len(found)
    worst = sorted(found, key=lambda one: one["state"] != "failed")[: fit - 1]
    shown = [condition for condition in found if condition in worst]
    more = Text(f"and {len(found) - len(shown)} more: gpuctl status", style="yellow")
    return [Text(), tables.conditions(shown, names, now), more], 2 + fit


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
