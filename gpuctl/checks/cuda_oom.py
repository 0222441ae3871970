"""
Does a replica run out of VRAM again and again?

It is started again like any that failed. That helps against an accident; a second time within half
an hour it is planned too large for its card, and only its settings help.
"""

from __future__ import annotations

from collections.abc import Iterable

from gpuctl.model import Verdict
from gpuctl.plugin import Check, Scene

#: What takes VRAM of each engine, the largest first; of any other what it may be called.
_LOWER = {
    "llama.cpp": ("context", "parallel", "options.ubatch"),
    "llama-cpp-python": ("context",),
    "vllm": ("options.gpu_memory_utilization", "context", "options.max_num_seqs"),
}
_ANY = ("context", "parallel")


def run(scene: Scene) -> Iterable[Verdict]:
    """Judge every replica that ran out of VRAM of late."""
    since = scene.now.boot_seconds - scene.plan.watchdog.cuda_oom_seconds
    for replica in scene.plan.replicas:
        recent = [oom for oom in scene.history.replica(replica.name).ooms if oom.at > since]
        if not recent:
            continue
        again = len(recent) > 1
        yield Verdict(
            check="cuda_oom",
            subject=replica.name,
            state="degraded" if again else "ok",
            reason="cuda_oom_again" if again else "",
            evidence={
                "count": len(recent),
                "line": recent[-1].line,
                "lower": _LOWER.get(replica.engine, _ANY),
            },
        )


CHECK = Check(name="cuda_oom", order=48, run=run)
