"""What llama.cpp takes, held against the figures that the server itself reports."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gpuctl.model import GIB, MIB, LayerCache, ModelFacts
from gpuctl.sizing import LlamaRun, llama_cpp
from gpuctl.sizing.llama import llama_buffer_bytes, llama_cache_bytes

SMOLLM2 = ModelFacts(
    source="/m/smollm2.gguf",
    format="gguf",
    architecture="llama",
    quantization="Q4_1",
    parameters=134_515_008,
    weights_bytes=96_576_768,
    output_bytes=30_083_328,
    blocks=30,
    embedding_length=576,
    feed_forward_length=1536,
    heads=9,
    vocabulary=49152,
    context_max=8192,
    cache=(LayerCache(layers=30, kv_heads=3, key_length=64, value_length=64),),
)
#: Five layers of six look through a window of 512 tokens.
GEMMA3 = replace(
    SMOLLM2,
    embedding_length=640,
    feed_forward_length=2048,
    heads=4,
    cache=(
        LayerCache(layers=10, kv_heads=4, key_length=256, value_length=256, window=512),
        LayerCache(layers=2, kv_heads=4, key_length=256, value_length=256),
    ),
)
#: Qwen3.5-9B: 8 layers attend, 24 keep a state of 2.09 MiB.
QWEN35 = replace(
    SMOLLM2,
    cache=(
        LayerCache(layers=24, state_bytes=4 * (3 * 8192 + 524288)),
        LayerCache(layers=8, kv_heads=4, key_length=256, value_length=256),
    ),
)
MIXTURE = replace(SMOLLM2, experts=8, experts_used=2, expert_length=4096)


@pytest.mark.parametrize(
    ("facts", "run", "mib"),
    [
        # `llama_kv_cache: CPU KV buffer size`, xllamacpp 2026.10.11549.
        pytest.param(SMOLLM2, LlamaRun(gpus=1, context=2048), 45, id="2048 tokens"),
        pytest.param(SMOLLM2, LlamaRun(gpus=1, context=2048, parallel=2), 90, id="two slots"),
        pytest.param(SMOLLM2, LlamaRun(gpus=1, context=1000), 22.5, id="whole pages of 256"),
        pytest.param(GEMMA3, LlamaRun(gpus=1, context=2048), 56, id="a window"),
        pytest.param(GEMMA3, LlamaRun(gpus=1, context=8192), 104, id="a window is kept as it is"),
        pytest.param(GEMMA3, LlamaRun(gpus=1, context=512), 24, id="a context within the window"),
        # https://github.com/ggml-org/llama.cpp: KV buffer 4352 MiB and RS buffer 100.5 MiB, which
        # is two sequences' state; one unified cache of 262,144 cells is as much as two of 131,072.
        pytest.param(
            QWEN35,
            LlamaRun(gpus=1, context=131072, parallel=2, key_type="q8_0", value_type="q8_0"),
            4352 + 100.5,
            id="a quantized cache, and a state for each sequence",
        ),
    ],
)
def test_the_cache(facts: ModelFacts, run: LlamaRun, mib: float) -> None:
    """The cache is what the server reports, to the byte."""
    assert llama_cache_bytes(facts, run) == mib * MIB


@pytest.mark.parametrize(
    ("facts", "run", "mib"),
    [
        # `sched_reserve: CPU compute buffer size`, xllamacpp 2026.10.11549.
        pytest.param(SMOLLM2, LlamaRun(gpus=1, context=2048), 16.64, id="2048 tokens"),
        pytest.param(SMOLLM2, LlamaRun(gpus=1, context=1024, ubatch=128), 3.91, id="small batch"),
        pytest.param(
            SMOLLM2, LlamaRun(gpus=1, context=2048, flash_attention=False), 47.51, id="no flash"
        ),
        pytest.param(GEMMA3, LlamaRun(gpus=1, context=2048), 21.28, id="two masks"),
        pytest.param(GEMMA3, LlamaRun(gpus=1, context=8192), 27.28, id="a longer mask"),
    ],
)
def test_the_buffers(facts: ModelFacts, run: LlamaRun, mib: float) -> None:
    """The compute buffers are what the server reports, within 1 %."""
    assert llama_buffer_bytes(facts, run) == pytest.approx(mib * MIB, rel=0.01)


def test_what_makes_buffers_larger() -> None:
    """A quantized cache is unpacked, experts answer each, and embeddings of all tokens are kept."""
    plain = LlamaRun(gpus=1, context=2048)
    base = llama_buffer_bytes(SMOLLM2, plain)
    unpacked = replace(plain, key_type="q8_0", value_type="q8_0")
    assert llama_buffer_bytes(SMOLLM2, unpacked) - base == 2 * 2048 * 3 * 128
    every = replace(plain, all_outputs=True)
    assert llama_buffer_bytes(SMOLLM2, every) - base == 4 * 512 * 576
    assert llama_buffer_bytes(MIXTURE, plain) > base
    assert llama_buffer_bytes(replace(SMOLLM2, cache=()), plain) < base


@pytest.mark.parametrize(
    ("layers", "weights", "share"),
    [
        pytest.param(None, 96_576_768, "; f16, 1 slot", id="all"),
        pytest.param(31, 96_576_768, "; f16, 1 slot", id="all and the output layer"),
        pytest.param(30, 94_360_320, "; f16, 1 slot", id="all but the first"),
        pytest.param(15, 61_113_600, "50% of it on the GPU; f16, 1 slot", id="half"),
        pytest.param(1, 30_083_328, "3% of it on the GPU; f16, 1 slot", id="the output layer"),
        pytest.param(0, 0, "0% of it on the GPU; f16, 1 slot", id="none"),
    ],
)
def test_layers_on_the_gpu(layers: int | None, weights: int, share: str) -> None:
    """Of layers that stay on the host, neither weights nor cache are counted."""
    found = llama_cpp(SMOLLM2, LlamaRun(gpus=1, context=2048, gpu_layers=layers))
    assert found is not None
    assert found.weights_bytes == weights
    assert found.kv_bytes == 45 * MIB * min(layers or 0, 30) // 30 or layers is None
    assert found.lines[1].why.endswith(share)


def test_layers_larger_than_the_output() -> None:
    """Servers before 2026 leave the output layer in RAM: whichever is more is planned."""
    large = replace(SMOLLM2, output_bytes=1_000_000)
    found = llama_cpp(large, LlamaRun(gpus=1, context=2048, gpu_layers=15))
    assert found is not None
    assert found.weights_bytes == (96_576_768 - 1_000_000) // 2


def test_on_the_host() -> None:
    """Without a GPU all of it is in RAM, the embeddings too, and there is no CUDA context."""
    facts = replace(SMOLLM2, input_bytes=1000)
    found = llama_cpp(facts, LlamaRun(gpus=0, context=2048))
    assert found is not None
    assert found.weights_bytes == facts.weights_bytes
    assert [line.label for line in found.lines] == ["weights", "KV cache", "compute buffers"]
    on_gpu = llama_cpp(facts, LlamaRun(gpus=1, context=2048))
    assert on_gpu is not None
    assert on_gpu.weights_bytes == 96_576_768 - 1000
    assert "stay in host RAM" in on_gpu.lines[0].why


@pytest.mark.parametrize(
    ("cache", "why"),
    [
        pytest.param((), "it keeps nothing of the tokens it has read", id="an encoder"),
        pytest.param(
            (LayerCache(layers=2, state_bytes=8),), "2 layers of a fixed state; f16", id="states"
        ),
        pytest.param(
            (LayerCache(layers=2, kv_heads=1, key_length=4, value_length=4, state_bytes=8),),
            "x 2048 tokens and a fixed state; f16",
            id="both",
        ),
        pytest.param(
            tuple(LayerCache(layers=n, kv_heads=n, key_length=1) for n in (1, 2, 3, 4, 5)),
            " + 2 more kinds of layer; f16, 1 slot",
            id="many kinds",
        ),
    ],
)
def test_how_a_cache_is_summed(cache: tuple[LayerCache, ...], why: str) -> None:
    """The line says how the cache came about."""
    found = llama_cpp(replace(SMOLLM2, cache=cache), LlamaRun(gpus=1, context=2048))
    assert found is not None
    assert why in found.lines[1].why


def test_mixed_types() -> None:
    """Keys and values may be of different types, and both are told."""
    run = LlamaRun(gpus=2, context=2048, parallel=2, key_type="q8_0", value_type="q4_0")
    found = llama_cpp(SMOLLM2, run)
    assert found is not None
    assert found.lines[1].why.endswith("; q8_0/q4_0, 2 slots")
    assert found.lines[3].amount_bytes == 2 * 250 * MIB


def test_what_headers_do_not_tell() -> None:
    """Without a context or weights there is no sum; the model's own context is the default."""
    assert llama_cpp(replace(SMOLLM2, context_max=None), LlamaRun(gpus=1)) is None
    assert llama_cpp(replace(SMOLLM2, weights_bytes=None), LlamaRun(gpus=1)) is None
    found = llama_cpp(SMOLLM2, LlamaRun(gpus=1))
    assert found is not None
    assert found.kv_bytes == 180 * MIB


#: 32 layers of 1 GiB each, with a cache of 64 MiB each, and an output layer of 2 GiB.
WHOLE = replace(
    SMOLLM2,
    weights_bytes=34 * GIB,
    output_bytes=2 * GIB,
    blocks=32,
    cache=(LayerCache(layers=32, kv_heads=8, key_length=1024, value_length=1024),),
)


@pytest.mark.parametrize(
    ("gpus", "layers", "fullest"),
    [
        # Of llama_model_base::load_tensors: layer i is on the first GPU of whose share of them all
        # i is below, and the output layer counts as one more.
        pytest.param(8, None, 5 * (GIB + 64 * MIB), id="5 4 4 4 4 4 4 4"),
        pytest.param(2, None, 17 * (GIB + 64 * MIB), id="17 16"),
        pytest.param(3, None, 10 * (GIB + 64 * MIB) + 2 * GIB, id="11 11 11: with the output"),
        pytest.param(33, None, 2 * GIB, id="one each: the output alone"),
        pytest.param(4, 16, 3 * (GIB + 64 * MIB) + 2 * GIB, id="4 4 4 4, and the rest in RAM"),
    ],
)
def test_layers_are_whole(gpus: int, layers: int | None, fullest: int) -> None:
    """Of several GPUs the fullest is planned with the layers that it gets, and its own buffers."""
    run = LlamaRun(gpus=gpus, context=2048, gpu_layers=layers)
    found = llama_cpp(WHOLE, run)
    assert found is not None
    own = llama_buffer_bytes(WHOLE, run) + 250 * MIB
    assert found.share_bytes(gpus) == fullest + own


@pytest.mark.parametrize(
    ("heavy", "layers", "fullest"),
    [
        pytest.param(range(8), None, 5 * (2 * GIB + 64 * MIB), id="the first"),
        pytest.param(range(26, 32), None, 3 * (2 * GIB + 64 * MIB) + 2 * GIB, id="the last"),
        pytest.param(range(25, 29), None, 4 * (2 * GIB + 64 * MIB), id="the last but one"),
        pytest.param(range(8), 16, 3 * GIB + 64 * MIB, id="none of those in VRAM"),
    ],
)
def test_layers_of_two_sizes(heavy: range, layers: int | None, fullest: int) -> None:
    """Quantizations give the first and the last layers more bits: what each has is counted."""
    sizes = tuple(2 * GIB if index in heavy else GIB for index in range(32))
    facts = replace(WHOLE, weights_bytes=sum(sizes) + 2 * GIB, layer_bytes=sizes)
    run = LlamaRun(gpus=8, context=2048, gpu_layers=layers)
    found = llama_cpp(facts, run)
    assert found is not None
    own = llama_buffer_bytes(facts, run) + 250 * MIB
    assert found.share_bytes(8) == fullest + own


def test_layers_of_two_kinds() -> None:
    """Kinds take turns, so a GPU has its part of each, rounded up to whole ones."""
    run = LlamaRun(gpus=4, context=2048)
    two = replace(
        WHOLE,
        cache=(
            LayerCache(layers=27, kv_heads=8, key_length=64, value_length=64, window=512),
            LayerCache(layers=5, kv_heads=8, key_length=1024, value_length=1024),
        ),
    )
    found = llama_cpp(two, run)
    assert found is not None
    # 9 layers: 8 of 1,024 tokens x 2 KiB, and 2 of 2,048 tokens x 32 KiB.
    fullest = 9 * GIB + 8 * 2 * MIB + 2 * 64 * MIB
    assert found.share_bytes(4) == fullest + llama_buffer_bytes(two, run) + 250 * MIB


@pytest.mark.parametrize(
    ("facts", "run"),
    [
        pytest.param(WHOLE, LlamaRun(gpus=1, context=2048), id="one GPU"),
        pytest.param(replace(WHOLE, blocks=None), LlamaRun(gpus=2, context=2048), id="not told"),
        pytest.param(WHOLE, LlamaRun(gpus=2, context=2048, gpu_layers=0), id="no layer"),
    ],
)
def test_nothing_to_divide(facts: ModelFacts, run: LlamaRun) -> None:
    """Each takes the same."""
    found = llama_cpp(facts, run)
    assert found is not None
    assert found.uneven_bytes == 0
