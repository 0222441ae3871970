"""How far a start has come and why one gave up, by lines that real engines wrote."""

from __future__ import annotations

import pytest

from gpuctl.engines import llamacpp, vllm
from gpuctl.plugin import STAGES, Explained, load_engines

#: vLLM 0.32 with a model of random weights, shortened; the CUDA lines are of its source.
VLLM = (
    "(APIServer pid=1) INFO 11-21 10:49:24 [model.py:733] Resolved architecture: LlamaForCausalLM",
    "(Worker pid=9) INFO 11-21 10:49:40 [default_loader.py:502] Loading weights took 0.01 seconds",
    "(Worker pid=9) INFO [gpu_model_runner.py:6582] Graph capturing finished in 9 secs, took 0.5",
    "(EngineCore pid=2) INFO 11-21 10:49:43 [core.py:402] init engine (profile, create kv cache, "
    "warmup model) took 2.59 s",
    "INFO:     Application startup complete.",
)
#: The server of xllamacpp 2026.10, and llama-server's of the same time.
LLAMA = (
    "0.00.007.727 I srv    load_model: loading model '/models/m.gguf'",
    "0.00.421.938 I srv    load_model: initializing, n_slots = 1, n_ctx_slot = 512",
    "0.00.424.270 I srv          init: model loaded",
)


@pytest.mark.parametrize(
    ("engine", "lines", "reached"),
    [
        pytest.param("vllm", VLLM[:1], "", id="vllm-begins"),
        pytest.param("vllm", VLLM[:2], "weights_loaded", id="vllm-weights"),
        pytest.param("vllm", VLLM[:3], "graphs_ready", id="vllm-graphs"),
        pytest.param("vllm", VLLM[3:], "warmed_up", id="vllm-warm, the lines before scrolled by"),
        pytest.param("vllm", VLLM[4:], "", id="vllm-serves"),
        pytest.param("llama.cpp", LLAMA[:1], "", id="llama.cpp-begins"),
        pytest.param("llama.cpp", LLAMA[:2], "weights_loaded", id="llama.cpp-slots"),
        pytest.param("llama.cpp", LLAMA[2:], "weights_loaded", id="llama.cpp-loaded"),
    ],
)
def test_stage(engine: str, lines: tuple[str, ...], reached: str) -> None:
    """The furthest that the lines tell of; none that are not there."""
    stage = load_engines()[engine].stage
    assert stage is not None
    assert stage(lines) == reached
    assert reached in ("", *STAGES)


@pytest.mark.parametrize(
    ("line", "explained"),
    [
        pytest.param(
            "ValueError: To serve at least one request with the model's max seq len (131072), "
            "(16.00 GiB KV cache is needed, which is larger than the available KV cache memory "
            "(3.21 GiB). Based on the available memory, the estimated maximum model length is "
            "26272. Try increasing `gpu_memory_utilization`",
            Explained(
                what="one request of 131072 tokens needs 16.00 GiB of KV cache, and 3.21 GiB are "
                "left for it",
                hint="write context = 26272 or less, or a larger gpu_memory_utilization",
            ),
            id="kv-cache",
        ),
        pytest.param(
            "ValueError: To serve at least one request with the model's max seq len (8192), "
            "(1.00 GiB KV cache is needed, which is larger than the available KV cache memory "
            "(0.02 GiB). Try increasing",
            Explained(
                what="one request of 8192 tokens needs 1.00 GiB of KV cache, and 0.02 GiB are left "
                "for it",
                hint="write a smaller `context`, or a larger gpu_memory_utilization",
            ),
            id="kv-cache-without-a-guess",
        ),
        pytest.param(
            "ValueError: The model's max seq len (32768) is larger than the maximum number of "
            "tokens that can be stored in KV cache (24000). Try increasing",
            Explained(
                what="one request may have 32768 tokens, and the KV cache has room for 24000",
                hint="write context = 24000 or less, or a larger gpu_memory_utilization",
            ),
            id="kv-cache-of-before",
        ),
        pytest.param(
            "ValueError: Free memory on device cuda:0 (9.10/23.60 GiB) on startup is less than "
            "desired GPU memory utilization (0.9, 21.24 GiB). Decrease",
            Explained(
                what="of the GPU 9.10 of 23.60 GiB were free, and gpu_memory_utilization 0.9 "
                "claims 21.24 GiB",
                hint="write a smaller gpu_memory_utilization, or end what else holds the GPU's "
                "memory (`gpuctl gpus` names it)",
            ),
            id="not-free",
        ),
    ],
)
def test_vllm_says_how_much(line: str, explained: Explained) -> None:
    """Its own figures are taken over, with the key of the profile that would change them."""
    assert vllm.ENGINE.explain is not None
    assert vllm.ENGINE.explain(("INFO x", line, "Traceback")) == explained


@pytest.mark.parametrize(
    ("line", "what"),
    [
        pytest.param("No available memory for the cache blocks.", "leave nothing", id="nothing"),
        pytest.param(
            "Bfloat16 is only supported on GPUs with compute capability of at least 8.0. Your T4",
            "bfloat16",
            id="dtype",
        ),
        pytest.param("RuntimeError: Failed to infer device type", "finds no GPU", id="no-gpu"),
        pytest.param("torch.OutOfMemoryError: CUDA out of memory. Tried", "ran out", id="memory"),
        pytest.param("OSError: Can't load the configuration of 'x'", "no such model", id="model"),
        pytest.param(
            "vllm: error: unrecognized arguments: --disable-access-log-for-endpoints /health",
            "does not know one of its flags",
            id="flag",
        ),
        pytest.param("increase it, set VLLM_ENGINE_READY_TIMEOUT_S=<s>", "not ready", id="time"),
    ],
)
def test_vllm_says_what(line: str, what: str) -> None:
    """Each has what to change beside it."""
    assert vllm.ENGINE.explain is not None
    explained = vllm.ENGINE.explain((line,))
    assert explained is not None
    assert what in explained.what
    assert explained.hint


@pytest.mark.parametrize(
    ("line", "what"),
    [
        pytest.param(
            "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 5000.00 MiB on device 0: "
            "cudaMalloc failed: out of memory",
            "ran out",
            id="memory",
        ),
        *(
            pytest.param(line, "needs flash attention", id=id_)
            for id_, line in (
                ("v-cache", "llama_init_from_model: quantized V cache requires flash_attn to be"),
                (
                    "v-cache-auto",
                    "quantized V cache was requested, but this requires Flash Attention",
                ),
                ("v-cache-before", "V cache quantization requires flash_attn"),
            )
        ),
        pytest.param(
            "ggml_cuda_init: failed to initialize CUDA: no CUDA-capable device is detected",
            "finds no GPU",
            id="no-gpu",
        ),
        pytest.param(
            "CUDA error: no kernel image is available for execution on the device",
            "does not run on this card",
            id="card",
        ),
        pytest.param(
            "error loading model architecture: unknown model architecture: 'new'",
            "does not know the model's architecture",
            id="architecture",
        ),
        pytest.param(
            "gguf_init: failed to open GGUF file 'm.gguf'",
            "no such model file",
            id="file",
        ),
        pytest.param(
            "tensor 'a' data is not within the file bounds, model is corrupted or incomplete",
            "cut off",
            id="cut off",
        ),
        pytest.param("error: invalid argument: --cache-ram", "one of its flags", id="flag"),
    ],
)
def test_llamacpp_says_what(line: str, what: str) -> None:
    """The words of the server and of ggml, told in an operator's."""
    assert llamacpp.ENGINE.explain is not None
    explained = llamacpp.ENGINE.explain(("llama_model_load", line))
    assert explained is not None
    assert what in explained.what
    assert explained.hint


@pytest.mark.parametrize("name", ["vllm", "llama.cpp", "llama-cpp-python"])
def test_what_is_not_known_is_not_explained(name: str) -> None:
    """A good start gives no reason."""
    explain = load_engines()[name].explain
    assert explain is not None
    assert explain((*VLLM, *LLAMA)) is None
