"""The Docker runtime on a private Docker Engine: the shared contract, then Docker's own facts."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from gpuctl.adapters.docker import DockerRuntime
from gpuctl.errors import (
    StartRefused,
)
from gpuctl.model import MIB, DockerHealth, LogRotation, Mount, Ulimit
from tests.adapters.docker_bench import bench, simulator
from tests.adapters.runtime_contract import (
    Bench,
    RuntimeContract,
    Watcher,
    marked,
    watched,
)
from tests.rig import http, images
from tests.rig.dockerd import PrivateEngine
from tests.rig.waiting import wait_for

__all__ = ["bench", "watched"]

pytestmark = pytest.mark.docker

GPU = "GPU-5e8c0f6a-2f1d-4c62-9d0f-0a1b2c3d4e5f"


class TestContract(RuntimeContract):
    """The shared contract, on a real engine."""


def inspected(engine: PrivateEngine, container: str) -> dict[str, Any]:
    client = engine.client()
    try:
        return dict(client.inspect_container(container))
    finally:
        client.close()


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


def secret(folder: Path, mode: int = 0o600) -> Path:
    file = folder / "key"
    file.write_text("sk-$HOME 'quoted'\n")
    file.chmod(mode)
    return file


def test_a_secret_is_in_the_engine_and_in_no_inspection(
    engine: PrivateEngine, bench: Bench, tmp_path: Path
) -> None:
    """The image's own program gets the file's text as its variable; Docker knows only the file."""
    client = engine.client()
    bare = client.create_container(images.IMAGE, ["true"])["Id"]
    program = {"Entrypoint": [images.GPUSIM], "Cmd": ["--port", "8080"]}
    client.commit(bare, repository="gpuctl-rig", tag="with-a-program", conf=program)
    client.remove_container(bare)
    client.close()
    port = http.free_port()
    spec = replace(
        simulator(port),
        image="gpuctl-rig:with-a-program",
        entrypoint=None,
        secrets={"API_KEY": str(secret(tmp_path))},
    )
    container = bench.runtime.create("gpuctl-secret-0", spec, marked("secret-0"))
    bench.runtime.start(container)
    state = http.state(port)
    assert state["environment"]["API_KEY"] == "sk-$HOME 'quoted'"
    assert state["arguments"][1:] == ["--port", "8080"]
    assert "sk-" not in json.dumps(inspected(engine, container))
    bench.runtime.signal(container, "SIGTERM")
    assert bench.ended(container).exit_code == 143


def test_a_secret_that_the_container_may_not_read_is_named(bench: Bench, tmp_path: Path) -> None:
    """The engine is not started without it, and the log's last line says which and for whom."""
    spec = replace(simulator(1), user="1000:1000", secrets={"API_KEY": str(secret(tmp_path))})
    container = bench.runtime.create("gpuctl-secret-1", spec, marked("secret-1"))
    bench.runtime.start(container)
    assert bench.ended(container).exit_code == 78
    assert bench.runtime.logs(container, 1) == (
        "gpuctl: the secret /run/secrets/API_KEY cannot be read by user 1000 of this container",
    )


def test_a_secret_that_is_not_there_refuses_the_creation(bench: Bench) -> None:
    """The file is named, and the hint says where to mend it."""
    spec = replace(simulator(1), secrets={"API_KEY": "/no/such/key"})
    with pytest.raises(StartRefused, match="/no/such/key") as refused:
        bench.runtime.create("gpuctl-secret-2", spec, marked("secret-2"))
    assert "secret" in refused.value.hint


def test_a_taken_port_refuses_the_start_and_is_named(bench: Bench) -> None:
    """A port that another container holds is named, with what to do."""
    _, port = bench.started()
    second, _ = bench.create(port)
    with pytest.raises(StartRefused, match=str(port)) as refused:
        bench.runtime.start(second)
    assert "ss -ltnp" in refused.value.hint


def test_disconnecting_frees_the_port_of_a_running_container(bench: Bench) -> None:
    """One that cannot be killed gives its port to its successor."""
    old, port = bench.started()
    bench.runtime.disconnect(old)
    bench.runtime.disconnect(old)
    new, _ = bench.create(port)
    bench.runtime.start(new)
    http.state(port)
    assert (bench.read(old).state, bench.read(new).state) == ("running", "running")


@pytest.mark.parametrize("busy", [False, True], ids=["at-once", "its-shim-late"])
def test_a_container_out_of_memory_is_told_from_a_killed_one(bench: Bench, busy: bool) -> None:
    """
    The control group's OOM kill shows as oom_killed and 137, once the `oom` event is there.

    A shim that gets no CPU for a while tells of the exit first, one time in three: Docker 20.10
    then leaves OOMKilled false.
    """
    watcher = Watcher(bench.runtime, time.time())
    port = http.free_port()
    spec = replace(simulator(port), memory_bytes=48 * MIB, memory_swap_bytes=48 * MIB)
    container = bench.runtime.create("gpuctl-oom-0", spec, marked("oom-0"))
    bench.runtime.start(container)
    http.state(port)
    shim = psutil.Process(bench.read(container).pid).parent()
    assert shim is not None
    if busy:
        shim.suspend()
    http.order(port, allocate=200 * MIB)
    shim.resume()
    assert bench.ended(container).exit_code == 137
    watcher.wait("oom", container)
    assert bench.read(container).oom_killed
    (listed,) = bench.runtime.list()
    assert listed.oom_killed


def test_a_running_container_tells_what_it_holds_of_host_ram(bench: Bench) -> None:
    """The list's memory follows what the program allocates."""
    _, port = bench.started()
    http.order(port, allocate=64 * MIB)

    def look() -> bool:
        (found,) = bench.runtime.list()
        return found.memory_bytes is not None and 64 * MIB <= found.memory_bytes < 128 * MIB

    wait_for(look, "64 MiB in the reading")


def test_a_paused_container_is_seen(bench: Bench, engine: PrivateEngine) -> None:
    """An operator's pause is a state and an event of its own, not an end."""
    container, _ = bench.started()
    client = engine.client()
    client.pause(container)
    assert [found.state for found in bench.runtime.list()] == ["paused"]
    client.unpause(container)
    assert [found.state for found in bench.runtime.list()] == ["running"]
    client.close()


def test_a_profile_filters_the_list(bench: Bench, engine: PrivateEngine) -> None:
    """A runtime made for one profile lists no other's containers."""
    mine, _ = bench.create(profile="a")
    bench.create(profile="b")
    runtime = DockerRuntime(environment=engine.environment, profile="a")
    assert [found.id for found in runtime.list()] == [mine]
    runtime.close()


def test_a_restart_by_another_client_is_seen_through_its_events(
    bench: Bench, engine: PrivateEngine
) -> None:
    """The list's states look alike before and after; the event makes it look again."""
    container, _ = bench.started()
    watcher = Watcher(bench.runtime)
    (before,) = bench.runtime.list()
    client = engine.client()
    client.restart(container, timeout=1)
    client.close()
    watcher.wait("start", container)
    (after,) = bench.runtime.list()
    assert before.started_at is not None
    assert after.started_at is not None
    assert after.started_at > before.started_at
    assert after.pid != before.pid


def test_what_was_missed_is_told_again(bench: Bench) -> None:
    """A stream opened with *since* begins with the events from then on."""
    since = time.time()
    container, port = bench.started()
    http.order(port, exit=4)
    bench.ended(container)
    watcher = Watcher(bench.runtime, since)
    assert watcher.wait("die", container).exit_code == 4


def test_a_killed_container_tells_the_signal(bench: Bench, watched: Callable[[], Watcher]) -> None:
    """`docker kill` by anyone leaves a kill event with its signal before the die event."""
    watcher = watched()
    container, _ = bench.started()
    bench.runtime.signal(container, "SIGKILL")
    assert watcher.wait("kill", container).signal in ("9", "SIGKILL")
    assert watcher.wait("die", container).exit_code == 137


def test_an_image_is_found(bench: Bench) -> None:
    """The engine has the rig's image, and not one that nobody made."""
    assert bench.runtime.has_image(images.IMAGE)
    assert not bench.runtime.has_image("no/such:image")


def test_a_pull_that_fails_is_refused_in_the_engine_s_words(bench: Bench) -> None:
    """A registry that nothing listens for is named."""
    with pytest.raises(StartRefused, match=r"127\.0\.0\.1:9"):
        bench.runtime.pull("127.0.0.1:9/no/such:image", lambda line, ratio: None)


@pytest.mark.engine
def test_a_real_llama_cpp_serves_within_the_limits_of_a_small_host(bench: Bench) -> None:
    """llama.cpp with a real model in 1536m of RAM, without any capability, answers."""
    model = next(iter(sorted((images.REPOSITORY / ".cache" / "models").glob("*.gguf"))), None)
    if model is None:
        pytest.skip("no model in .cache/models: `make dev-setup` fetches it")
    port = http.free_port()
    spec = replace(
        simulator(port),
        entrypoint=(images.LLAMA_SERVER,),
        command=("--model", str(model), "--host", "0.0.0.0", "--port", "8080", "--ctx-size", "512"),
        memory_bytes=1536 * MIB,
        memory_swap_bytes=2048 * MIB,
    )
    container = bench.runtime.create("gpuctl-llama-0", spec, marked("llama-0"))
    bench.runtime.start(container)

    def healthy() -> bool:
        answered = http.get(port, "/health")
        return answered is not None and answered[0] == 200

    wait_for(healthy, "a loaded model", 60)
    bench.runtime.signal(container, "SIGTERM")
    assert bench.ended(container).oom_killed is False
