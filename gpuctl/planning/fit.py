"""Does the image run here: a workload in its slot in, what its engine says against it out."""

from __future__ import annotations

from gpuctl.model import Workload
from gpuctl.planning.mistakes import Mistakes
from gpuctl.plugin import Engine, Slot


def check_image(workload: Workload, slot: Slot, engine: Engine, mistakes: Mistakes) -> None:
    """Note what the engine cannot run there, and what it cannot tell."""
    for unfit in engine.fit(workload, slot) if engine.fit is not None else ():
        message = f"workloads.{workload.name}.{unfit.key}: {unfit.what}"
        if unfit.warning:
            mistakes.warn(message)
        else:
            mistakes.host(message, unfit.hint)
