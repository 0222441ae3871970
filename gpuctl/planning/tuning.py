"""The engine's options for the card: a workload in, the same with what suits its GPUs filled in."""

from __future__ import annotations

from dataclasses import fields, replace

from gpuctl.model import Tuned, Workload
from gpuctl.plugin import Engine, Slot


def tuned(workload: Workload, slot: Slot, engine: Engine) -> tuple[Workload, tuple[Tuned, ...]]:
    """
    Return the workload to launch, and each setting with its reason; the operator's own stay.

    What is shown and is no option of the engine (the caches it keeps) changes nothing here.
    """
    chosen = tuple(engine.tune(workload, slot)) if engine.tune is not None else ()
    known = {item.name for item in fields(engine.options)}
    options = {t.key: t.value for t in chosen if not t.by_operator and t.key in known}
    return replace(workload, options={**options, **workload.options}), chosen
