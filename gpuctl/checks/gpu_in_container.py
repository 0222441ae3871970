"""
May a container still open its GPUs?

`systemctl daemon-reload` takes the devices away from running containers where systemd manages their
cgroups (NVIDIA/nvidia-container-toolkit#48). What has them open goes on; whatever it opens next
fails. A new container has them again, so it is renewed, one after another and after a drain.

Version 1 of the cgroups lists the devices. Under version 2 the container is asked to open one; an
image without a shell cannot be asked, and nothing is said of it.
"""

from __future__ import annotations

from collections.abc import Iterable

from gpuctl.model import ContainerReading, Replica, State, Verdict
from gpuctl.plugin import Check, Scene

_HINTS = {"devices_denied": "was it `systemctl daemon-reload`? `gpuctl doctor`"}


def run(scene: Scene) -> Iterable[Verdict]:
    """
    Judge every running replica whose processes on a GPU tell what they may open, or who was asked.

    One that never had the devices in its cgroup's list has them in some other way, and is well.
    """
    if "gpus" in scene.now.errors or "runtime" in scene.now.errors:
        return
    told_by, asked = _access(scene), scene.now.device_access
    for replica in scene.plan.replicas:
        container = scene.now.own(replica.name)
        if container is None or container.state != "running":
            continue
        access = told_by.get(container.id, asked.get(container.id))
        before = scene.before.get((CHECK.name, replica.name))
        had = before is not None and _had(before.verdict, container)
        if access is None and had and before is not None:
            yield before.verdict
        elif access:
            yield _verdict(replica, container, scene, "ok")
        elif access is False and had:
            yield _verdict(replica, container, scene, "failed", "devices_denied")
        elif asked.get(container.id) is False:
            # A new one might be denied as well: it is told, and nothing is renewed again and again.
            yield _verdict(replica, container, scene, "degraded", "devices_denied")


def _had(verdict: Verdict, container: ContainerReading) -> bool:
    """Return whether this container was seen to be able to open its GPUs."""
    return verdict.state in ("ok", "failed") and verdict.evidence["container"] == container.id


def _access(scene: Scene) -> dict[str, bool]:
    """Return by container whether all its processes may open GPUs, where any of them tells."""
    told: dict[str, bool] = {}
    for reading in scene.gpus():
        for process in reading.processes or ():
            if process.container is not None and process.device_access is not None:
                before = told.get(process.container, True)
                told[process.container] = before and process.device_access
    return told


def _verdict(
    replica: Replica, container: ContainerReading, scene: Scene, state: State, reason: str = ""
) -> Verdict:
    return Verdict(
        check=CHECK.name,
        subject=replica.name,
        state=state,
        reason=reason,
        evidence={"container": container.id, "hint": _HINTS.get(reason, "")},
        remedy="restart" if state == "failed" else "none",
        reading_boot_seconds=scene.now.gpus_boot_seconds,
    )


CHECK = Check(name="gpu_in_container", order=45, run=run)
