"""vLLM: the arguments of `vllm serve`, and what its /metrics tell."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gpuctl.engines.vllm import ENGINE, Options
from gpuctl.model import GIB, EngineStats, Workload

from .make import after, slot, workload

METRICS = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="org/model"} 2.0
vllm:num_requests_running{engine="1",model_name="org/model"} 1.0
vllm:num_requests_waiting{engine="0",model_name="org/model"} 4.0
vllm:num_requests_waiting_by_reason{engine="0",reason="capacity"} 4.0
vllm:kv_cache_usage_perc{engine="0",model_name="org/model"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="org/model"} 0.75
vllm:prompt_tokens_total{engine="0",model_name="org/model"} 100.0
vllm:prompt_tokens_cached_total{engine="0",model_name="org/model"} 7.0
vllm:generation_tokens_total{engine="0",model_name="org/model"} 20.0
vllm:iteration_tokens_total_bucket{engine="0",le="1.0"} 3.0
vllm:iteration_tokens_total_count{engine="0"} 3.0
vllm:engine_sleep_state{engine="0",model_name="m",sleep_state="awake"} 1.0
vllm:engine_sleep_state{engine="0",model_name="m",sleep_state="weights_offloaded"} 0.0
"""


def llm(**changes: Any) -> Workload:
    return workload(**({"engine": "vllm", "model": "org/model", "mounts": ()} | changes))


def test_one_gpu() -> None:
    """The model is a hub's name as it is, and answers to the workload's name too."""
    launch = ENGINE.launch(llm(context=8192, parallel=64, aliases=("llama",)), slot())
    assert launch.command == (
        *("org/model", "--host", "0.0.0.0", "--port", "8000"),
        *("--served-model-name", "chat", "llama", "org/model"),
        *("--max-model-len", "8192", "--gpu-memory-utilization", "0.9", "--max-num-seqs", "64"),
        *("--disable-access-log-for-endpoints", "/health,/metrics"),
    )
    assert launch.environment == {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_DO_NOT_TRACK": "1",
        "VLLM_ENGINE_READY_TIMEOUT_S": "1800",
    }
    assert (launch.container_port, launch.shm_bytes, launch.slots) == (8000, 2 * GIB, 64)


@pytest.mark.parametrize(
    ("image", "model", "quiet"),
    [
        pytest.param("vllm/vllm-openai:v0.6.6", ("--model", "org/model"), False, id="v0.6.6"),
        pytest.param("vllm/vllm-openai:v0.11.0", ("--model", "org/model"), False, id="v0.11.0"),
        pytest.param("vllm/vllm-openai:v0.11.1", ("org/model", "--host"), False, id="vllm serve"),
        pytest.param("vllm/vllm-openai:v0.14.0", ("org/model", "--host"), False, id="v0.14.0"),
        pytest.param("vllm/vllm-openai:v0.16.0", ("org/model", "--host"), True, id="v0.16.0"),
        pytest.param("vllm/vllm-openai:latest", ("org/model", "--host"), True, id="the newest"),
        pytest.param("example/server:1", ("org/model", "--host"), True, id="not known"),
    ],
)
def test_older_images(image: str, model: tuple[str, str], quiet: bool) -> None:
    """Each is told in the way that its own vLLM understands."""
    command = ENGINE.launch(llm(image=image), slot()).command
    assert command[:2] == model
    assert ("--disable-access-log-for-endpoints" in command) is quiet


@pytest.mark.parametrize(
    "flag",
    ["--pipeline-parallel-size", "-dp", "--max-num-seqs", "--device-memory-utilization", "-tp"],
)
def test_flags_of_its_own(flag: str) -> None:
    """What gpuctl decides is not the args' to say; other spellings are planning's to see."""
    assert flag in ENGINE.owns


def test_group() -> None:
    """A group of GPUs is one replica, parallel over as many, with shared memory for its workers."""
    launch = ENGINE.launch(llm(), slot(gpus=2))
    assert after(launch.command, "--tensor-parallel-size") == "2"
    assert launch.shm_bytes == 8 * GIB


def test_cpu() -> None:
    """On the CPU there is no share of a GPU to claim."""
    assert "--gpu-memory-utilization" not in ENGINE.launch(llm(), slot(gpus=0)).command


def test_host_network() -> None:
    """On the host's network it listens on loopback, at the replica's own port."""
    launch = ENGINE.launch(llm(network="host"), slot(port=9001))
    assert (after(launch.command, "--host"), launch.container_port) == ("127.0.0.1", 9001)


@pytest.mark.parametrize(
    ("options", "flag", "value"),
    [
        pytest.param({"gpu_memory_utilization": 0.5}, "--gpu-memory-utilization", "0.5", id="gmu"),
        pytest.param({"max_num_seqs": 256}, "--max-num-seqs", "256", id="seqs"),
        pytest.param({"max_num_batched_tokens": 9}, "--max-num-batched-tokens", "9", id="batch"),
        pytest.param({"dtype": "half"}, "--dtype", "half", id="dtype"),
        pytest.param({"quantization": "awq"}, "--quantization", "awq", id="quantization"),
        pytest.param({"kv_cache_dtype": "fp8"}, "--kv-cache-dtype", "fp8", id="kv"),
        pytest.param({"served_model_name": "x"}, "--served-model-name", "x", id="first name"),
    ],
)
def test_options(options: dict[str, Any], flag: str, value: str) -> None:
    """An option becomes its flag."""
    assert after(ENGINE.launch(llm(options=options), slot()).command, flag) == value


@pytest.mark.parametrize(
    ("options", "flag"),
    [
        pytest.param({"enable_prefix_caching": True}, "--enable-prefix-caching", id="on"),
        pytest.param({"enable_prefix_caching": False}, "--no-enable-prefix-caching", id="off"),
        pytest.param({"enable_chunked_prefill": True}, "--enable-chunked-prefill", id="chunked"),
        pytest.param({"enforce_eager": True}, "--enforce-eager", id="eager"),
    ],
)
def test_switches(options: dict[str, Any], flag: str) -> None:
    """A switch is there when it is asked for, and only then."""
    assert flag in ENGINE.launch(llm(options=options), slot()).command
    assert flag not in ENGINE.launch(llm(), slot()).command


def test_sequences_are_slots() -> None:
    """It is given no more requests at once than it was started for."""
    assert ENGINE.launch(llm(options={"max_num_seqs": 256}), slot()).slots == 256


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"gpu_memory_utilization": 0}, "0 is no share of a card", id="nothing"),
        pytest.param({"gpu_memory_utilization": 90}, "90 is no share of a card", id="percent"),
        pytest.param({"gpu_memory_utilization": 1.1}, "1.1 is no share of a card", id="more"),
        pytest.param({"max_num_seqs": 0}, "0 is not 1 or more", id="no sequence"),
    ],
)
def test_option_out_of_range(options: dict[str, Any], message: str) -> None:
    """A value that means nothing is refused."""
    with pytest.raises(ValueError, match=message):
        Options(**options)


@pytest.mark.parametrize(
    ("gpus", "gib", "shm", "pinned"),
    [
        pytest.param(1, None, 2, 0, id="none"),
        pytest.param(1, 4.0, 6, 4, id="one GPU"),
        pytest.param(2, 4.0, 12, 4, id="a group"),
        pytest.param(0, 4.0, 2, 0, id="the CPU"),
    ],
)
def test_kv_blocks_in_ram(gpus: int, gib: float | None, shm: int, pinned: int) -> None:
    """They lie in /dev/shm, which is made larger by them, and are taken at the start."""
    launch = ENGINE.launch(llm(options={"kv_offloading_gib": gib}), slot(gpus))
    assert (launch.shm_bytes, launch.pinned_bytes) == (shm * GIB, pinned * GIB)
    assert ("--kv-offloading-size" in launch.command) == bool(pinned)
    assert launch.pinned_key == ("options.kv_offloading_gib" if pinned else "")


def test_who_asked_for_ram_is_told() -> None:
    """The variable, where one did."""
    asked = llm(options={"kv_offloading_gib": 4.0}, set_by={"kv_offloading_gib": "SWAP_SPACE_GB"})
    key = "options.kv_offloading_gib (from SWAP_SPACE_GB)"
    assert ENGINE.launch(asked, slot()).pinned_key == key


def test_key() -> None:
    """A server that asks for a key is asked with it."""
    keyed = llm(secrets={"VLLM_API_KEY": "/etc/key", "HF_TOKEN": "/etc/token"})
    assert ENGINE.probe(keyed, slot()).key_file == "/etc/key"
    assert ENGINE.probe(llm(), slot()).key_file is None


def test_canary() -> None:
    """It is asked by the name it answers to; what embeds makes no token."""
    canary = json.loads(ENGINE.probe(llm(), slot()).canary_body)
    assert canary == {"model": "chat", "prompt": "1", "max_tokens": 1, "temperature": 0}
    assert ENGINE.probe(llm(kind="embedding"), slot()).canary_path is None


def test_stats() -> None:
    """Counts are summed over the ranks; the KV share is that of the fullest."""
    assert ENGINE.stats(METRICS) == EngineStats(
        progress=123, running=3, waiting=4, kv_ratio=0.75, sleeping=False
    )


def test_old_kv_name() -> None:
    """Older images call the KV share by another name."""
    assert ENGINE.stats("vllm:gpu_cache_usage_perc 0.5").kv_ratio == 0.5


def test_asleep() -> None:
    """An engine that gave its weights away on purpose says so."""
    text = (
        'vllm:engine_sleep_state{sleep_state="awake"} 0.0\n'
        'vllm:engine_sleep_state{sleep_state="discard_all"} 1.0\n'
    )
    assert ENGINE.stats(text).sleeping is True
