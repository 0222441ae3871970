"""
Does NVIDIA's driver work, and what does it ask for?

1. its library is of another version than the kernel module, as after an upgrade without a reboot,
   or one of the two is missing, as after a kernel was upgraded without it: what runs runs on;
   whatever is started now would find no GPU
2. it does not answer, or is not asked: what runs is watched by its health alone
3. it asks for a reset or a reboot: the GPU is not used until then; where it asks that the GPU be
   drained before, what runs there is let finish
"""

from __future__ import annotations

from collections.abc import Iterable

from gpuctl.model import GpuHealth, GpuReading, SourceError, State, Verdict
from gpuctl.plugin import Check, Scene
from gpuctl.xids import AVOIDED, drains, recovery, recovery_advice

#: With these nothing new can use a GPU. Source: nvml.h, nvmlReturn_t.
_UNUSABLE = {
    9: "driver_not_loaded",
    12: "driver_library_missing",
    18: "driver_mismatch",
}
#: Where NVML said nothing at all: words of those that ask it → reason.
_SILENT = {
    "no answer": "nvml_hung",
    "Xid": "nvml_distrusted",
}
_HINTS = {
    "driver_not_loaded": "`modprobe nvidia`; a new kernel needs the driver built for it: `dmesg`",
    "driver_library_missing": "install the driver's libraries, of the version of its module",
    "driver_mismatch": "reboot the host, or reload the nvidia kernel modules with nothing on a GPU",
    "nvml_hung": "a GPU may be in trouble: `dmesg | grep NVRM`; often only a reboot helps",
    "nvml_distrusted": "NVML is not asked until it answers a probe: `nvidia-smi` hangs as well",
}


def run(scene: Scene) -> Iterable[Verdict]:
    """Judge the host's driver, and each planned GPU whose driver tells what it wants."""
    error = scene.now.errors.get("gpus")
    if error is not None and scene.plan.gpus:
        verdict = _unread(error)
        if verdict is not None:
            yield verdict
    for gpu in scene.gpus():
        if gpu.health is not None and gpu.health.recovery_action is not None:
            yield _asks(gpu, gpu.health, gpu.health.recovery_action, scene)


def _unread(error: SourceError) -> Verdict | None:
    unusable = _UNUSABLE.get(error.code) if error.code is not None else None
    silent = (reason for words, reason in _SILENT.items() if words in error.message)
    reason = unusable or next(silent, None)
    if reason is None:
        return None  # that it cannot be read is told by `sources`; this has no more to say
    return Verdict(
        check="gpu_driver",
        subject="host",
        state="failed" if unusable else "degraded",
        reason=reason,
        evidence={"error": error.message, "hint": _HINTS[reason]},
    )


def _asks(gpu: GpuReading, health: GpuHealth, action: str, scene: Scene) -> Verdict:
    in_group = any(
        len(replica.gpus) > 1 and any(each.uuid == gpu.uuid for each in replica.gpus)
        for replica in scene.plan.replicas
    )
    effect = recovery(action, in_group=in_group)
    state: State = "ok" if effect == "info" else "failed" if effect in AVOIDED else "degraded"
    return Verdict(
        check="gpu_driver",
        subject=gpu.uuid,
        state=state,
        reason="" if state == "ok" else "recovery_asked",
        evidence={"recovery_action": action, "advice": recovery_advice(effect)},
        remedy="avoid" if state == "failed" else "none",
        drain=state == "failed" and drains(action),
        reading_boot_seconds=health.boot_seconds,
    )


CHECK = Check(name="gpu_driver", order=51, run=run)
