"""
What do the errors that NVIDIA's driver reported call for? `gpuctl.xids` has the table.

1. one that names a process of a replica: that replica is restarted
2. a reset, a reboot, an examination: the GPU is not used until then, or until an operator says
   that it is well
3. anything else that is worth a look is told for a day
"""

from __future__ import annotations

from collections.abc import Iterable

from gpuctl.history import XidRecord
from gpuctl.model import ContainerReading, Evidence, GpuIdentity, Json, Replica, Verdict
from gpuctl.plugin import Check, Scene
from gpuctl.xids import AVOIDED, TABLE, UNKNOWN, Around, Finding, findings


def run(scene: Scene) -> Iterable[Verdict]:
    """Judge every planned GPU that had one, by what is remembered: NVML need not answer."""
    for gpu in scene.plan.gpus:
        records = _counting(scene, gpu.uuid)
        if records:
            found = findings(records, _around(scene, gpu.uuid))
            yield _of_gpu(gpu, [each for each in found if each.effect != "app"], scene)
    yield from _of_replicas(scene)


def _counting(scene: Scene, uuid: str) -> tuple[XidRecord, ...]:
    """Return the records since an operator last found the GPU well."""
    known = scene.history.gpu(uuid)
    cleared = known.cleared_at
    return tuple(each for each in known.xids if cleared is None or each.at > cleared)


def _around(scene: Scene, uuid: str) -> Around:
    on_it = [r for r in scene.plan.replicas if any(gpu.uuid == uuid for gpu in r.gpus)]
    failures = [scene.history.replica(replica.name).failure for replica in on_it]
    reading = scene.now.gpus.get(uuid)
    health = reading.health if reading is not None else None
    return Around(
        now=scene.now.boot_seconds,
        in_group=any(len(replica.gpus) > 1 for replica in on_it),
        failed_at=max((failure.at for failure in failures if failure), default=None),
        asked=health.recovery_action if health is not None else None,
        asked_at=health.boot_seconds if health is not None else 0.0,
    )


def _of_gpu(gpu: GpuIdentity, found: list[Finding], scene: Scene) -> Verdict:
    if not found:
        return Verdict(check="xid", subject=gpu.uuid, state="ok")
    worst = found[0]
    avoided = worst.effect in AVOIDED
    evidence = dict(_told(worst, scene))
    if len(found) > 1:
        evidence["others"] = tuple(each.number for each in found[1:])
    return Verdict(
        check="xid",
        subject=gpu.uuid,
        state="failed" if avoided else "degraded",
        reason=f"xid_{worst.number}",
        evidence=evidence,
        remedy="avoid" if avoided else "none",
    )


def _told(finding: Finding, scene: Scene) -> dict[str, Json]:
    return {
        "xid": finding.number,
        "meaning": finding.entry.meaning,
        "calls_for": finding.effect,
        "advice": finding.advice,
        "count": finding.count,
        "last_at": scene.now.at + finding.at - scene.now.boot_seconds,
    }


def _of_replicas(scene: Scene) -> Iterable[Verdict]:
    """Yield a verdict on each replica whose running container an Xid names."""
    if "runtime" in scene.now.errors:
        return
    for replica in scene.plan.replicas:
        container = scene.now.own(replica.name)
        if container is None or container.state != "running":
            continue
        record = _naming(replica, container, scene)
        if record is not None:
            yield Verdict(
                check="xid",
                subject=replica.name,
                state="failed",
                reason=f"xid_{record.number}",
                evidence=_named(record, container, scene),
                remedy="restart",
            )


def _naming(replica: Replica, container: ContainerReading, scene: Scene) -> XidRecord | None:
    """Return the latest Xid since this container's start that calls for its restart."""
    started = scene.history.replica(replica.name).container_at
    for gpu in replica.gpus:
        pids = _pids(container, gpu.uuid, scene)
        for record in reversed(_counting(scene, gpu.uuid)):
            if record.at <= started or TABLE.get(record.number, UNKNOWN).effect != "app":
                continue
            if record.pid in pids or record.evidence.get("container") == container.id:
                return record
    return None


def _pids(container: ContainerReading, uuid: str, scene: Scene) -> set[int | None]:
    reading = scene.now.gpus.get(uuid)
    processes = (reading.processes or ()) if reading is not None else ()
    found: set[int | None] = {p.pid for p in processes if p.container == container.id}
    return (found | {container.pid}) - {None}


def _named(record: XidRecord, container: ContainerReading, scene: Scene) -> Evidence:
    return {
        "container": container.id,
        "xid": record.number,
        "meaning": TABLE[record.number].meaning,
        "advice": TABLE[record.number].advice,
        "pid": record.pid,
        "last_at": scene.now.at + record.at - scene.now.boot_seconds,
    }


CHECK = Check(name="xid", order=52, run=run)
