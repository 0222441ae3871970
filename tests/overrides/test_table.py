"""What each variable of the environment does, to which workloads, and which values are refused."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from gpuctl import overrides
from gpuctl.model import Mount
from gpuctl.overrides import gateway_rows
from gpuctl.overrides.table import TABLE
from tests.overrides.make import CHAT, LLM, SMALL, SPEECH, changed, profile, refused

ROOT = Path(__file__).parents[2]

NO_SHARE = "'{}' is no share of a card's memory"
NO_ATTENTION = "'{}' is no attention backend that vLLM has for NVIDIA's GPUs"


@pytest.mark.parametrize(
    ("variable", "text", "options"),
    [
        pytest.param("GPU_MEMORY_UTILIZATION", "0.8", {"gpu_memory_utilization": 0.8}, id="share"),
        pytest.param("MAX_NUM_SEQS", "8", {"max_num_seqs": 8}, id="sequences"),
        pytest.param(
            "MAX_NUM_BATCHED_TOKENS", "1024", {"max_num_batched_tokens": 1024}, id="batch"
        ),
        pytest.param("QUANTIZATION", "awq", {"quantization": "awq"}, id="quantization"),
        pytest.param(
            "VLLM_ATTENTION_BACKEND", "XFORMERS", {"attention_backend": "TRITON_ATTN"}, id="old"
        ),
        pytest.param(
            "VLLM_ATTENTION_BACKEND", "flashinfer", {"attention_backend": "FLASHINFER"}, id="today"
        ),
        pytest.param(
            "VLLM_ATTENTION_BACKEND",
            "TORCH_SDPA_VLLM_V1",
            {"attention_backend": "TRITON_ATTN"},
            id="old, of two engines",
        ),
        pytest.param(
            "QUANTIZATION", "bitsandbytes", {"quantization": "bitsandbytes"}, id="earlier images'"
        ),
        pytest.param(
            "ENABLE_PREFIX_CACHING", "True", {"enable_prefix_caching": True}, id="prefixes"
        ),
        pytest.param("ENABLE_CHUNKED_PREFILL", "0", {"enable_chunked_prefill": False}, id="chunks"),
        pytest.param("SWAP_SPACE_GB", "8", {"kv_offloading_gib": 16.0}, id="swap, of two GPUs"),
    ],
)
def test_an_option(variable: str, text: str, options: dict[str, Any]) -> None:
    """It becomes the option of vLLM's workload, in its intent too, and of no other."""
    (llm,) = changed({variable: text})
    assert llm.options == {**LLM.options, **options}
    written = json.loads(LLM.intent)
    assert json.loads(llm.intent) == written | {"options": written["options"] | options}


@pytest.mark.parametrize(
    ("variable", "text", "option"),
    [
        pytest.param("QUANTIZATION", "none", "quantization", id="quantization"),
        pytest.param("VLLM_ATTENTION_BACKEND", "AUTO", "attention_backend", id="attention"),
        pytest.param("SWAP_SPACE_GB", "0", "kv_offloading_gib", id="swap"),
    ],
)
def test_an_option_taken_out(variable: str, text: str, option: str) -> None:
    """The word for nothing leaves the option as if it had not been written."""
    intent = f'{{"options":{{"{option}":1}}}}'
    (llm,) = changed({variable: text}, replace(LLM, options={option: 1}, intent=intent))
    assert (llm.options, llm.intent) == ({}, '{"options":{}}')
    assert changed({variable: text}, SMALL) == ()


def test_sequences_by_the_card() -> None:
    """`auto` takes out what the profile says of it: the card decides."""
    (llm,) = changed({"MAX_NUM_SEQS": "auto"})
    assert (llm.options, llm.parallel) == ({"dtype": "half"}, 1)
    assert json.loads(llm.intent) == {"context": 4096, "options": {"dtype": "half"}}


def test_the_context() -> None:
    """MAX_MODEL_LEN is vLLM's word for it, and changes vLLM's workloads."""
    (llm,) = changed({"MAX_MODEL_LEN": "8192"})
    assert (llm.context, json.loads(llm.intent)["context"]) == (8192, 8192)


@pytest.mark.parametrize(
    ("variable", "inside", "names"),
    [
        pytest.param("HF_HUB_OFFLINE", "HF_HUB_OFFLINE", ["llm", "small", "speech"], id="hub"),
        pytest.param(
            "TRANSFORMERS_OFFLINE", "TRANSFORMERS_OFFLINE", ["llm", "small", "speech"], id="lib"
        ),
        pytest.param("LOCAL_FILES_ONLY", "LOCAL_FILES_ONLY", ["speech"], id="local"),
        pytest.param("PRELOAD_MODELS", "PRELOAD_MODELS", ["speech"], id="preload"),
        pytest.param("TORCH_NCCL_BLOCKING_WAIT", "TORCH_NCCL_BLOCKING_WAIT", ["llm"], id="wait"),
        pytest.param("NCCL_BLOCKING_WAIT", "TORCH_NCCL_BLOCKING_WAIT", ["llm"], id="wait, old"),
        pytest.param("NCCL_DEBUG", "NCCL_DEBUG", ["llm"], id="nccl"),
        pytest.param("NCCL_DEBUG_SUBSYS", "NCCL_DEBUG_SUBSYS", ["llm"], id="nccl's parts"),
    ],
)
def test_a_variable_of_containers(variable: str, inside: str, names: list[str]) -> None:
    """It is in the environment of those whom it concerns, and NCCL's in groups only."""
    found = changed({variable: "1"}, LLM, SMALL, CHAT, SPEECH)
    assert [workload.name for workload in found] == names
    for workload in found:
        assert workload.environment == {inside: "1"}
        assert json.loads(workload.intent)["environment"] == {inside: "1"}


@pytest.mark.parametrize("variable", ["MODEL_NAME", "MODEL_PATH"])
def test_the_model(variable: str) -> None:
    """The one vLLM workload is meant; of several, none can be."""
    (llm,) = changed({variable: "org/other"})
    assert (llm.model, json.loads(llm.intent)["model"]) == ("org/other", "org/other")
    assert refused({variable: "org/other"}, LLM, SMALL) == (
        (
            f"environment: {variable}: which of llm, small is meant?",
            "write it in the profile",
        ),
    )


def test_the_directory_of_models() -> None:
    """It takes the place of what is mounted where the hub's models lie."""
    mounts = (
        Mount(source="/old", target="/root/.cache/huggingface/"),
        Mount(source="/data", target="/data", read_only=True),
    )
    (llm,) = changed({"MODEL_CACHE_DIR": "/srv/hf"}, replace(LLM, mounts=mounts))
    assert llm.mounts == (mounts[1], Mount(source="/srv/hf", target="/root/.cache/huggingface"))
    assert json.loads(llm.intent)["mounts"] == [asdict(mount) for mount in llm.mounts]


@pytest.mark.parametrize(
    ("variable", "secret", "names"),
    [
        pytest.param("HF_TOKEN_FILE", "HF_TOKEN", ["llm", "speech"], id="hub"),
        pytest.param("VLLM_API_KEY_FILE", "VLLM_API_KEY", ["llm"], id="vllm"),
    ],
)
def test_a_secret_by_its_file(variable: str, secret: str, names: list[str]) -> None:
    """The file is handed on, never its text; the environment stays without it."""
    found = changed({variable: "/etc/gpuctl/secret"})
    assert [workload.name for workload in found] == names
    for workload in found:
        assert (workload.secrets, workload.environment) == ({secret: "/etc/gpuctl/secret"}, {})
        written = json.loads(workload.intent)["environment"]
        assert written == {secret: {"file": "/etc/gpuctl/secret"}}


def test_a_key_in_the_environment_is_refused() -> None:
    """Without it vLLM would answer everyone, and it is nowhere repeated."""
    found = refused({"VLLM_API_KEY": "sk-1"})
    assert found == (
        (
            "environment: VLLM_API_KEY: a secret comes from a file only, and llm would answer"
            " without it",
            'write environment = { VLLM_API_KEY = { file = "/path" } }, or set VLLM_API_KEY_FILE',
        ),
    )
    keyed = replace(LLM, secrets={"VLLM_API_KEY": "/etc/key"})
    assert overrides.apply(profile(keyed), {"VLLM_API_KEY": "sk-1"}).overrides == {}
    together = {"VLLM_API_KEY": "sk-1", "VLLM_API_KEY_FILE": "/etc/key"}
    assert changed(together)[0].secrets == {"VLLM_API_KEY": "/etc/key"}


@pytest.mark.parametrize("variable", ["TENSOR_PARALLEL_SIZE", "TP_SIZE"])
def test_tensor_parallel(variable: str) -> None:
    """A number that the group has is fine; another is refused with what to write."""
    assert overrides.apply(profile(), {variable: "2"}).profile == profile()
    assert overrides.apply(profile(CHAT), {variable: "4"}).profile == profile(CHAT)
    on_cpu = replace(SMALL, gpus="none")
    assert overrides.apply(profile(on_cpu), {variable: "4"}).profile == profile(on_cpu)
    assert refused({variable: "4"}, LLM, replace(SMALL, gpus="each")) == (
        (
            f"environment: {variable}: 4 GPUs a replica, and llm has 2, small has 1: it follows"
            " from the workload's GPUs",
            "write gpus = [[0, 1, 2, 3]], with the GPUs you mean",
        ),
    )
    assert refused({variable: "1"})[0][1] == "write gpus = [0], with the GPUs you mean"
    assert refused({variable: "two"}) == (
        (f"environment: {variable}: 'two' is not a number above 0", "write digits"),
    )


def test_the_device() -> None:
    """CPU mode is a word of the profile; on GPUs the variable alone would change nothing."""
    assert refused({"DEVICE": "cpu"}) == (
        (
            "environment: DEVICE: cpu, and llm, chat, speech run on GPUs",
            'write gpus = "none", or fallback = "cpu" for when GPUs fail',
        ),
    )
    on_cpu = profile(replace(CHAT, gpus="none"))
    assert overrides.apply(on_cpu, {"DEVICE": "cpu"}).profile == on_cpu
    assert overrides.apply(profile(), {"DEVICE": "cuda"}).profile == profile()


@pytest.mark.parametrize(
    ("variable", "text", "what"),
    [
        pytest.param("GPU_MEMORY_UTILIZATION", "90", NO_SHARE.format("90"), id="a percentage"),
        pytest.param("GPU_MEMORY_UTILIZATION", "0", NO_SHARE.format("0"), id="nothing of it"),
        pytest.param("GPU_MEMORY_UTILIZATION", "nan", NO_SHARE.format("nan"), id="no number"),
        pytest.param("GPU_MEMORY_UTILIZATION", "most", NO_SHARE.format("most"), id="a word"),
        pytest.param(
            "GPU_MEMORY_UTILIZATION",
            "1.0",
            "'1.0' is the whole of a card, which is never free: the driver and vLLM's own CUDA"
            " context hold a part of it, and it would not start",
            id="all of it",
        ),
        pytest.param("MAX_NUM_SEQS", "0", "'0' is not auto, or a number above 0", id="no sequence"),
        pytest.param("MAX_MODEL_LEN", "8k", "'8k' is not a number above 0", id="a unit"),
        pytest.param(
            "ENABLE_PREFIX_CACHING", "maybe", "'maybe' is neither true nor false", id="no switch"
        ),
        pytest.param(
            "VLLM_ATTENTION_BACKEND", "flash attn", NO_ATTENTION.format("flash attn"), id="no name"
        ),
        pytest.param(
            "VLLM_ATTENTION_BACKEND", "ROCM_ATTN", NO_ATTENTION.format("ROCM_ATTN"), id="AMD's"
        ),
        pytest.param(
            "QUANTIZATION", "AWQ", "'AWQ' is no quantization that vLLM knows", id="as vLLM reads it"
        ),
        pytest.param(
            "QUANTIZATION", "q4_k_m", "'q4_k_m' is no quantization that vLLM knows", id="GGUF's"
        ),
        pytest.param("DEVICE", "tpu", "'tpu' is none of auto, cuda, cpu", id="another device"),
        pytest.param("DEVICE", "cuda:0", "'cuda:0' is none of auto, cuda, cpu", id="an index"),
        pytest.param("SWAP_SPACE_GB", "-1", "'-1' is no number of GiB", id="below nothing"),
        pytest.param("SWAP_SPACE_GB", "8g", "'8g' is no number of GiB", id="swap with a unit"),
        pytest.param("MODEL_CACHE_DIR", "./m", "'./m' is not an absolute path", id="relative"),
        pytest.param("HF_TOKEN_FILE", "token", "'token' is not an absolute path", id="no path"),
    ],
)
def test_a_value_that_is_none_is_refused(variable: str, text: str, what: str) -> None:
    """It is told once, however many workloads it is for, with what to write."""
    found = refused({variable: text}, LLM, SMALL, SPEECH)
    assert [message for message, _ in found] == [f"environment: {variable}: {what}"]
    assert found[0][1]


@pytest.mark.parametrize(
    ("variable", "text", "option", "begins", "names"),
    [
        pytest.param(
            "QUANTIZATION",
            "zzz",
            "quantization",
            "vLLM knows none, awq, ",
            ("fp8", "gptq"),
            id="none near",
        ),
        pytest.param(
            "QUANTIZATION",
            "AWQ",
            "quantization",
            "did you mean awq? vLLM knows none, awq, ",
            ("fp8", "gptq"),
            id="one near",
        ),
        pytest.param(
            "VLLM_ATTENTION_BACKEND",
            "flash_atn",
            "attention_backend",
            "did you mean FLASH_ATTN? vLLM knows AUTO, ",
            ("FLASHINFER", "TRITON_ATTN"),
            id="an attention backend",
        ),
    ],
)
def test_the_names_that_are_accepted_are_told(
    variable: str, text: str, option: str, begins: str, names: tuple[str, ...]
) -> None:
    """All of them, after the one that may be meant, and where a plug-in's goes."""
    ((_, hint),) = refused({variable: text})
    assert hint.startswith(begins)
    assert all(f" {name}," in hint for name in names)
    assert hint.endswith(
        f'(what a plug-in brings goes in the profile: options = {{ {option} = "…" }})'
    )


def test_on_the_cpu_there_is_no_card_to_leave_it_to() -> None:
    """What the profile says of sequences stays there; a share of a card is for nobody."""
    on_cpu = replace(LLM, gpus="none")
    environment = {"MAX_NUM_SEQS": "auto", "GPU_MEMORY_UTILIZATION": "0.8"}
    assert changed(environment, on_cpu) == ()
    assert overrides.notes(profile(on_cpu), environment) == (
        (
            "environment: GPU_MEMORY_UTILIZATION fits no workload: none is of engine vllm on a GPU",
            "",
        ),
    )


def test_every_row_does_something() -> None:
    """A variable is read, refused, or ignored with a reason; once each."""
    names = [row.variable for row in TABLE] + [row.variable for row in gateway_rows.TABLE]
    assert len(set(names)) == len(names)
    for row in TABLE:
        assert row.does
        kinds = (row.read, row.change, row.refuse, row.ignored)
        assert sum(map(bool, kinds)) == 1, row.variable
        assert bool(row.sets) == bool(row.change), row.variable


def test_the_documentation_lists_every_variable() -> None:
    """The table of docs/profile.md is the table of the code."""
    text = (ROOT / "docs" / "profile.md").read_text()
    section = text.partition("## Variables of the environment\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", section, re.MULTILINE)
    gateways = [(row.variable, row.does) for row in gateway_rows.TABLE]
    assert rows == [(row.variable, row.does) for row in TABLE] + gateways
