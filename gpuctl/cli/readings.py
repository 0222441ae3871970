"""`gpus`: the GPUs, as a running daemon last read them, else read now."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gpuctl import gpu_status
from gpuctl.cli import compose
from gpuctl.cli.session import Session, display
from gpuctl.model import WatchdogSettings

if TYPE_CHECKING:
    from gpuctl.model.status import GpuStatus


def show(session: Session, *, as_json: bool) -> None:
    """Print the GPUs as a table or a document."""
    found = gpus(session)
    if as_json:
        print(json.dumps({"schema": 1, "gpus": found}, indent=2))
    elif found:
        from gpuctl.views import gpus as view

        display(view.screen(found, session.now()))
    else:
        session.say("no GPU on this host")


def gpus(session: Session) -> list[GpuStatus]:
    """Return every GPU, by index. Raises `GpuUnavailable` when they cannot be read."""
    status = session.running()
    if status is not None:
        return status["gpus"]
    return [gpu_status.now_only(gpu, WatchdogSettings()) for gpu in compose.read_gpus(session)]
