"""What vLLM claims of its GPUs, and whether weights and one request fit in it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gpuctl.engines.vllm.memory import memory
from gpuctl.errors import PlanRefused
from gpuctl.model import GIB, GpuIdentity, Known, LayerCache, ModelFacts, VramPlan
from gpuctl.planning import plan
from gpuctl.plugin import Slot
from tests.planning.make import ENGINES, host, profile, workload

#: Llama 3.1 8B in 16 bits: 15 GiB.
LLAMA = ModelFacts(
    source="/m/llama",
    format="safetensors",
    architecture="llama",
    name="Llama-3.1-8B",
    quantization="bf16",
    parameters=8_030_261_248,
    weights_bytes=16_060_522_496,
    embedding_length=4096,
    feed_forward_length=14336,
    heads=32,
    vocabulary=128256,
    context_max=131072,
    cache=(LayerCache(layers=32, kv_heads=8, key_length=128, value_length=128),),
    quantized_ratio=0.87,
)
CARD = GpuIdentity(
    index=0, uuid="GPU-0", name="RTX 3090", memory_total_bytes=24 * GIB, compute_capability=(8, 6)
)


def asked(**changes: Any) -> Any:
    return workload(engine="vllm", mounts=(), **{"context": 8192, **changes})


def found(facts: ModelFacts = LLAMA, *cards: GpuIdentity, **changes: Any) -> VramPlan:
    slot = Slot(index=0, gpus=cards or (CARD,), port=8081, runtime="docker")
    vram = memory(asked(**changes), slot, facts)
    assert vram is not None
    return vram


def test_a_share_of_what_cuda_has() -> None:
    """What the driver keeps of a card is no part of the whole that the share is of."""
    card = replace(CARD, reserved_bytes=GIB)
    assert found(LLAMA, card).total_bytes == int(23 * GIB * 0.9)
    assert found(LLAMA, card, replace(card, index=1)).total_bytes == int(46 * GIB * 0.9)


def test_the_claim() -> None:
    """It takes its share of the card, and the lines inside of it add up to that."""
    vram = found()
    assert (vram.total_bytes, vram.source) == (int(24 * GIB * 0.9), "claim")
    assert sum(line.amount_bytes for line in vram.lines) == vram.total_bytes
    assert vram.weights_bytes == 16_060_522_496
    # 128 KiB a token; 2,048 tokens at once take 3 x 14336 + 4 x 4096 numbers of 16 bits each, and
    # one sequence is sampled from three rows of 128,256 in 32 bits.
    peak = 2 * 2048 * (3 * 14336 + 4 * 4096) + 12 * 128256
    assert vram.overhead_bytes == peak
    left = int(24 * GIB * 0.9) - 16_060_522_496 - peak
    assert vram.lines[2].why == f"what is left: {left // 131072:,} tokens of 128 KiB each (16 bits)"
    assert vram.least_bytes == 16_060_522_496 + peak + 8192 * 131072


def test_over_two_gpus() -> None:
    """Tensor parallelism cuts the weights, and heads that are fewer than GPUs are kept twice."""
    other = replace(CARD, index=1, uuid="GPU-1", memory_total_bytes=20 * GIB)
    two = found(LLAMA, CARD, other)
    # Both take as much as the smaller has.
    assert two.total_bytes == int(2 * 20 * GIB * 0.9)
    assert two.lines[0].why == "bf16, over 2 GPUs"
    single = replace(LLAMA, cache=(LayerCache(layers=1, kv_heads=1, key_length=8, value_length=8),))
    one_request = (single_bytes(found(single)), single_bytes(found(single, CARD, other)))
    assert one_request[1] == 2 * one_request[0]


def single_bytes(vram: VramPlan) -> int:
    assert vram.least_bytes is not None
    return vram.least_bytes - (vram.weights_bytes or 0) - (vram.overhead_bytes or 0)


@pytest.mark.parametrize(
    ("options", "facts", "weights"),
    [
        pytest.param({}, LLAMA, 16_060_522_496, id="as in the files"),
        pytest.param(
            {"quantization": "fp8"},
            LLAMA,
            int((8_030_261_248 * 0.87 * 8 + 8_030_261_248 * (1 - 0.87) * 16) / 8),
            id="quantized while it is loaded",
        ),
        pytest.param(
            {"quantization": "awq"}, replace(LLAMA, quantization="awq int4"), 16_060_522_496,
            id="quantized already",
        ),
        pytest.param({}, replace(LLAMA, quantization="f32"), 8_030_261_248, id="halved"),
        pytest.param(
            {"dtype": "float32"}, replace(LLAMA, quantization="f32"), 16_060_522_496, id="f32 kept"
        ),
        pytest.param({"dtype": "float32"}, LLAMA, 2 * 16_060_522_496, id="doubled"),
        pytest.param({"dtype": "half"}, LLAMA, 16_060_522_496, id="other 16 bits"),
        pytest.param(
            {"quantization": "mxfp8", "dtype": "float"},
            LLAMA,
            int(8_030_261_248 * (0.87 * 8.25 + (1 - 0.87) * 32) / 8),
            id="quantized, and the rest wider",
        ),
        pytest.param({"quantization": "awq"}, LLAMA, 16_060_522_496, id="not while it is loaded"),
    ],
)  # fmt: skip
def test_the_weights(options: dict[str, Any], facts: ModelFacts, weights: int) -> None:
    """What is loaded is not always what lies in the files."""
    assert found(facts, options=options).weights_bytes == weights


@pytest.mark.parametrize(
    ("options", "why"),
    [
        pytest.param({}, "bf16", id="as in the files"),
        pytest.param({"dtype": "float32"}, "32 bits as it is loaded, bf16 in the files", id="f32"),
        pytest.param(
            {"quantization": "fp8"}, "fp8 as it is loaded, bf16 in the files", id="quantized"
        ),
    ],
)
def test_what_the_weights_are_in(options: dict[str, Any], why: str) -> None:
    """A number type of the profile stands beside the one in the files."""
    assert found(options=options).lines[0].why == why


def test_wider_numbers() -> None:
    """Activations and the cache are as wide as the model computes; the odds are 32 bits anyway."""
    plain, wide = found(), found(options={"dtype": "float32"})
    sampled = 12 * 128256
    assert (wide.overhead_bytes or 0) - sampled == 2 * ((plain.overhead_bytes or 0) - sampled)
    assert single_bytes(wide) == 2 * single_bytes(plain)
    assert "(32 bits)" in wide.lines[2].why
    own = found(options={"dtype": "float32", "kv_cache_dtype": "bfloat16"})
    assert single_bytes(own) == single_bytes(plain)


def test_a_cache_of_unknown_width() -> None:
    """It is summed as if it were not packed, and that is said."""
    vram = found(options={"kv_cache_dtype": "nvfp4"})
    assert single_bytes(vram) == single_bytes(found())
    assert vram.notes[1:] == (
        "how wide nvfp4 is is not known here: the KV cache is summed in 16 bits",
    )


@pytest.mark.parametrize(
    ("name", "gib", "changes", "tokens"),
    [
        pytest.param("NVIDIA A100-SXM4-80GB", 80, {}, 2048, id="a100"),
        pytest.param("NVIDIA H100 80GB HBM3", 80, {}, 8192, id="h100"),
        pytest.param("NVIDIA B200", 180, {"context": 65536}, 16384, id="b200"),
        pytest.param("NVIDIA B200", 180, {"context": 512}, 512, id="no more than there can be"),
        pytest.param(
            "NVIDIA L4",
            24,
            {"options": {"enable_chunked_prefill": False}},
            8192,
            id="whole prompts",
        ),
        pytest.param(
            "NVIDIA L4", 24, {"options": {"max_num_seqs": 4096}}, 4096, id="one of each sequence"
        ),
    ],
)
def test_tokens_of_a_step(name: str, gib: int, changes: dict[str, Any], tokens: int) -> None:
    """What vLLM takes by itself, by card, context and sequences."""
    card = replace(CARD, name=name, memory_total_bytes=gib * GIB)
    assert found(LLAMA, card, **changes).lines[1].why.startswith(f"{tokens} tokens at once")


def test_the_cache() -> None:
    """An 8-bit cache takes half, and layers with a window keep no more than that and a batch."""
    plain = single_bytes(found())
    assert single_bytes(found(options={"kv_cache_dtype": "fp8"})) == plain // 2
    windowed = replace(LLAMA, cache=(replace(LLAMA.cache[0], window=1008),))
    batch = {"max_num_batched_tokens": 1040, "kv_cache_dtype": "auto"}
    assert single_bytes(found(windowed, options=batch)) == plain // 8192 * 2048
    assert single_bytes(found(windowed, context=512)) == plain // 16


def test_a_large_card_and_experts() -> None:
    """A card of 80 GB takes four times the tokens at once; experts in use are as wide as many."""
    large = replace(CARD, memory_total_bytes=80 * GIB)
    assert found(LLAMA, large).lines[1].why == "8192 tokens at once, 1 sequences sampled"
    many = replace(LLAMA, experts=8, experts_used=2, expert_length=14336)
    assert (found(many).overhead_bytes or 0) > (found().overhead_bytes or 0)


def test_nothing_cached() -> None:
    """A model that keeps nothing of its tokens has no tokens to count."""
    assert "what is left: 0 tokens" in found(replace(LLAMA, cache=())).lines[2].why


@pytest.mark.parametrize(
    ("cards", "facts"),
    [
        pytest.param((), LLAMA, id="the CPU"),
        pytest.param((replace(CARD, memory_total_bytes=None),), LLAMA, id="a card without a size"),
    ],
)
def test_what_cannot_be_told(cards: tuple[GpuIdentity, ...], facts: ModelFacts) -> None:
    """On the CPU there is no share of a card; without sizes there is no sum."""
    slot = Slot(index=0, gpus=cards, port=8081, runtime="docker")
    assert memory(asked(), slot, facts) is None
    assert memory(asked(context=None), slot, replace(facts, context_max=None)) is None


@pytest.mark.parametrize(
    ("facts", "context"),
    [
        pytest.param(replace(LLAMA, weights_bytes=None), 8192, id="no weights"),
        pytest.param(replace(LLAMA, context_max=None), None, id="no context"),
    ],
)
def test_a_claim_without_headers(facts: ModelFacts, context: int | None) -> None:
    """Its share of the card is known before the model is; what goes on inside is not."""
    vram = found(facts, context=context)
    assert (vram.total_bytes, vram.source) == (int(24 * GIB * 0.9), "claim")
    assert (vram.weights_bytes, vram.least_bytes, vram.lines) == (None, None, ())
    assert "is not here" in vram.notes[1]


def test_what_its_files_say_and_do_not_hold() -> None:
    """A note of the headers stands beside the sum."""
    assert "the index is wrong" in found(replace(LLAMA, notes=("the index is wrong",))).notes


def test_two_claims_on_one_card_before_their_models_are_here() -> None:
    """They are refused before anything is fetched."""
    two = tuple(asked(name=name, port=port, gpus=((0,),)) for name, port in (("a", 1), ("b", 2)))
    with pytest.raises(PlanRefused, match="VRAM planned"):
        plan(profile(*two), host((CARD,)), ENGINES)


def refusal(**changes: Any) -> PlanRefused:
    known = Known(facts={"chat": changes.pop("facts", LLAMA)})
    with pytest.raises(PlanRefused) as refused:
        plan(profile(asked(**changes)), host((CARD,)), ENGINES, known=known)
    return refused.value


def test_less_than_one_request_fits() -> None:
    """A claim that does not hold one request is refused, with the context that would."""
    error = refusal(context=65536)
    assert error.message.startswith("workloads.chat: chat-0 needs 23.")
    assert "the KV cache of one request 8.0 GiB), and claims 21.6 GiB" in error.message
    context, quantization = error.hint.splitlines()[:2]
    largest = int(context.split()[3])
    assert largest % 256 == 0
    assert quantization == "chat: the model in FP8 would fit: 8.5 GiB of weights"
    known = Known(facts={"chat": LLAMA})
    assert plan(profile(asked(context=largest)), host((CARD,)), ENGINES, known=known).replicas


def test_the_weights_do_not_fit() -> None:
    """Weights beyond the claim are refused, whatever the context."""
    huge = replace(LLAMA, parameters=None, weights_bytes=30 * GIB)
    assert refusal(facts=huge).hint == "choose a smaller model, or more GPUs for it"


def test_a_claim_is_not_learned_from() -> None:
    """What vLLM takes is its share of the card: a measurement says nothing of the model."""
    known = Known(facts={"chat": LLAMA}, measured={"": GIB})
    vram = plan(profile(asked()), host((CARD,)), ENGINES, known=known).replicas[0].vram
    assert vram is not None
    assert (vram.measure_key, vram.source) == ("", "claim")
