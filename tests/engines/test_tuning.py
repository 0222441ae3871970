"""The settings for each card, to the letter; the operator's own are shown as his."""

from __future__ import annotations

from typing import Any

import pytest

from gpuctl.engines import llamacpp, vllm
from gpuctl.model import GIB, GpuIdentity, Mount, Tuned, Workload
from gpuctl.planning.tuning import tuned
from gpuctl.plugin import Engine, Slot

from .make import after, slot, workload

IMAGE = "vllm/vllm-openai:v0.33.0"


def card(name: str, gibibytes: int, **changes: Any) -> GpuIdentity:
    return GpuIdentity(
        index=0, uuid="GPU-0", name=name, memory_total_bytes=gibibytes * GIB, **changes
    )


P106 = card("NVIDIA P106-100", 6)
T4 = card("Tesla T4", 16)
A100 = card("NVIDIA A100-SXM4-80GB", 80)


def on(*gpus: GpuIdentity, runtime: str = "docker") -> Slot:
    return Slot(index=0, gpus=gpus, port=1, runtime=runtime)


def llm(**changes: Any) -> Workload:
    return workload(
        **({"engine": "vllm", "model": "org/model", "image": IMAGE, "mounts": ()} | changes)
    )


def chosen(engine: Engine, asked: Workload, where: Slot) -> dict[str, Any]:
    """Return what gpuctl chose, by key; mounts are many and left out."""
    return {
        t.key: t.value
        for t in tuned(asked, where, engine)[1]
        if not t.by_operator and t.key != "mounts"
    }


def operators(engine: Engine, asked: Workload, where: Slot) -> dict[str, Any]:
    return {t.key: t.value for t in tuned(asked, where, engine)[1] if t.by_operator}


def launched(engine: Engine, asked: Workload, where: Slot) -> tuple[str, ...]:
    return engine.launch(tuned(asked, where, engine)[0], where).command


@pytest.mark.parametrize(
    ("gpu", "sequences", "own"),
    [
        pytest.param(T4, 8, {"dtype": "half", "attention_backend": "TRITON_ATTN"}, id="t4"),
        pytest.param(card("NVIDIA L4", 24), 16, {"attention_backend": None}, id="l4"),
        pytest.param(card("NVIDIA RTX A4000", 16), 20, {"attention_backend": None}, id="a4000"),
        pytest.param(
            card("NVIDIA GeForce RTX 3090", 24), 32, {"attention_backend": None}, id="3090"
        ),
        pytest.param(card("NVIDIA RTX A6000", 48), 64, {"attention_backend": None}, id="a6000"),
        pytest.param(A100, 256, {"attention_backend": None}, id="a100"),
        pytest.param(card("NVIDIA H100 PCIe", 80), 1024, {"attention_backend": None}, id="h100"),
        pytest.param(card("NVIDIA H200", 141), 1024, {"attention_backend": None}, id="h200"),
        pytest.param(
            card("NVIDIA New", 32, compute_capability=(10, 0)),
            16,
            {"attention_backend": None},
            id="not listed",
        ),
        pytest.param(card("NVIDIA New", 32), 16, {}, id="not listed, capability unknown"),
    ],
)
def test_vllm_by_card(gpu: GpuIdentity, sequences: int, own: dict[str, Any]) -> None:
    """Sequences, number format and attention follow the card; the rest is alike for all."""
    assert chosen(vllm.ENGINE, llm(), on(gpu)) == {
        "tensor_parallel_size": 1,
        "gpu_memory_utilization": 0.9,
        "max_num_seqs": sequences,
        "enable_prefix_caching": True,
        "enable_chunked_prefill": True,
        "enforce_eager": False,
        "speculative_config": None,
        **own,
    }


def test_vllm_on_a_t4_to_the_letter() -> None:
    """What is chosen is what it is started with."""
    command = launched(vllm.ENGINE, llm(), on(T4))
    assert after(command, "--max-num-seqs") == "8"
    assert after(command, "--dtype") == "half"
    assert after(command, "--attention-backend") == "TRITON_ATTN"
    assert after(command, "--gpu-memory-utilization") == "0.9"
    assert {"--enable-prefix-caching", "--enable-chunked-prefill"} <= {*command}
    assert not {"--enforce-eager", "--tensor-parallel-size", "--speculative-config"} & {*command}


@pytest.mark.parametrize(
    ("image", "flag", "variable"),
    [
        pytest.param(IMAGE, "FLASHINFER", None, id="today"),
        pytest.param("vllm/vllm-openai:v0.13.0", None, "FLASHINFER", id="before the flag"),
        pytest.param("example/server:1", "FLASHINFER", None, id="of unknown version"),
    ],
)
def test_vllm_is_told_its_attention(image: str, flag: str | None, variable: str | None) -> None:
    """By a flag since 0.14, by a variable before."""
    asked = llm(image=image, options={"attention_backend": "FLASHINFER"})
    launch = vllm.ENGINE.launch(asked, on(A100))
    assert after(launch.command, "--attention-backend") == flag
    assert launch.environment.get("VLLM_ATTENTION_BACKEND") == variable


@pytest.mark.parametrize("image", ["vllm/vllm-openai:v0.13.0", "example/server:1"])
def test_vllm_picks_for_itself_where_the_flag_is_not_known(image: str) -> None:
    """On a T4 it comes to Triton's by itself; a flag that it does not know would end it."""
    assert chosen(vllm.ENGINE, llm(image=image), on(T4))["attention_backend"] is None


def test_vllm_keeps_what_the_operator_wrote() -> None:
    """Options, the workload's parallel and flags among its args prevail, and are shown as his."""
    asked = llm(
        parallel=5,
        options={"gpu_memory_utilization": 0.5, "dtype": "float16", "quantization": "awq"},
        args=("--no-enable-prefix-caching", "--attention-backend=FLEX_ATTENTION"),
    )
    assert operators(vllm.ENGINE, asked, on(T4)) == {
        "gpu_memory_utilization": 0.5,
        "max_num_seqs": 5,
        "dtype": "float16",
        "attention_backend": "FLEX_ATTENTION",
        "enable_prefix_caching": "--no-enable-prefix-caching",
        "quantization": "awq",
    }
    command = launched(vllm.ENGINE, asked, on(T4))
    assert after(command, "--max-num-seqs") == "5"
    assert "--enable-prefix-caching" not in command
    assert "TRITON_ATTN" not in command


@pytest.mark.parametrize(
    ("changes", "sequences"),
    [
        pytest.param({"intent": '{"parallel":1}'}, 1, id="one, because it is written"),
        pytest.param({"options": {"max_num_seqs": 3}, "parallel": 9}, 3, id="the option"),
    ],
)
def test_vllm_s_sequences_by_the_operator(changes: dict[str, Any], sequences: int) -> None:
    """A parallel of 1 that stands in the profile counts; the engine's own option is stronger."""
    assert operators(vllm.ENGINE, llm(**changes), on(T4)) == {"max_num_seqs": sequences}
    assert after(launched(vllm.ENGINE, llm(**changes), on(T4)), "--max-num-seqs") == str(sequences)


def test_vllm_of_a_card_without_any_fact() -> None:
    """Without size or capability nothing about them is chosen."""
    nothing = GpuIdentity(index=0, uuid="GPU-0")
    assert not {"max_num_seqs", "dtype", "attention_backend"} & {
        *chosen(vllm.ENGINE, llm(), on(nothing))
    }


def test_vllm_embeds() -> None:
    """A model that makes no text decides for itself how it takes prompts."""
    keys = chosen(vllm.ENGINE, llm(kind="embedding"), on(A100))
    assert not {"enable_prefix_caching", "enable_chunked_prefill", "speculative_config"} & {*keys}


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        pytest.param({}, ("1", False), id="by itself"),
        pytest.param({"TORCH_NCCL_BLOCKING_WAIT": "0"}, ("0", True), id="by the operator"),
    ],
)
def test_vllm_in_a_group(environment: dict[str, str], shown: tuple[str, bool]) -> None:
    """A group is parallel over its GPUs, and a collective that fails says so."""
    asked = llm(environment=environment)
    found = {t.key: t for t in tuned(asked, on(A100, A100), vllm.ENGINE)[1]}
    assert found["tensor_parallel_size"].value == 2
    wait = found["TORCH_NCCL_BLOCKING_WAIT"]
    assert (wait.value, wait.by_operator) == shown
    launch = vllm.ENGINE.launch(asked, on(A100, A100))
    assert launch.environment["TORCH_NCCL_BLOCKING_WAIT"] == "1"
    assert "TORCH_NCCL_BLOCKING_WAIT" not in vllm.ENGINE.launch(asked, on(A100)).environment


def test_a_variable_is_named_where_it_set_something() -> None:
    """In a group's own variables too, and on the CPU."""
    asked = llm(
        options={"max_num_seqs": 8, "dtype": "half", "gpu_memory_utilization": 0.8},
        environment={"TORCH_NCCL_BLOCKING_WAIT": "0"},
        set_by={
            "max_num_seqs": "MAX_NUM_SEQS",
            "gpu_memory_utilization": "GPU_MEMORY_UTILIZATION",
            "TORCH_NCCL_BLOCKING_WAIT": "NCCL_BLOCKING_WAIT",
        },
    )
    group, cpu = (
        {t.key: t.why for t in tuned(asked, where, vllm.ENGINE)[1] if t.by_operator}
        for where in (on(A100, A100), on())
    )
    assert group == {
        "gpu_memory_utilization": "from GPU_MEMORY_UTILIZATION",
        "max_num_seqs": "from MAX_NUM_SEQS",
        "dtype": "as the profile says",
        "TORCH_NCCL_BLOCKING_WAIT": "from NCCL_BLOCKING_WAIT",
    }
    assert cpu == {"max_num_seqs": "from MAX_NUM_SEQS", "dtype": "as the profile says"}


def test_vllm_s_caches() -> None:
    """What it fetches and compiles is kept; a model that lies on the disk is not fetched."""
    compiled = (
        Mount(source="gpuctl-vllm", target="/root/.cache/vllm"),
        Mount(source="gpuctl-triton", target="/root/.triton"),
        Mount(source="gpuctl-cuda", target="/root/.nv/ComputeCache"),
    )
    fetched = Mount(source="gpuctl-huggingface", target="/root/.cache/huggingface")
    assert vllm.ENGINE.launch(llm(), on(A100)).mounts == (fetched, *compiled)
    assert vllm.ENGINE.launch(llm(model="/models/m"), on(A100)).mounts == compiled
    own = Mount(source="/srv/hf", target="/root/.cache")
    assert vllm.ENGINE.launch(llm(mounts=(own,)), on(A100)).mounts == compiled[1:]


@pytest.mark.parametrize(
    ("options", "flags"),
    [
        pytest.param(
            {"speculative_config": '{"method": "ngram"}'},
            {"--speculative-config": '{"method": "ngram"}'},
            id="speculation",
        ),
        pytest.param(
            {"kv_offloading_gib": 8.0},
            {"--kv-offloading-backend": "native", "--kv-offloading-size": "8"},
            id="offloading",
        ),
    ],
)
def test_vllm_s_newer_options(options: dict[str, Any], flags: dict[str, str]) -> None:
    """Each becomes its flags, as the operator's."""
    command = launched(vllm.ENGINE, llm(options=options), on(A100))
    assert {flag: after(command, flag) for flag in flags} == flags
    assert operators(vllm.ENGINE, llm(options=options), on(A100)) == options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"speculative_config": "ngram"}, "it is not a JSON object", id="no JSON"),
        pytest.param({"speculative_config": "[1]"}, "it is not a JSON object", id="no object"),
        pytest.param({"kv_offloading_gib": 0.0}, "0.0 is not above 0", id="nothing"),
    ],
)
def test_vllm_s_newer_options_out_of_range(options: dict[str, Any], message: str) -> None:
    """A value that means nothing is refused."""
    with pytest.raises(ValueError, match=message):
        vllm.Options(**options)


OFF = {"gpu_layers": 999, "flash_attention": None, "cache_type_k": None, "cache_type_v": None}


@pytest.mark.parametrize(
    ("gpu", "changes", "own"),
    [
        pytest.param(P106, {}, {"batch": 256, "ubatch": 256, "spec_type": None}, id="p106"),
        pytest.param(T4, {}, {"spec_type": None}, id="t4"),
        pytest.param(
            P106,
            {"kind": "embedding", "context": 1024},
            {"batch": 1024, "ubatch": 1024},
            id="embeddings",
        ),
        pytest.param(
            A100, {"kind": "rerank", "context": 512}, {"batch": 512, "ubatch": 512}, id="rerank"
        ),
        pytest.param(A100, {"kind": "embedding"}, {}, id="embeddings of any length"),
        pytest.param(GpuIdentity(index=0, uuid="GPU-0"), {}, {"spec_type": None}, id="no fact"),
    ],
)
def test_llama_cpp_by_card(gpu: GpuIdentity, changes: dict[str, Any], own: dict[str, Any]) -> None:
    """A small card gets small batches; a text to embed is never split."""
    assert chosen(llamacpp.ENGINE, workload(**changes), on(gpu)) == OFF | own


def test_llama_cpp_keeps_what_the_operator_wrote() -> None:
    """Options and flags among its args prevail, and are shown as his."""
    asked = workload(
        options={"ubatch": 512, "threads": 2, "flash_attention": "on"}, args=("-b", "9")
    )
    assert operators(llamacpp.ENGINE, asked, on(P106)) == {
        "batch": "9",
        "ubatch": 512,
        "flash_attention": "on",
        "threads": 2,
    }
    command = launched(llamacpp.ENGINE, asked, on(P106))
    assert (after(command, "-ub"), after(command, "-b")) == ("512", "9")


@pytest.mark.parametrize(
    ("gpu", "runtime", "kept"),
    [
        pytest.param(P106, "docker", True, id="compiled"),
        pytest.param(card("NVIDIA RTX A6000", 48), "docker", False, id="code in the image"),
        pytest.param(GpuIdentity(index=0, uuid="GPU-0"), "docker", False, id="not known"),
        pytest.param(P106, "process", False, id="a process"),
    ],
)
def test_llama_cpp_keeps_what_the_driver_compiles(
    gpu: GpuIdentity, runtime: str, kept: bool
) -> None:
    """Where the image has no code for the card, the driver's is found again at the next start."""
    launch = llamacpp.ENGINE.launch(workload(model="/m.gguf"), on(gpu, runtime=runtime))
    cache = Mount(source="gpuctl-cuda", target="/root/.cache/cuda")
    variables = {"CUDA_CACHE_PATH": "/root/.cache/cuda", "CUDA_CACHE_MAXSIZE": "4294967296"}
    assert launch.mounts == ((cache,) if kept else ())
    assert launch.environment == (variables if kept else {})
    shown = tuned(workload(), on(gpu, runtime=runtime), llamacpp.ENGINE)[1]
    why = "the image has no code for this card: the driver compiles it once"
    row = Tuned(key="mounts", value="gpuctl-cuda:/root/.cache/cuda", why=why)
    assert (row in shown) is kept


def test_llama_cpp_guesses_ahead() -> None:
    """Speculative decoding is the operator's to turn on; a draft model lies where models do."""
    options = {"spec_type": "draft-simple", "spec_draft_model": "d.gguf", "spec_draft_max": 4}
    command = launched(llamacpp.ENGINE, workload(options=options), on(A100))
    flags = ("--spec-type", "--spec-draft-model", "--spec-draft-n-max")
    assert [after(command, flag) for flag in flags] == ["draft-simple", "/models/d.gguf", "4"]


def test_the_cpu_has_nothing_to_suit() -> None:
    """Without a GPU the workload is launched as it is; vLLM keeps what it fetches there too."""
    assert tuned(workload(), slot(gpus=0), llamacpp.ENGINE) == (workload(), ())
    asked, shown = tuned(llm(), slot(gpus=0), vllm.ENGINE)
    assert asked == llm()
    kept = ["gpuctl-huggingface:/root/.cache/huggingface", "gpuctl-vllm:/root/.cache/vllm"]
    assert [row.value for row in shown] == kept
    sources = [mount.source for mount in vllm.ENGINE.launch(llm(), slot(gpus=0)).mounts]
    assert sources == ["gpuctl-huggingface", "gpuctl-vllm"]


@pytest.mark.parametrize(
    ("mounts", "told"),
    [
        pytest.param((Mount(source="/srv/cache", target="/root/.cache"),), True, id="his own"),
        pytest.param((), False, id="none that he could write"),
    ],
)
def test_llama_cpp_of_another_user(mounts: tuple[Mount, ...], told: bool) -> None:
    """The driver is told of a cache that is there at the next start, and of no other."""
    asked = workload(user="1000", model="/m.gguf", mounts=mounts)
    launch = llamacpp.ENGINE.launch(asked, on(P106))
    assert ("CUDA_CACHE_PATH" in launch.environment) is told
    assert launch.mounts == ()
