"""The views that print: what `status` shows on a terminal. Called by the fast path and by `cli`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from gpuctl.views import summary, tables
from gpuctl.views.console import console

if TYPE_CHECKING:
    # The model costs a third of what `status` takes on a terminal, and only types are needed.
    from gpuctl.model.status import Status


def show_status(status: Status, *, alive: bool, now: float, gateway: str = "") -> None:
    """Print the whole status: header, gateway, replicas, GPUs, conditions, warnings."""
    console().print(whole(status, alive=alive, now=now, gateway=gateway))


def whole(status: Status, *, alive: bool, now: float, gateway: str = "") -> Group:
    """Return header, replicas, GPUs, conditions and warnings, an empty line between them."""
    parts: list[RenderableType] = [
        heading(status, alive=alive, now=now),
        *([Text(gateway)] if gateway else []),
        tables.replicas(status, now),
    ]
    if status["gpus"]:
        parts += [Text(), tables.gpus(status["gpus"], now)]
    if status["conditions"]:
        names = tables.gpu_names(status)
        parts += [Text(), tables.conditions(status["conditions"], names, now)]
        parts.append(Text("`gpuctl why SUBJECT` says what led to it, and what to do", style="dim"))
    parts += [Text(f"warning: {warning}", style="yellow") for warning in status["warnings"]]
    return Group(*parts)


def heading(status: Status, *, alive: bool, now: float) -> Text:
    """Return the line above everything, red when nobody looks after the replicas."""
    trusted = alive and not summary.stale(status, now)
    line = summary.header(status, alive=alive, now=now)
    return Text(line, style="bold" if trusted else "bold red")
