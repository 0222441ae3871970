"""
What do the errors that NVIDIA's driver reported call for? `gpuctl.xids` has the table.

1. one that names a process of a replica: that replica is restarted
2. a reset, a reboot, an examination: the GPU is not used until then, or until an operator says
   that it is well
3. anything else that is worth a look is told for a day
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from gpuctl.history import XidRecord
from gpuctl.model import ContainerReading, Evidence, GpuIdentity, Json, Replica, Verdict
from gpuctl.plugin import Check, Scene
from gpuctl.xids import AVOIDED, TABLE, UNKNOWN, Around, Finding, findings


class _Report(NamedTuple):
    number: int
    at: float  # boot seconds
    pid: int | None
    container: object = None


def run(scene: Scene) -> Iterable[Verdict]:
    """Judge every planned GPU that had one, by what is remembered: NVML need not answer."""
    for gpu in scene.plan.gpus:
        records, cleared = _records(scene, gpu.uuid), scene.history.gpu(gpu.uuid).cleared_at
        if any(cleared is None or each.at > cleared for each in records):
            found = findings(records, _around(scene, gpu.uuid))
            yield _of_gpu(gpu, [each for each in found if each.effect != "app"], scene)
    yield from _of_replicas(scene)


def _records(scene: Scene, uuid: str) -> tuple[XidRecord, ...]:
    """Return all that is remembered of a GPU, the oldest first."""
    known, reading = scene.history.gpu(uuid), scene.now.gpus.get(uuid)
    # Until a GPU was read its Xids are remembered by its place on the bus.
    bus = reading.pci_bus_id if reading is not None else None
    records = (*known.xids, *(scene.history.gpu(bus).xids if bus else ()))
    return tuple(sorted(records, key=lambda each: each.at))


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
        cleared_at=scene.history.gpu(uuid).cleared_at,
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
        drain=avoided and all(each.drain for each in found if each.effect in AVOIDED),
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
        report = _naming(replica, container, scene)
        if report is not None:
            yield Verdict(
                check="xid",
                subject=replica.name,
                state="failed",
                reason=f"xid_{report.number}",
                evidence=_named(report, container, scene),
                remedy="restart",
            )


def _naming(replica: Replica, container: ContainerReading, scene: Scene) -> _Report | None:
    """Return the latest Xid since this container's start that calls for its restart."""
    started = scene.history.replica(replica.name).container_at
    for gpu in replica.gpus:
        reports = _reports(scene, gpu.uuid)
        pids, alone = _holders(container, gpu.uuid, scene) if reports else (set(), False)
        for report in reports:
            entry = TABLE.get(report.number, UNKNOWN)
            if report.at <= started or entry.effect != "app":
                continue
            if report.pid in pids or report.container == container.id:
                return report
            if report.pid is None and entry.hits_one and alone:
                return report
    return None


def _reports(scene: Scene, uuid: str) -> list[_Report]:
    """
    Return what names a process, the latest first: what is remembered, and what was read.

    What was before an operator last found the GPU well does not count.

    Of a burst one is remembered, which need not be the one that the kernel named a process in.
    """
    cleared = scene.history.gpu(uuid).cleared_at
    found = [
        _Report(each.number, each.at, each.pid, each.evidence.get("container"))
        for each in _records(scene, uuid)
    ]
    found += [
        _Report(each.number, each.boot_seconds, each.pid)
        for each in scene.now.xids
        if each.gpu == uuid
    ]
    counting = [report for report in found if cleared is None or report.at > cleared]
    return sorted(counting, key=lambda report: -report.at)


def _holders(container: ContainerReading, uuid: str, scene: Scene) -> tuple[set[int | None], bool]:
    """Return the container's pids, and whether nobody else is on the GPU."""
    reading = scene.now.gpus.get(uuid)
    processes = (reading.processes or ()) if reading is not None else ()
    own: set[int | None] = {p.pid for p in processes if p.container == container.id}
    return (own | {container.pid}) - {None}, bool(own) and len(own) == len(processes)


def _named(report: _Report, container: ContainerReading, scene: Scene) -> Evidence:
    return {
        "container": container.id,
        "xid": report.number,
        "meaning": TABLE[report.number].meaning,
        "advice": TABLE[report.number].advice,
        "pid": report.pid,
        "last_at": scene.now.at + report.at - scene.now.boot_seconds,
    }


CHECK = Check(name="xid", order=52, run=run)
