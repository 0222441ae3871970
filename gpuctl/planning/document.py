"""The document of `gpuctl plan --json`: a Plan and the next Actions in, plain dictionaries out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gpuctl import masking
from gpuctl.model import Action, Drain, GpuIdentity, Plan, Replica, Start, VramPlan
from gpuctl.planning.capacity import Room

SCHEMA = 1


def plan_document(
    plan: Plan, actions: Iterable[Action] = (), errors: Iterable[str] = ()
) -> dict[str, Any]:
    """Return the plan as JSON, with secrets masked; what is not known yet is null."""
    return {
        "schema": SCHEMA,
        "profile": plan.profile,
        "replicas": [_replica(replica) for replica in plan.replicas],
        "gpus": [_gpu(gpu, plan) for gpu in plan.gpus],
        "reserve": [gpu.uuid for gpu in plan.reserve],
        "missing_gpus": list(plan.missing_gpus),
        "actions": [_action(action) for action in actions],
        "warnings": list(plan.warnings),
        "errors": list(errors),
    }


def _replica(replica: Replica) -> dict[str, Any]:
    spec = replica.spec
    return {
        "name": replica.name,
        "workload": replica.workload,
        "engine": replica.engine,
        "gpus": [{"index": gpu.index, "uuid": gpu.uuid} for gpu in replica.gpus],
        "port": spec.host_port,
        "image": spec.image,
        "command": masking.command((*(spec.entrypoint or ()), *spec.command)),
        "environment": masking.environment(spec.environment)
        | dict.fromkeys(spec.secrets, masking.MASK),
        "memory_bytes": spec.memory_bytes,
        "vram": _vram(replica),
        "tuned": [
            {"key": t.key, "value": t.value, "why": t.why, "by_operator": t.by_operator}
            for t in replica.tuned
        ],
        "digest": replica.digest,
    }


def _vram(replica: Replica) -> dict[str, Any]:
    """Return the sum of one replica; its lines add up to the total, but for a stated one."""
    vram = replica.vram
    if vram is None:
        vram = VramPlan(total_bytes=0, source="")
    return {
        "weights_bytes": vram.weights_bytes,
        "kv_bytes": vram.kv_bytes,
        "overhead_bytes": vram.overhead_bytes,
        "total_bytes": replica.vram_bytes,
        "source": vram.source or None,
        "least_bytes": vram.least_bytes,
        "share_bytes": replica.share_bytes,
        "lines": [
            {"label": line.label, "amount_bytes": line.amount_bytes, "why": line.why}
            for line in vram.lines
        ],
        "notes": list(vram.notes),
    }


def _gpu(gpu: GpuIdentity, plan: Plan) -> dict[str, Any]:
    room = Room.of(gpu, plan.replicas, plan.vram_headroom_bytes)
    # One replica of which nothing is known makes the sum unknown.
    known = not room.unknown
    return {
        "index": gpu.index,
        "uuid": gpu.uuid,
        "name": gpu.name,
        "total_bytes": gpu.memory_total_bytes,
        "headroom_bytes": plan.vram_headroom_bytes,
        "reserved_bytes": gpu.reserved_bytes,
        "foreign_bytes": gpu.foreign_bytes,
        "foreign": list(gpu.foreign),
        "budget_bytes": room.budget_bytes,
        "planned_bytes": room.planned_bytes if known else None,
        "free_bytes": room.free_bytes if known else None,
    }


def _action(action: Action) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "action": type(action).__name__.lower(),
        "replica": action.replica,
        "reason": action.reason,
    }
    if isinstance(action, Start):
        return shown
    shown["container"] = action.container
    if isinstance(action, Drain):
        return shown | {"deadline_seconds": action.deadline_seconds}
    return shown | {"step": action.step}
