"""What of a spec reaches a Docker Engine, and what a creation or a start is refused for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gpuctl.errors import StartRefused
from gpuctl.model import MIB, DockerHealth, LogRotation, Mount, Ulimit
from tests.adapters.docker_bench import bench, inspected, simulator
from tests.adapters.runtime_contract import Bench, marked
from tests.rig import http, images
from tests.rig.dockerd import PrivateEngine

__all__ = ["bench"]

pytestmark = pytest.mark.docker

GPU = "GPU-5e8c0f6a-2f1d-4c62-9d0f-0a1b2c3d4e5f"


def test_every_field_of_a_spec_reaches_the_engine(
    engine: PrivateEngine, bench: Bench, tmp_path: Path
) -> None:
    """What the engine says that it will run is what the spec asked for."""
    spec = replace(
        simulator(18999),
        command=("--port", "8080"),
        environment={"A": "1", "B": "two words"},
        mounts=(
            *images.rig_mounts(),
            Mount(source=str(tmp_path), target="/data"),
            Mount(source="gpuctl-cache", target="/cache", read_only=True),
        ),
        memory_bytes=64 * MIB,
        memory_swap_bytes=96 * MIB,
        shm_bytes=16 * MIB,
        ulimits=(Ulimit(name="memlock", soft=-1, hard=-1),),
        user="1000:1000",
        cap_add=("SYS_NICE",),
        pids_limit=100,
        log=LogRotation(max_bytes=10 * MIB, files=2),
        docker_health=DockerHealth(test=("CMD", "true"), interval_seconds=1.5),
        stop_grace_seconds=12.2,
    )
    container = bench.runtime.create("gpuctl-full-0", spec, marked("full-0"))
    found = inspected(engine, container)
    config, host = found["Config"], found["HostConfig"]
    assert {
        name: host[name]
        for name in ("Memory", "MemorySwap", "ShmSize", "PidsLimit", "CapDrop", "CapAdd", "Init")
    } == {
        "Memory": 64 * MIB,
        "MemorySwap": 96 * MIB,
        "ShmSize": 16 * MIB,
        "PidsLimit": 100,
        "CapDrop": ["ALL"],
        "CapAdd": ["SYS_NICE"],
        "Init": True,
    }
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["RestartPolicy"] == {"Name": "no", "MaximumRetryCount": 0}
    assert host["PortBindings"] == {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "18999"}]}
    assert host["Ulimits"] == [{"Name": "memlock", "Soft": -1, "Hard": -1}]
    assert host["LogConfig"] == {
        "Type": "json-file",
        "Config": {"max-size": str(10 * MIB), "max-file": "2"},
    }
    assert [(m["Type"], m["Target"], m.get("ReadOnly", False)) for m in host["Mounts"][-2:]] == [
        ("bind", "/data", False),
        ("volume", "/cache", True),
    ]
    assert config["User"] == "1000:1000"
    assert set(config["Env"]) >= {"A=1", "B=two words"}
    assert (config["Cmd"], config["Entrypoint"]) == (["--port", "8080"], [images.GPUSIM])
    assert config["StopTimeout"] == 13
    assert (config["Healthcheck"]["Interval"], config["Healthcheck"]["Retries"]) == (15 * 10**8, 3)


def test_the_image_s_own_health_check_is_off(engine: PrivateEngine, bench: Bench) -> None:
    """Docker probes nothing unless the profile asks for it."""
    container, _ = bench.create()
    assert inspected(engine, container)["Config"]["Healthcheck"]["Test"] == ["NONE"]


def test_the_host_network_publishes_nothing(engine: PrivateEngine, bench: Bench) -> None:
    """On the host's network the program binds loopback by itself."""
    port = http.free_port()
    command = ("--host", "127.0.0.1", "--port", str(port))
    spec = replace(simulator(port), network="host", command=command)
    bench.runtime.start(bench.runtime.create("gpuctl-host-0", spec, marked("host-0")))
    assert http.state(port)["arguments"][1:] == list(command)


def test_a_gpu_is_requested_by_uuid(engine: PrivateEngine, bench: Bench) -> None:
    """The request reaches the engine, and the program sees the GPU that it asked for."""
    port = http.free_port()
    spec = replace(simulator(port), gpus=(GPU,))
    container = bench.runtime.create("gpuctl-gpu-0", spec, marked("gpu-0", gpus=GPU))
    bench.runtime.start(container)
    (request,) = inspected(engine, container)["HostConfig"]["DeviceRequests"]
    assert (request["Driver"], request["DeviceIDs"], request["Capabilities"]) == (
        "",
        [GPU],
        [["gpu"]],
    )
    assert http.state(port)["environment"]["NVIDIA_VISIBLE_DEVICES"] == GPU
    assert bench.read(container).gpus == (GPU,)


def test_a_gpu_that_cannot_be_injected_refuses_the_start(
    engine: PrivateEngine, bench: Bench
) -> None:
    """The hook's own words are in the error and in the container's reading."""
    engine.refuse_gpus("nvidia-container-cli: device error: unknown device id")
    try:
        spec = replace(simulator(http.free_port()), gpus=(GPU,))
        container = bench.runtime.create("gpuctl-gpu-1", spec, marked("gpu-1"))
        with pytest.raises(StartRefused, match="unknown device id") as refused:
            bench.runtime.start(container)
    finally:
        engine.refuse_gpus("")
    assert "nvidia-smi" in refused.value.hint
    found = bench.read(container)
    assert found.state == "created"
    assert "unknown device id" in found.error
    assert found.exit_code not in (0, None)


def test_an_image_that_is_not_there_refuses_the_creation(bench: Bench) -> None:
    """The image is named, and the hint says how to get it."""
    spec = replace(simulator(http.free_port()), image="no/such:image")
    with pytest.raises(StartRefused, match="no/such:image") as refused:
        bench.runtime.create("gpuctl-image-0", spec, marked("image-0"))
    assert "docker pull" in refused.value.hint


def test_a_mount_that_is_not_there_refuses_the_creation(bench: Bench) -> None:
    """A missing host directory is an error, and is not created by root behind one's back."""
    mounts = (Mount(source="/no/such/folder", target="/models"),)
    spec = replace(simulator(http.free_port()), mounts=mounts)
    with pytest.raises(StartRefused, match="/no/such/folder"):
        bench.runtime.create("gpuctl-mount-0", spec, marked("mount-0"))
    assert not Path("/no").exists()
