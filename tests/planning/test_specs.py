"""Exactly what the runtime gets for one replica."""

from __future__ import annotations

from typing import Any

import pytest

from gpuctl.model import (
    GIB,
    MIB,
    ContainerSpec,
    DockerHealth,
    LogRotation,
    Mount,
    Ulimit,
)

from .make import gpu, host, planned, workload

#: Cards that every engine runs on, and whose code is in the images.
CARDS = tuple(gpu(index, name="NVIDIA RTX A6000", memory_total_bytes=48 * GIB) for index in (0, 1))


def spec(runtime: str = "docker", **changes: Any) -> ContainerSpec:
    return (
        planned(workload(**({"gpus": ((0,),)} | changes)), on=host(CARDS, runtime=runtime))
        .replicas[0]
        .spec
    )


def test_everything_written() -> None:
    """All that the profile says of the container reaches the runtime."""
    written: dict[str, Any] = {
        "mounts": (Mount(source="models", target="/models", read_only=True),),
        "memory_bytes": 1536 * MIB,
        "memory_swap_bytes": 2048 * MIB,
        "shm_bytes": 32 * GIB,
        "ulimits": (Ulimit(name="memlock", soft=-1, hard=-1),),
        "user": "1000:1000",
        "cap_add": ("SYS_NICE",),
        "pids_limit": 512,
        "log": LogRotation(max_bytes=10 * MIB, files=5),
        "docker_health": DockerHealth(test=("CMD", "true")),
        "stop_grace_seconds": 45.0,
    }
    made = spec(**written, secrets={"B": "/b", "A": "/a"})
    assert {name: getattr(made, name) for name in written} == written
    assert list(made.secrets.items()) == [("A", "/a"), ("B", "/b")]
    assert (made.gpus, made.host_port, made.container_port) == (("GPU-0000",), 8081, 8080)
    assert made.network == "bridge"


def test_environment_of_a_gpu() -> None:
    """GPUs are counted in the bus's order; which they are is the device request's to say."""
    made = spec(environment={"Z": "1", "A": "2"}).environment
    assert list(made.items()) == [("A", "2"), ("CUDA_DEVICE_ORDER", "PCI_BUS_ID"), ("Z", "1")]


def test_environment_without_gpu() -> None:
    """CUDA's images ask for all GPUs, so a container without one says that it wants none."""
    assert spec(gpus="none").environment == {"NVIDIA_VISIBLE_DEVICES": "void"}


@pytest.mark.parametrize(
    ("gpus", "environment"),
    [
        pytest.param(
            ((1, 0),),
            {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "GPU-0001,GPU-0000"},
            id="by UUID",
        ),
        pytest.param("none", {"CUDA_VISIBLE_DEVICES": ""}, id="none"),
    ],
)
def test_environment_of_a_process(gpus: Any, environment: dict[str, str]) -> None:
    """A process has no device request: the variable names its GPUs, by UUID."""
    made = spec(runtime="process", gpus=gpus, model="/m.gguf")
    assert made.environment == environment
    assert (made.network, made.host_port, made.container_port) == ("host", 8081, 8081)


def test_operator_prevails() -> None:
    """The operator's variable is stronger than the engine's, and the engine's than ours."""
    made = spec(
        engine="vllm",
        environment={"VLLM_DO_NOT_TRACK": "0", "CUDA_DEVICE_ORDER": "FASTEST_FIRST"},
    ).environment
    assert made == {
        "CUDA_DEVICE_ORDER": "FASTEST_FIRST",
        "VLLM_DO_NOT_TRACK": "0",
        "VLLM_ENGINE_READY_TIMEOUT_S": "1800",
        "VLLM_NO_USAGE_STATS": "1",
    }


def test_shared_memory() -> None:
    """An engine that needs more than Docker's 64 MiB says so; the operator's word prevails."""
    group: dict[str, Any] = {"engine": "vllm", "gpus": ((0, 1),)}
    assert spec(**group).shm_bytes == 8 * GIB
    assert spec(**group, shm_bytes=32 * GIB).shm_bytes == 32 * GIB
    assert spec().shm_bytes is None


def test_host_network() -> None:
    """On the host's network the engine listens on the replica's own port, on loopback."""
    made = spec(network="host")
    assert (made.network, made.container_port) == ("host", 8081)
    assert made.command[made.command.index("--host") + 1] == "127.0.0.1"
