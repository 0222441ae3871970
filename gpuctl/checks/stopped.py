"""
Is the container running? If not, why: from its exit, the runtime's words, or who removed it.

`killed` is a SIGKILL of which no more is known: `signalled` tells whether a client of the runtime
had it sent. If not, the kernel sent it, or a process of the host; with a limit of RAM nearly used
up when it was last read that is likely an OOM kill which the runtime did not notice (in time).
"""

from __future__ import annotations

from collections.abc import Iterable

from gpuctl.history import ReplicaHistory
from gpuctl.model import Condition, ContainerReading, Evidence, Replica, Verdict
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
        before = scene.before.get(("stopped", replica.name))
        verdict = _judge(replica, scene.now.own(replica.name), history, before)
        if verdict is not None:
            yield verdict


def _judge(
    replica: Replica,
    container: ContainerReading | None,
    history: ReplicaHistory,
    before: Condition | None,
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
            evidence={"container": container.id, "memory_bytes": container.memory_bytes},
        )
    if container.state == "created":
        return None  # it is being started, or its start was refused, which has its own event
    if container.state in ("removing", "removed") and container.id != history.container:
        return None  # it was never seen to run: nothing ended with it
    reason, told = _reason(container), _evidence(container)
    if reason == "killed":
        told = {
            **told,
            "signalled": container.signalled,
            **_last_memory(replica, before, container),
        }
    return _failed(replica, reason, told, container.boot_seconds)


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


def _last_memory(
    replica: Replica, before: Condition | None, container: ContainerReading
) -> Evidence:
    """Return the RAM that it held when it was last seen alive, beside its limit."""
    seen = before.verdict.evidence if before is not None else {}
    held = seen.get("memory_bytes")
    if held is None or seen.get("container") != container.id:
        return {}
    limit = replica.spec.memory_bytes
    return {"last_memory_bytes": held} | ({"memory_limit_bytes": limit} if limit else {})


CHECK = Check(name="stopped", order=10, run=run)
