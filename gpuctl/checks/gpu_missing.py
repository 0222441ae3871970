"""Is every GPU there that the profile counts on?"""

from __future__ import annotations

from collections.abc import Iterable

from gpuctl.model import Evidence, Verdict
from gpuctl.plugin import Check, Scene


def run(scene: Scene) -> Iterable[Verdict]:
    """Judge each planned GPU by its UUID, and the host by how many it should have."""
    if not scene.plan.gpus and not scene.plan.expected_gpus:
        return
    if scene.now.gpus_boot_seconds is None or "gpus" in scene.now.errors:
        yield Verdict(check="gpu_missing", subject="host", state="unknown", reason="gpus_unread")
        return
    for planned in scene.plan.gpus:
        reading = scene.now.gpus.get(planned.uuid)
        if reading is not None and reading.state == "ok":
            yield _verdict(scene, planned.uuid, "")
        else:
            lost = reading is not None and reading.state == "lost"
            yield _verdict(scene, planned.uuid, "gpu_lost" if lost else "gpu_missing")
    present = sum(gpu.state == "ok" for gpu in scene.now.gpus.values())
    if present < scene.plan.expected_gpus or scene.plan.missing_gpus:
        yield Verdict(
            check="gpu_missing",
            subject="host",
            state="degraded",
            reason="fewer_gpus",
            evidence={
                "expected": scene.plan.expected_gpus,
                "present": present,
                "missing": scene.plan.missing_gpus,
            },
            reading_boot_seconds=scene.now.gpus_boot_seconds,
        )


def _verdict(scene: Scene, uuid: str, reason: str) -> Verdict:
    return Verdict(
        check="gpu_missing",
        subject=uuid,
        state="failed" if reason else "ok",
        reason=reason,
        evidence=_evidence(scene, uuid) if reason else {},
        remedy="avoid" if reason else "none",
        reading_boot_seconds=scene.now.gpus_boot_seconds,
    )


def _evidence(scene: Scene, uuid: str) -> Evidence:
    """Return which card it is, and what the driver reported of it since the host was booted."""
    known = next(gpu for gpu in scene.plan.gpus if gpu.uuid == uuid)
    xids = {each.number: None for each in scene.history.gpu(uuid).xids if each.at >= 0.0}
    return {"index": known.index, "name": known.name, "xids": tuple(xids)}


CHECK = Check(name="gpu_missing", order=50, run=run)
