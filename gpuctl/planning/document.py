"""The document of `gpuctl plan --json`: a Plan and the next Actions in, plain dictionaries out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from gpuctl.model import Action, Drain, GpuIdentity, Plan, Replica, Start
from gpuctl.planning.capacity import vram_budget, vram_share

SCHEMA = 1

MASK = "********"

_SECRET = re.compile(r"KEY|TOKEN|SECRET|PASSW|CREDENTIAL", re.IGNORECASE)
_KEY_FLAG = re.compile(r"--api-key(=.*)?", re.DOTALL)


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


def masked(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment with the values of secrets hidden, told by their names."""
    return {
        name: MASK if value and _SECRET.search(name) else value
        for name, value in environment.items()
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
        "command": _command((*(spec.entrypoint or ()), *spec.command)),
        "environment": masked(spec.environment) | dict.fromkeys(spec.secrets, MASK),
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


def _command(words: tuple[str, ...]) -> list[str]:
    shown: list[str] = []
    for before, word in zip(("", *words), words, strict=False):
        match = _KEY_FLAG.fullmatch(word)
        if match and match[1]:
            shown.append(f"--api-key={MASK}")
        else:
            shown.append(MASK if before == "--api-key" else word)
    return shown


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
