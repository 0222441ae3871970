"""
May a container still open its GPUs?

`systemctl daemon-reload` takes the devices away from running containers where systemd manages their
cgroups (NVIDIA/nvidia-container-toolkit#48). What has them open goes on; whatever it opens next
fails. A new container has them again, so it is renewed, one after another and after a drain.
"""

from __future__ import annotations

from collections.abc import Iterable

from gpuctl.model import Verdict
from gpuctl.plugin import Check, Scene


def run(scene: Scene) -> Iterable[Verdict]:
    """
    Judge every running replica whose processes on a GPU tell what they may open.

    A container that never had the devices in its list has them in some other way, and is well.
    """
    if "gpus" in scene.now.errors or "runtime" in scene.now.errors:
        return
    told_by = _access(scene)
    for replica in scene.plan.replicas:
        container = scene.now.own(replica.name)
        if container is None or container.state != "running":
            continue
        access = told_by.get(container.id)
        before = scene.before.get(("gpu_in_container", replica.name))
        told = before.verdict.evidence if before is not None else {}
        had = told.get("container") == container.id
        if access is None and had and before is not None:
            yield before.verdict
        elif access or (access is False and had):
            yield Verdict(
                check="gpu_in_container",
                subject=replica.name,
                state="ok" if access else "failed",
                reason="" if access else "devices_denied",
                evidence={
                    "container": container.id,
                    "hint": "" if access else "was it `systemctl daemon-reload`? `gpuctl doctor`",
                },
                remedy="none" if access else "restart",
                reading_boot_seconds=scene.now.gpus_boot_seconds,
            )


def _access(scene: Scene) -> dict[str, bool]:
    """Return by container whether all its processes may open GPUs, where any of them tells."""
    told: dict[str, bool] = {}
    for reading in scene.gpus():
        for process in reading.processes or ():
            if process.container is not None and process.device_access is not None:
                before = told.get(process.container, True)
                told[process.container] = before and process.device_access
    return told


CHECK = Check(name="gpu_in_container", order=45, run=run)
