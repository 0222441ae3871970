"""
The sums of VRAM for people: what each replica takes, line by line, and a bar for each GPU.

Readable without colour: every part of a bar has a sign of its own, and the legend names it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import groupby
from math import floor

from rich.table import Table
from rich.text import Text

from gpuctl.model import GpuIdentity, Plan, Replica, VramPlan
from gpuctl.planning.capacity import Room
from gpuctl.views import words
from gpuctl.views.tables import Columns

_BAR_WIDTH = 32
#: What a bar is made of: a name, its sign and its colour.
_PARTS = {
    "weights": ("█", "cyan"),
    "KV cache": ("▓", "blue"),
    "the rest of it": ("▒", "magenta"),
    "in one sum": ("=", "cyan"),
    "driver": ("#", "red"),
    "others": ("x", "red"),
    "free": ("·", "dim"),
    "headroom": ("-", "yellow"),
}
_SOURCES = {
    "profile": "as the profile states",
    "headers": "estimated from the model's headers",
    "measured": "measured, as it ran before",
    "claim": "a share of the card, whatever the model",
}


def replicas(plan: Plan) -> Table:
    """Return the sum of each workload's replicas, line by line; those alike stand once."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
    made.add_column(no_wrap=True)
    made.add_column(justify="right", no_wrap=True)
    made.add_column(overflow="fold")
    for (_, vram), alike in groupby(plan.replicas, key=lambda one: (one.workload, one.vram)):
        if vram is None:
            continue
        same = tuple(alike)
        bold = Text(_names([one.name for one in same]), style="bold")
        made.add_row(bold, words.size(vram.total_bytes), _SOURCES.get(vram.source, vram.source))
        for line in vram.lines:
            amount = words.size(abs(line.amount_bytes))
            signed = f"-{amount}" if line.amount_bytes < 0 else amount
            made.add_row(f"  {line.label}", signed, Text(line.why, style="dim"))
        count = len(same[0].gpus)
        if count > 1:
            why = (
                "as on the fullest of them: layers are whole" if vram.uneven_bytes else "all alike"
            )
            share = words.size(vram.share_bytes(count))
            made.add_row(f"  each of {count} GPUs", share, Text(why, style="dim"))
        for note in vram.notes:
            made.add_row("  note", "", Text(note, style="yellow"))
    return made


def gpus(plan: Plan) -> Columns:
    """Return one line a GPU: a bar, what is planned on it, what is free, and for whom."""
    made = Columns(
        "gpu>", "name", "vram", "planned>", "free>", "headroom>", "driver>", "others>",
        "of>", "replicas",
        spare=("name", "driver>", "headroom>", "others>", "vram"), legends={"vram": _legend(plan)},
    )  # fmt: skip
    for gpu in plan.gpus:
        room = Room.of(gpu, plan.replicas, plan.vram_headroom_bytes)
        on_it = [replica.name for replica in plan.replicas if gpu in replica.gpus]
        made.add_row(
            str(gpu.index),
            gpu.name,
            bar(room, plan),
            # One replica of which nothing is known makes the sum unknown.
            "not known" if room.unknown else words.size(room.planned_bytes),
            words.NONE if room.unknown else _signed(room.free_bytes),
            words.size(plan.vram_headroom_bytes),
            words.size(gpu.reserved_bytes),
            words.size(gpu.foreign_bytes),
            words.size(gpu.memory_total_bytes),
            ", ".join(on_it) or ("reserve" if gpu in plan.reserve else words.NONE),
        )
    return made


def strangers(plan: Plan) -> Iterator[str]:
    """Yield who else holds VRAM, GPU by GPU."""
    for gpu in plan.gpus:
        if gpu.foreign_bytes and gpu.foreign:
            held = words.size(gpu.foreign_bytes)
            yield f"gpu {gpu.index}: {held} held by {', '.join(gpu.foreign)}"


def _legend(plan: Plan) -> Text:
    """Return what the signs of the bars mean."""
    drawn = [_amounts(gpu, gpu.memory_total_bytes or 0, plan) for gpu in plan.gpus]
    told = Text()
    for name, (sign, style) in _PARTS.items():
        if any(amounts[name] for amounts in drawn):
            told.append(sign, style=style)
            told.append(f" {name}   ")
    told.rstrip()
    return told


def bar(room: Room, plan: Plan) -> Text:
    """Return a GPU's memory as a bar; empty where its size is not known."""
    total = room.gpu.memory_total_bytes
    if not total:
        return Text(words.NONE)
    drawn = Text()
    for name, cells in _cells(_amounts(room.gpu, total, plan), _BAR_WIDTH).items():
        sign, style = _PARTS[name]
        drawn.append(sign * cells, style=style)
    return drawn


def _amounts(gpu: GpuIdentity, total: int, plan: Plan) -> dict[str, int]:
    """Return the bytes of each part of a GPU's bar."""
    amounts = dict.fromkeys(_PARTS, 0)
    for replica in plan.replicas:
        share = replica.share_bytes if gpu in replica.gpus else None
        if share and replica.vram_bytes:
            for name, amount in _split(replica, replica.vram_bytes).items():
                amounts[name] += amount * share // replica.vram_bytes
    amounts["driver"] = gpu.reserved_bytes or 0
    amounts["others"] = gpu.foreign_bytes or 0
    amounts["headroom"] = plan.vram_headroom_bytes
    amounts["free"] = max(0, total - sum(amounts.values()))
    return amounts


def settings(plan: Plan) -> Columns | None:
    """Return what was chosen for the cards, with its reason, and what the operator set."""
    made = Columns("workload", "setting", "value", "why", wrap=True)
    seen: set[tuple[object, ...]] = set()
    for replica in plan.replicas:
        for one in replica.tuned:
            value = "the engine's own" if one.value is None else _value(one.value)
            row = (replica.workload, one.key, value, one.why)
            if row not in seen:
                seen.add(row)
                made.add_row(*row[:3], f"yours: {one.why}" if one.by_operator else one.why)
    return made if seen else None


def _value(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _names(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}, each"


def _signed(amount: int | None) -> str:
    if amount is None or amount >= 0:
        return words.size(amount)
    return f"-{words.size(-amount)}"


def _split(replica: Replica, total: int) -> Mapping[str, int]:
    """Return a replica's bytes by the part of a bar they are drawn in."""
    vram: VramPlan | None = replica.vram
    weights = min(total, vram.weights_bytes or 0) if vram is not None else 0
    cache = min(total - weights, vram.kv_bytes or 0) if vram is not None else 0
    if not weights and not cache:
        return {"in one sum": total}
    return {"weights": weights, "KV cache": cache, "the rest of it": total - weights - cache}


def _cells(amounts: Mapping[str, int], width: int) -> Mapping[str, int]:
    """Return whole cells for each amount that add up to the width: the largest parts of one win."""
    total = sum(amounts.values())
    exact = {name: amount * width / total for name, amount in amounts.items()}
    cells = {name: floor(share) for name, share in exact.items()}
    left = width - sum(cells.values())
    for name in sorted(exact, key=lambda name: cells[name] - exact[name])[:left]:
        cells[name] += 1
    return cells
