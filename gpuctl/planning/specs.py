"""
One replica's ContainerSpec: the workload's words, the engine's Launch and the slot's GPUs
in, exactly what the runtime gets out.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

from gpuctl.model import ContainerSpec, ProbeSpec, Variant, WatchdogSettings, Workload
from gpuctl.planning.variants import written
from gpuctl.plugin import Launch, Slot


def container_spec(
    workload: Workload, slot: Slot, launch: Launch, watchdog: WatchdogSettings
) -> ContainerSpec:
    """Return what the runtime gets; a process is on the host's network by nature."""
    grace = workload.stop_grace_seconds
    return ContainerSpec(
        image=launch.image,
        command=launch.command,
        entrypoint=launch.entrypoint,
        environment=environment(workload, slot, launch),
        secrets=dict(sorted(workload.secrets.items())),
        gpus=tuple(gpu.uuid for gpu in slot.gpus),
        host_port=slot.port,
        container_port=launch.container_port,
        network="host" if slot.runtime == "process" else workload.network,
        mounts=(*workload.mounts, *launch.mounts),
        memory_bytes=workload.memory_bytes,
        memory_swap_bytes=workload.memory_swap_bytes,
        shm_bytes=launch.shm_bytes if workload.shm_bytes is None else workload.shm_bytes,
        ulimits=workload.ulimits,
        user=workload.user,
        cap_add=workload.cap_add,
        pids_limit=workload.pids_limit,
        log=workload.log,
        docker_health=workload.docker_health,
        stop_grace_seconds=watchdog.stop_grace_seconds if grace is None else grace,
    )


def environment(workload: Workload, slot: Slot, launch: Launch) -> Mapping[str, str]:
    """Return gpuctl's variables under the engine's under the operator's, sorted by name."""
    merged = {**_gpu_environment(slot), **launch.environment, **workload.environment}
    return dict(sorted(merged.items()))


def _gpu_environment(slot: Slot) -> dict[str, str]:
    """
    Return what names a replica's GPUs to CUDA.

    A container is given its GPUs by UUID in the device request, and numbers them from 0, so a
    `CUDA_VISIBLE_DEVICES` of host indexes would hide them. Without a GPU it says `void`, because
    CUDA's images carry `NVIDIA_VISIBLE_DEVICES=all`. A process has nothing but the variable.
    Source: https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/docker-specialized.html
    """
    order = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"} if slot.gpus else {}
    if slot.runtime == "process":
        return order | {"CUDA_VISIBLE_DEVICES": ",".join(gpu.uuid for gpu in slot.gpus)}
    return order or {"NVIDIA_VISIBLE_DEVICES": "void"}


def probe_spec(workload: Workload, probe: ProbeSpec, watchdog: WatchdogSettings) -> ProbeSpec:
    """Fold the workload's own health settings, else the watchdog's, into the engine's probe."""
    health = workload.health
    interval, timeout = health.interval_seconds, health.timeout_seconds
    return dataclasses.replace(
        probe,
        health_path=health.path or probe.health_path,
        interval_seconds=watchdog.interval_seconds if interval is None else interval,
        timeout_seconds=watchdog.health_timeout_seconds if timeout is None else timeout,
        warmup_requests=0 if probe.warmup_path is None else workload.warmup,
    )


def watchdog_settings(workload: Workload, watchdog: WatchdogSettings) -> WatchdogSettings:
    """Fold the workload's own numbers into the profile's."""
    startup = workload.startup_seconds
    own: dict[str, Any] = {
        "health_timeout_seconds": workload.health.timeout_seconds,
        "hard_failures": workload.health.retries,
        "stop_grace_seconds": workload.stop_grace_seconds,
        "startup_seconds": startup,
        "startup_limit_seconds": None
        if startup is None
        else max(startup, watchdog.startup_limit_seconds),
    }
    given = {name: value for name, value in own.items() if value is not None}
    return dataclasses.replace(watchdog, **given)


def intent_digest(
    workload: Workload, slot: Slot, name: str, variants: tuple[Variant, ...] = ()
) -> str:
    """
    Return the digest of what the operator resolved for this replica, as in its label.

    It leaves out what gpuctl adds, so that an upgrade never replaces a running container.
    """
    intent: dict[str, Any] = {
        "gpus": [gpu.uuid for gpu in slot.gpus],
        "index": slot.index,
        "intent": workload.intent,
        "name": name,
        "port": slot.port,
    }
    if variants:
        intent["variants"] = [written(variant) for variant in variants]
    return f"v1:{_sha256(intent)}"


def spec_digest(spec: ContainerSpec) -> str:
    """Return the digest of everything the runtime gets; what an estimate says is no part of it."""
    told = dataclasses.asdict(spec)
    del told["vram_bytes"]
    return _sha256(told)


def _sha256(value: object) -> str:
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
