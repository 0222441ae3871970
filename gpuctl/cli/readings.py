"""`gpus`: the GPUs, as a running daemon last read them, else read now."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from gpuctl.cli import compose
from gpuctl.cli.session import Session, display

if TYPE_CHECKING:
    from gpuctl.model.status import GpuStatus


def show(session: Session, *, as_json: bool) -> None:
    """Print the GPUs as a table or a document."""
    found = gpus(session)
    if as_json:
        print(json.dumps({"schema": 1, "gpus": found}, indent=2))
    elif found:
        from gpuctl.views import tables

        display(tables.gpus(found, session.now()))
    else:
        session.say("no GPU on this host")


def gpus(session: Session) -> list[GpuStatus]:
    """Return every GPU, by index. Raises `GpuUnavailable` when they cannot be read."""
    status = session.running()
    if status is not None:
        return status["gpus"]
    return [
        {
            "index": gpu.index,
            "uuid": gpu.uuid,
            "name": gpu.name,
            "memory_total_bytes": gpu.memory_total_bytes,
            "memory_used_bytes": gpu.memory_used_bytes,
            "utilization_ratio": gpu.utilization_ratio,
            "temperature_celsius": gpu.temperature_celsius,
            "power_watts": gpu.power_watts,
            "throttle_reasons": None
            if gpu.throttle_reasons is None
            else list(gpu.throttle_reasons),
            "state": gpu.state,
            "at": gpu.at,
        }
        for gpu in compose.read_gpus(session)
    ]
