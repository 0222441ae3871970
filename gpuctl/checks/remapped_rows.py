"""
Are rows of a GPU's memory out of use, or about to be?

A row that waits for a reset harms nobody meanwhile: NVIDIA's guide to A100 memory error management
has applications that were not hit go on. One that found no spare has nothing left to help it.
"""

from __future__ import annotations

from collections.abc import Iterable

from gpuctl.model import GpuHealth, State, Verdict
from gpuctl.plugin import Check, Scene

_RESET = "reset the GPU (`nvidia-smi -r`, with nothing on it) when it suits"


def run(scene: Scene) -> Iterable[Verdict]:
    """Judge every planned GPU that reports rows (Ampere and later) or pages (before)."""
    for gpu in scene.gpus():
        health = gpu.health
        if health is None:
            continue
        told = (health.remapped_rows_failure, health.remapped_rows_pending)
        if told == (None, None) and health.retired_pages_pending is None:
            continue
        state, reason, hint = _judge(health)
        yield Verdict(
            check="remapped_rows",
            subject=gpu.uuid,
            state=state,
            reason=reason,
            evidence={
                "correctable": health.remapped_rows_correctable,
                "uncorrectable": health.remapped_rows_uncorrectable,
                "hint": hint,
            },
            remedy="avoid" if state == "failed" else "none",
            reading_boot_seconds=health.boot_seconds,
        )


def _judge(health: GpuHealth) -> tuple[State, str, str]:
    if health.remapped_rows_failure:
        return "failed", "row_remap_failed", "have the card replaced"
    if health.remapped_rows_pending:
        return "degraded", "row_remap_pending", _RESET
    if health.retired_pages_pending:
        return "degraded", "page_retirement_pending", _RESET
    return "ok", "", ""


CHECK = Check(name="remapped_rows", order=54, run=run)
