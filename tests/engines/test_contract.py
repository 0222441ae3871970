"""What every engine keeps to, whichever `load_engines` finds."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuctl.model import EngineStats, GpuIdentity, Mount, ProbeSpec, Workload
from gpuctl.plugin import Engine, Launch, Slot, load_engines

from .make import slot, workload

ENGINES = load_engines()
SECRET = "hf_never-in-a-command"

every_engine = pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES.keys())

gpus = st.integers(0, 4).map(
    lambda count: tuple(GpuIdentity(index=i, uuid=f"GPU-{i}") for i in range(count))
)
slots = st.builds(
    Slot,
    index=st.integers(0, 7),
    gpus=gpus,
    port=st.integers(1024, 65535),
    runtime=st.just("docker"),
    cpus=st.integers(1, 64),
)
workloads = st.builds(
    Workload,
    name=st.from_regex(r"[a-z][a-z0-9-]{0,9}", fullmatch=True),
    engine=st.just("any"),
    image=st.just("example/server:1"),
    model=st.sampled_from(["model.gguf", "/models/model.gguf", "org/model"]),
    port=st.just(8081),
    context=st.none() | st.integers(1, 131072),
    parallel=st.integers(1, 64),
    replicas=st.integers(1, 8),
    kind=st.sampled_from(["chat", "embedding", "rerank", "transcription", "other"]),
    network=st.sampled_from(["bridge", "host"]),
    memory_bytes=st.none() | st.integers(2**23, 2**40),
    mounts=st.just((Mount(source="models", target="/models"),)),
    environment=st.just({"HF_TOKEN": SECRET}),
)


def test_the_engines() -> None:
    """The shipped engines are found by name."""
    assert {"llama.cpp", "llama-cpp-python", "vllm", "container"} <= set(ENGINES)


@every_engine
def test_options_have_defaults(engine: Engine) -> None:
    """A workload without options is a valid one."""
    assert engine.options() == engine.options()
    assert dataclasses.is_dataclass(engine.options)


@every_engine
def test_unknown_option(engine: Engine) -> None:
    """An option that the engine does not have is refused, never ignored."""
    with pytest.raises(TypeError, match="tensor_paralel"):
        engine.options(tensor_paralel=2)


@given(workload=workloads, slot=slots)
def test_launches_and_probes(workload: Workload, slot: Slot) -> None:
    """What holds of every launch and every probe, of each engine, whatever the workload."""
    for engine in ENGINES.values():
        launch = engine.launch(workload, slot)
        assert launch == engine.launch(workload, slot), engine.name
        names_no_gpu_and_no_secret(launch)
        listens(launch, workload, slot)
        asks_the_replica(engine.probe(workload, slot), slot)


def names_no_gpu_and_no_secret(launch: Launch) -> None:
    """GPUs are handed over by planning, and what is in the environment stays out of the command."""
    assert {"CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"}.isdisjoint(launch.environment)
    assert not any("VISIBLE_DEVICES" in word or SECRET in word for word in launch.command)
    assert SECRET not in launch.environment.values()


def listens(launch: Launch, workload: Workload, slot: Slot) -> None:
    """An engine that is told an address is told it whole: the port is the container's own."""
    if "--port" in launch.command:
        word = dict(zip(launch.command, launch.command[1:], strict=False))
        assert word["--port"] == str(launch.container_port)
        assert word["--host"] == ("127.0.0.1" if workload.network == "host" else "0.0.0.0")
    if workload.network == "host":
        assert launch.container_port == slot.port


def asks_the_replica(probe: ProbeSpec, slot: Slot) -> None:
    """A probe asks absolute paths of the replica's own port; a canary asks for one token."""
    assert probe.port == slot.port
    assert probe.health_path.startswith("/")
    assert probe.metrics_path is None or probe.metrics_path.startswith("/")
    if probe.canary_path is not None:
        assert probe.canary_path.startswith("/")
        assert json.loads(probe.canary_body)["max_tokens"] == 1
    if probe.warmup_path is not None:
        assert probe.warmup_path.startswith("/")
        assert json.loads(probe.warmup_body)["model"]


@every_engine
def test_args_come_last(engine: Engine) -> None:
    """What the operator appends is appended, where it prevails."""
    launch = engine.launch(workload(args=("--verbose", "x")), slot())
    assert launch.command[-2:] == ("--verbose", "x")


@every_engine
def test_no_metrics(engine: Engine) -> None:
    """An empty answer tells nothing, and that is not zero."""
    assert engine.stats("") == EngineStats()


@given(
    text=st.text()
    | st.lists(
        st.builds(
            "{}{} {}".format,
            st.sampled_from(
                [
                    "llamacpp:requests_processing",
                    "llamacpp:n_decode_total",
                    "vllm:num_requests_running",
                    "vllm:kv_cache_usage_perc",
                    "vllm:engine_sleep_state",
                ]
            ),
            st.sampled_from(["", "{}", '{a="b"}', '{a="\\"}', "{", '{sleep_state="awake"}']),
            st.text(max_size=8) | st.floats().map(str) | st.integers().map(str),
        )
    ).map("\n".join)
)
def test_stats_of_garbage(text: str) -> None:
    """Whatever an engine answers, reading it never raises."""
    for engine in ENGINES.values():
        assert isinstance(engine.stats(text), EngineStats), engine.name


#: What `plan` shows among the settings, and is no option of an engine.
SHOWN = {"mounts", "tensor_parallel_size", "TORCH_NCCL_BLOCKING_WAIT"}

cards = st.builds(
    GpuIdentity,
    index=st.integers(0, 7),
    uuid=st.just("GPU-0"),
    name=st.sampled_from(
        ["", "NVIDIA P106-100", "Tesla T4", "NVIDIA GeForce RTX 3090", "NVIDIA L4"]
    ),
    memory_total_bytes=st.none() | st.integers(0, 2**38),
    compute_capability=st.none() | st.tuples(st.integers(5, 12), st.integers(0, 9)),
)


@given(
    workload=workloads,
    gpus=st.lists(cards, max_size=2).map(tuple),
    runtime=st.sampled_from(["docker", "process", "simulated"]),
    driver=st.none() | st.sampled_from(["470.1", "535.183.01", "580.95.05", "not a driver"]),
    image=st.sampled_from(
        [
            "",
            "example/server:1",
            "vllm/vllm-openai:v0.33.0",
            "vllm/vllm-openai-rocm:latest",
            "ghcr.io/ggml-org/llama.cpp:server-cuda13",
        ]
    ),
)
def test_tunes_and_fits(
    workload: Workload,
    gpus: tuple[GpuIdentity, ...],
    runtime: str,
    driver: str | None,
    image: str,
) -> None:
    """What an engine chooses its options take, each once and with a reason; a refusal has a way."""
    slot = Slot(index=0, gpus=gpus, port=8081, runtime=runtime, driver_version=driver)
    workload = dataclasses.replace(workload, image=image)
    for engine in ENGINES.values():
        rows = tuple(engine.tune(workload, slot)) if engine.tune is not None else ()
        keys = [row.key for row in rows if row.key != "mounts"]
        assert len(keys) == len(set(keys)), engine.name
        assert all(row.why for row in rows), engine.name
        options = {r.key: r.value for r in rows if r.key not in SHOWN and not r.by_operator}
        assert engine.options(**options), engine.name
        for unfit in engine.fit(workload, slot) if engine.fit is not None else ():
            assert unfit.what, engine.name
            assert unfit.hint or unfit.warning, engine.name
