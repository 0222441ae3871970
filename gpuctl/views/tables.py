"""
The rich tables: replicas, GPUs, conditions, plan. Data in, renderables out.

Readable without colour: every colour only repeats a word that stands there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from gpuctl.views import summary, words

if TYPE_CHECKING:
    # The model costs a third of what `status` takes on a terminal, and only types are needed.
    from gpuctl.model.status import ConditionStatus, GpuStatus, ReplicaStatus, Status

PHASE_STYLES = {
    "pending": "dim",
    "loading": "cyan",
    "ready": "green",
    "busy": "green",
    "degraded": "yellow",
    "draining": "yellow",
    "backoff": "red",
    "failed": "bold red",
    "stopped": "dim",
}
STATE_STYLES = {
    "ok": "green", "degraded": "yellow", "unknown": "yellow", "failed": "red",
    "lost": "bold red", "missing": "bold red", "reserve": "cyan", "cordoned": "yellow",
}  # fmt: skip

#: A card this warm is near the slowdown temperature of most (83 °C on Pascal, Ampere 3090).
_WARM_CELSIUS = 80.0
_FULL_RATIO = 0.95

#: Between two columns.
_GAP = 2
#: Columns whose text may go on below, and what they get before others are left out for them.
_FLOWING = ("why", "reason", "replicas")
_FLOWING_WIDTH = 20
#: Wider than any row.
_NO_LIMIT = 2000


class Columns:
    """
    A table in the house's plain shape, which leaves out whole columns where it is too wide.

    A row stays one line and a name whole: what goes first are the columns in *spare*, in that
    order. Headings ending in `>` align right. *legends* explain a column, where it is shown.
    """

    def __init__(
        self,
        *headings: str,
        spare: Sequence[str] = (),
        wrap: bool = True,
        legends: Mapping[str, Text] | None = None,
    ) -> None:
        self._headings = headings
        self._spare = spare
        self._wrap = wrap  # whether a long reason goes on below
        self._legends = legends or {}
        self._rows: list[tuple[Any, ...]] = []

    def add_row(self, *cells: Any) -> None:
        """Add one cell for each heading."""
        self._rows.append(cells)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        widths = self._widths(console, options)
        for heading in self._spare:
            if sum(widths.values()) + _GAP * (len(widths) - 1) <= options.max_width:
                break
            del widths[heading]
        yield self._table(tuple(widths))
        yield from (text for heading, text in self._legends.items() if heading in widths)

    def _widths(self, console: Console, options: ConsoleOptions) -> dict[str, int]:
        """Return how many characters each column needs, by its heading."""
        free = options.update_width(_NO_LIMIT)
        widths = {}
        for heading, *cells in zip(self._headings, *self._rows, strict=True):
            needed = [Measurement.get(console, free, cell).maximum for cell in cells]
            widths[heading] = max(len(heading.removesuffix(">")), *needed, 0)
            if heading in _FLOWING:
                widths[heading] = min(widths[heading], _FLOWING_WIDTH)
        return widths

    def _table(self, headings: tuple[str, ...]) -> Table:
        made = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
        for heading in headings:
            flows = self._wrap and heading in _FLOWING
            made.add_column(
                heading.removesuffix(">").strip(),
                justify="right" if heading.endswith(">") else "left",
                no_wrap=not flows,
                overflow="fold" if flows else "ellipsis",
            )
        kept = [self._headings.index(heading) for heading in headings]
        for row in self._rows:
            made.add_row(*(row[index] for index in kept))
        return made


def replicas(status: Status, now: float, *, wrap: bool = True) -> Columns:
    """Return the replicas in the profile's order; without *wrap*, one line each."""
    made = Columns(
        "replica", "phase", "gpu", "port>", "since>", "1h/24h>",
        "in flight>", "ram>", "vram>", "why",
        spare=("in flight>", "ram>", "vram>", "port>", "1h/24h>", "since>"), wrap=wrap,
    )  # fmt: skip
    for replica in status["replicas"]:
        made.add_row(*_replica(replica, now))
    return made


def gpus(readings: Iterable[GpuStatus], now: float) -> Columns:
    """Return one line a GPU, by index; what a card does not report is a dash."""
    made = Columns(
        "gpu>", "name", "state", "vram>", "of>", "used>", "busy>", "temp>", "power>",
        "throttled", "read>", spare=("of>", "read>", "power>", "name", "throttled"),
    )  # fmt: skip
    for gpu in readings:
        made.add_row(*_gpu(gpu, now))
    return made


def conditions(found: Iterable[ConditionStatus], names: Mapping[str, str], now: float) -> Columns:
    """Return one line for each thing that is not as it should be; *names* gives GPUs a name."""
    made = Columns("condition", "subject", "state", "reason", "for>")
    for condition in found:
        made.add_row(
            condition["check"],
            names.get(condition["subject"], condition["subject"]),
            styled(condition["state"], STATE_STYLES),
            condition["reason"],
            words.age(now - condition["since"]),
        )
    return made


def styled(word: str, styles: Mapping[str, str]) -> Text:
    return Text(word, style=styles.get(word, ""))


def gpu_names(status: Status) -> dict[str, str]:
    """Return what to call each GPU: `gpu 3` for its UUID."""
    return {gpu["uuid"]: f"gpu {gpu['index']}" for gpu in status["gpus"]}


def vram_ratio(gpu: GpuStatus) -> float | None:
    """Return the part of the VRAM in use (0-1)."""
    used, total = gpu["memory_used_bytes"], gpu["memory_total_bytes"]
    return None if used is None or not total else used / total


def _replica(replica: ReplicaStatus, now: float) -> tuple[Any, ...]:
    since = replica["since"]
    return (
        replica["name"],
        styled(replica["phase"], PHASE_STYLES),
        summary.names(replica),
        str(replica["port"]),
        words.short_age(None if since is None else now - since),
        Text(summary.restarts(replica), style="yellow" if replica["restarts_1h"] else ""),
        words.number(replica["in_flight"]),
        words.size(replica["memory_bytes"]),
        words.size(replica["vram_bytes"]),
        summary.why(replica, now),
    )


def _gpu(gpu: GpuStatus, now: float) -> tuple[Any, ...]:
    ratio, celsius = vram_ratio(gpu), gpu["temperature_celsius"]
    throttled = gpu["throttle_reasons"]
    return (
        str(gpu["index"]),
        gpu["name"],
        styled(gpu["state"], STATE_STYLES),
        words.size(gpu["memory_used_bytes"]),
        words.size(gpu["memory_total_bytes"]),
        Text(words.share(ratio), style="yellow" if (ratio or 0) >= _FULL_RATIO else ""),
        words.share(gpu["utilization_ratio"]),
        Text(words.degrees(celsius), style="red" if (celsius or 0) >= _WARM_CELSIUS else ""),
        words.watts(gpu["power_watts"]),
        words.NONE if throttled is None else ", ".join(throttled) or "no",
        words.short_age(None if gpu["at"] is None else now - gpu["at"]),
    )
