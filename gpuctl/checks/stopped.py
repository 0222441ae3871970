"""Is the container running? If not, why: from its exit, the runtime's words, or who removed it."""

from __future__ import annotations

from collections.abc import Iterable

from gpuctl.history import ReplicaHistory
from gpuctl.model import ContainerReading, Evidence, Replica, Verdict
from gpuctl.plugin import Check, Scene

#: 128 + signal, as Docker reports a process that a signal ended.
_SIGNALS = {131: "SIGQUIT", 134: "SIGABRT", 135: "SIGBUS", 136: "SIGFPE", 139: "SIGSEGV"}


def run(scene: Scene) -> Iterable[Verdict]:
    """Judge every replica that a container was started for and not stopped on purpose."""
    if "runtime" in scene.now.errors:
        for replica in scene.plan.replicas:
            yield Verdict(
                check="stopped", subject=replica.name, state="unknown", reason="runtime_unread"
            )
        return
    for replica in scene.plan.replicas:
        history = scene.history.replica(replica.name)
        verdict = _judge(replica, scene.now.own(replica.name), history)
        if verdict is not None:
            yield verdict


def _judge(
    replica: Replica, container: ContainerReading | None, history: ReplicaHistory
) -> Verdict | None:
    ours = (
        history.removed_container,
        history.terminated_container,
        history.replaced_container,
    )
    if container is None:
        if not history.container or history.container in ours:
            return None
        evidence: Evidence = {"container": history.container, "removed_by": "another client"}
        return _failed(replica, "removed", evidence, None)
    if container.id in ours:
        return None
    if container.state in ("running", "paused"):
        return Verdict(
            check="stopped",
            subject=replica.name,
            state="degraded" if container.state == "paused" else "ok",
            reason="paused" if container.state == "paused" else "",
        )
    if container.state == "created":
        return None  # it is being started, or its start was refused, which has its own event
    return _failed(replica, _reason(container), _evidence(container), container.boot_seconds)


def _failed(replica: Replica, reason: str, evidence: Evidence, read: float | None) -> Verdict:
    return Verdict(
        check="stopped",
        subject=replica.name,
        state="failed",
        reason=reason,
        evidence=evidence,
        remedy="restart",
        reading_boot_seconds=read,
        streak="stopped",
    )


def _reason(container: ContainerReading) -> str:
    if container.state in ("removing", "removed"):
        return "removed"  # and not by us: what we remove has ended before
    if container.oom_killed:
        return "oom_killed"
    if container.error:
        return "start_error"
    match container.exit_code:
        case None:
            return "exited"
        case 0:
            return "exit_0"
        case 137:
            return "killed"
        case 143:
            return "terminated"
        case code if code in _SIGNALS:
            return "crashed"
        case code:
            return f"exit_{code}"


def _evidence(container: ContainerReading) -> Evidence:
    told: dict[str, str | int | float | bool] = {
        "container": container.id,
        "state": container.state,
        "oom_killed": container.oom_killed,
    }
    if container.exit_code is not None:
        told["exit_code"] = container.exit_code
        if container.exit_code in _SIGNALS:
            told["signal"] = _SIGNALS[container.exit_code]
    if container.error:
        told["error"] = container.error
    if container.finished_at is not None:
        told["finished_at"] = container.finished_at
    if container.state in ("removing", "removed"):
        told["removed_by"] = "another client"
    return told


CHECK = Check(name="stopped", order=10, run=run)
