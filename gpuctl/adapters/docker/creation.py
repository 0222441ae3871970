"""
ContainerSpec → the JSON body of `POST /containers/create`. Pure; called by `DockerRuntime.create`.

Source of every field: Docker Engine API v1.41, operation ContainerCreate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from gpuctl.adapters.docker import secret_files
from gpuctl.model import ContainerSpec, DockerHealth, Mount

Body = dict[str, Any]

#: Docker counts the times of a health check in nanoseconds.
NANOSECONDS = 1_000_000_000


def body(
    spec: ContainerSpec, labels: Mapping[str, str], image: Mapping[str, Any] | None = None
) -> Body:
    """
    Return the request that creates the container of *spec*, carrying *labels*.

    *image* is the image's `Config`, which matters to a spec with secrets only.
    """
    found: Body = {
        "Image": spec.image,
        "Env": [f"{name}={value}" for name, value in spec.environment.items()],
        "Labels": dict(labels),
        "StopTimeout": math.ceil(spec.stop_grace_seconds),
        "Healthcheck": _healthcheck(spec.docker_health),
        "HostConfig": _host_config(spec),
        **_program(spec, image or {}),
    }
    if spec.user is not None:
        found["User"] = spec.user
    if spec.network != "host":
        found["ExposedPorts"] = {_port(spec): {}}
    return found


def _program(spec: ContainerSpec, image: Mapping[str, Any]) -> Body:
    """Return what runs: an empty Cmd or Entrypoint would replace the image's, absent keeps it."""
    found: Body = {}
    if spec.command:
        found["Cmd"] = list(spec.command)
    if spec.entrypoint is not None:
        found["Entrypoint"] = list(spec.entrypoint)
    arguments = secret_files.arguments(spec.entrypoint, spec.command, image)
    # With nothing to run there is nothing to wrap, and the engine says so.
    if spec.secrets and arguments:
        return {"Entrypoint": secret_files.entrypoint(spec.secrets), "Cmd": arguments}
    return found


def _host_config(spec: ContainerSpec) -> Body:
    secrets = secret_files.mounts(spec.secrets)
    return {
        **_limits(spec),
        **_confinement(spec),
        **_network(spec),
        "Mounts": [_mount(mount) for mount in (*spec.mounts, *secrets)],
        "DeviceRequests": _device_requests(spec),
        "LogConfig": {
            "Type": "json-file",
            "Config": {"max-size": str(spec.log.max_bytes), "max-file": str(spec.log.files)},
        },
        # A policy of Docker's own would start what the operator stopped and hide every failure.
        "RestartPolicy": {"Name": "no"},
    }


def _limits(spec: ContainerSpec) -> Body:
    """Return the resource limits; one that is not set is left out, which is Docker's default."""
    sizes = {
        "Memory": spec.memory_bytes,
        "MemorySwap": spec.memory_swap_bytes,
        "ShmSize": spec.shm_bytes,
        "PidsLimit": spec.pids_limit,
    }
    limits: Body = {name: size for name, size in sizes.items() if size is not None}
    limits["Ulimits"] = [
        {"Name": limit.name, "Soft": limit.soft, "Hard": limit.hard} for limit in spec.ulimits
    ]
    return limits


def _confinement(spec: ContainerSpec) -> Body:
    return {
        "CapDrop": ["ALL"],
        "CapAdd": list(spec.cap_add),
        "SecurityOpt": ["no-new-privileges:true"],
        # PID 1 must reap: engines fork workers, and an orphan keeps its VRAM.
        "Init": True,
    }


def _network(spec: ContainerSpec) -> Body:
    if spec.network == "host":
        return {"NetworkMode": "host"}
    # Docker's published ports bypass the host's firewall, so only loopback is ever bound.
    binding = {"HostIp": "127.0.0.1", "HostPort": str(spec.host_port)}
    return {"NetworkMode": spec.network, "PortBindings": {_port(spec): [binding]}}


def _port(spec: ContainerSpec) -> str:
    return f"{spec.container_port}/tcp"


def _mount(mount: Mount) -> Body:
    return {
        # Mounts, unlike Binds, refuses a path that is not there instead of creating it as root.
        "Type": "bind" if mount.source.startswith("/") else "volume",
        "Source": mount.source,
        "Target": mount.target,
        "ReadOnly": mount.read_only,
    }


def _device_requests(spec: ContainerSpec) -> list[Body]:
    if not spec.gpus:
        return []
    # An empty driver lets the engine choose CDI or the runtime hook by the capability.
    return [{"Driver": "", "DeviceIDs": list(spec.gpus), "Capabilities": [["gpu"]]}]


def _healthcheck(health: DockerHealth | None) -> Body:
    if health is None:
        # The image's own check would probe the engine a second time, at its own pace.
        return {"Test": ["NONE"]}
    return {
        "Test": list(health.test),
        "Interval": round(health.interval_seconds * NANOSECONDS),
        "Timeout": round(health.timeout_seconds * NANOSECONDS),
        "Retries": health.retries,
        "StartPeriod": round(health.start_period_seconds * NANOSECONDS),
    }
