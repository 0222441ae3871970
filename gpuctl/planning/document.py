"""The document of `gpuctl plan --json`: a Plan and the next Actions in, plain dictionaries out."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from gpuctl import masking
from gpuctl.model import Action, Drain, GpuIdentity, Plan, Replica, Start
from gpuctl.planning.capacity import vram_budget, vram_share

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
        "vram": {
            "weights_bytes": None,
            "kv_bytes": None,
            "overhead_bytes": None,
            "total_bytes": replica.vram_bytes,
            "source": None if replica.vram_bytes is None else "profile",
        },
        "digest": replica.digest,
    }


def _gpu(gpu: GpuIdentity, plan: Plan) -> dict[str, Any]:
    shares = [vram_share(replica) for replica in plan.replicas if gpu in replica.gpus]
    budget = vram_budget(gpu, plan.vram_headroom_bytes)
    known = [share for share in shares if share is not None]
    # One replica that states nothing makes the sum unknown.
    planned = sum(known) if len(known) == len(shares) else None
    return {
        "index": gpu.index,
        "uuid": gpu.uuid,
        "name": gpu.name,
        "budget_bytes": budget,
        "planned_bytes": planned,
        "free_bytes": None if budget is None or planned is None else budget - planned,
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
