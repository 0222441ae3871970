"""
Can a workload's engine run it here: a workload in, its engine or mistakes out.

What the profile alone can tell was checked when it was read; this is what the host decides.
"""

from __future__ import annotations

from collections.abc import Mapping

from gpuctl.model import Inventory, Workload
from gpuctl.planning.mistakes import Mistakes
from gpuctl.plugin import Engine

#: Set by gpuctl, which hands GPUs over by UUID; another value would hide them or show others.
_GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")


def engine_of(
    workload: Workload,
    inventory: Inventory,
    engines: Mapping[str, Engine],
    mistakes: Mistakes,
) -> Engine | None:
    """Return the workload's engine, `None` when it cannot be asked to launch it."""
    where = f"workloads.{workload.name}"
    engine = engines.get(workload.engine)
    if engine is None:
        mistakes.profile(
            f"{where}.engine: there is no engine {workload.engine!r}",
            f"the engines are {', '.join(sorted(engines))}",
        )
        return None
    if inventory.runtime not in engine.runtimes:
        mistakes.profile(
            f"{where}.engine: {engine.name} does not run in runtime {inventory.runtime!r}",
            f"it runs in {', '.join(sorted(engine.runtimes))}",
        )
    _check_launch(workload, engine, inventory, mistakes)
    _check_mounts(workload, inventory, mistakes)
    _check_variables(workload, mistakes)
    try:
        engine.options(**workload.options)
    except (TypeError, ValueError) as error:
        what, _, hint = str(error).partition("; ")
        hint = hint or f"see the options of engine {engine.name}"
        mistakes.profile(f"{where}.options: {what}", hint)
        return None
    return engine


def _check_launch(
    workload: Workload, engine: Engine, inventory: Inventory, mistakes: Mistakes
) -> None:
    where = f"workloads.{workload.name}"
    if engine.needs_image and not workload.image and inventory.runtime == "docker":
        mistakes.profile(f"{where}.image: {engine.name} needs an image on Docker", "name one")
    flags = {argument.partition("=")[0] for argument in workload.args if argument.startswith("-")}
    for flag in sorted(flags & engine.owns):
        mistakes.profile(
            f"{where}.args: {flag} is set by gpuctl",
            "use the workload's own keys, or its options",
        )


def _check_mounts(workload: Workload, inventory: Inventory, mistakes: Mistakes) -> None:
    for mount in workload.mounts:
        source = mount.source
        if inventory.runtime != "process" and "/" in source and not source.startswith("/"):
            mistakes.profile(
                f"workloads.{workload.name}.mounts: {source!r} is neither an absolute path nor "
                "the name of a volume",
                "write an absolute path, or a name without a slash",
            )


def _check_variables(workload: Workload, mistakes: Mistakes) -> None:
    for name in _GPU_VARIABLES:
        if workload.environment.get(name):
            mistakes.profile(
                f"workloads.{workload.name}.environment: {name} is gpuctl's to set: inside a "
                "container its GPUs are numbered from 0",
                "say which GPUs with the workload's `gpus`",
            )
