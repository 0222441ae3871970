"""
A workload as a variable of the environment sees it elsewhere: as `on_cpu` and as `scaled`. Pure.

Only what variables change is laid over it here; planning makes the whole of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

from gpuctl.model import Variant, Workload

Kind = Literal["on_cpu", "scaled"]


def shapes(workload: Workload) -> Mapping[Kind, Workload]:
    """Return the shapes in which a workload may run besides its own."""
    found: dict[Kind, Workload] = {"scaled": shape(workload, "scaled")}
    if workload.fallback == "cpu":
        found["on_cpu"] = shape(workload, "on_cpu")
    return found


def shape(workload: Workload, kind: Kind) -> Workload:
    """Return the workload with what one of its variants says laid over it."""
    variant = said(workload, kind)
    engine = variant.engine or workload.engine
    inherited = workload.options if engine == workload.engine else {}
    return replace(
        workload,
        engine=engine,
        gpus=_gpus(workload, kind),
        model=workload.model if variant.model is None else variant.model,
        context=workload.context if variant.context is None else variant.context,
        parallel=workload.parallel if variant.parallel is None else variant.parallel,
        environment={**workload.environment, **variant.environment},
        options=inherited if variant.options is None else variant.options,
        set_by=variant.set_by,
    )


def said(workload: Workload, kind: Kind) -> Variant:
    """Return what the workload says of one of its shapes."""
    return workload.on_cpu if kind == "on_cpu" else workload.scaled


def _gpus(
    workload: Workload, kind: Kind
) -> Literal["each", "none"] | tuple[tuple[int | str, ...], ...]:
    """Return GPUs as many as the shape takes: which, `scale` will decide."""
    if kind == "on_cpu":
        return "none"
    count = workload.scaled.gpus
    return workload.gpus if count is None else (tuple(range(count)),)
