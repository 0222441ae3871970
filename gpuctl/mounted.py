"""Where a model's file is, as the server that loads it sees it: workload and slot in, path out."""

from __future__ import annotations

from pathlib import PurePosixPath

from gpuctl.errors import PlanRefused
from gpuctl.model import Workload
from gpuctl.plugin import Slot

MODELS_TARGET = "/models"


def model_path(workload: Workload, slot: Slot) -> str:
    """
    Return the model file as the server sees it.

    An absolute path is taken as it is; a relative one lies in the mount whose target is /models.

    Raises:
        PlanRefused: nothing is mounted there, or a volume of Docker for a process.
    """
    return seen(workload, slot, workload.model, "model")


def seen(workload: Workload, slot: Slot, name: str, key: str) -> str:
    """Return another file of a workload in the same way; *key* is what names it in a profile."""
    path = PurePosixPath(name)
    if path.is_absolute():
        return str(path)
    mount = next((m for m in workload.mounts if m.target.rstrip("/") == MODELS_TARGET), None)
    if mount is None:
        raise PlanRefused(
            f"workloads.{workload.name}.{key}: {name!r} is relative, and nothing is "
            f"mounted at {MODELS_TARGET}",
            f'add a mount such as "models:{MODELS_TARGET}:ro", or give an absolute path',
        )
    if slot.runtime != "process":
        return str(PurePosixPath(MODELS_TARGET) / path)
    if not PurePosixPath(mount.source).is_absolute():
        raise PlanRefused(
            f"workloads.{workload.name}.mounts: {mount.source!r} is a volume of Docker, "
            "and a process has none",
            f"mount a directory by its absolute path at {MODELS_TARGET}",
        )
    return str(PurePosixPath(mount.source) / path)
