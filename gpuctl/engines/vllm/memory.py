"""
What vLLM takes of its GPUs: a share of each, and whether weights and one request fit in it.

It takes `gpu_memory_utilization` of a card whatever the model, and gives what weights and
activations leave to the KV cache. Source: vLLM, v1/worker/gpu_worker.py
(determine_available_memory) and v1/core/kv_cache_utils.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gpuctl.model import GIB, LayerCache, ModelFacts, VramLine, VramPlan, Workload
from gpuctl.plugin import Slot
from gpuctl.sizing import surprise

#: Source: vllm/config/cache.py; what the profile's options say stands above it.
_UTILIZATION = 0.9
#: Tokens of one step, of a server on cards below 70 GiB. Source: vllm/engine/arg_utils.py.
_BATCHED_TOKENS = 2048
_BATCHED_TOKENS_LARGE = 8192
_LARGE_CARD_BYTES = 70 * GIB

#: What is said of a model that was not fetched yet.
_UNREAD = "the model is not here, or does not tell: whether it fits into that is not known"

#: A cache block holds so many tokens.
_BLOCK = 16

#: Weights that are quantized while they are loaded, in bits. Source: docs/features/quantization.
_LOADED_BITS = {"fp8": 8.0, "bitsandbytes": 4.5, "experts_int8": 8.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    share: float
    gpus: int
    total_bytes: int  # of all its GPUs
    context: int  # 0: not known
    sequences: int
    batched_tokens: int
    cache_bytes: float  # of one number in the cache
    cache_type: str


def memory(workload: Workload, slot: Slot, facts: ModelFacts) -> VramPlan | None:
    """
    Return the claim, and what goes on inside it as far as the headers tell.

    `None` on the CPU, where there is no share of a GPU to take, and where a card's size is unknown.
    """
    sizes = [gpu.usable_bytes for gpu in slot.gpus]
    known = [size for size in sizes if size is not None]
    if not sizes or len(known) < len(sizes):
        return None
    run = _run(workload, known, facts)
    claim = int(run.total_bytes * run.share)
    if facts.weights_bytes is None or not run.context:
        return VramPlan(total_bytes=claim, source="claim", notes=(_taken(run), _UNREAD))
    weights = _weights(workload, facts, run)
    peak = _activations(facts, run) * run.gpus
    request = _request_bytes(facts, run)
    left = claim - weights - peak
    tokens = max(0, left) * run.context // request if request else 0
    return VramPlan(
        total_bytes=claim,
        weights_bytes=weights,
        kv_bytes=max(0, left),
        overhead_bytes=peak,
        source="claim",
        least_bytes=weights + peak + request,
        lines=(
            VramLine(label="weights", amount_bytes=weights, why=_weights_why(facts, run)),
            VramLine(
                label="activations",
                amount_bytes=peak,
                why=f"{run.batched_tokens} tokens at once, {run.sequences} sequences sampled",
            ),
            VramLine(
                label="KV cache",
                amount_bytes=max(0, left),
                why=f"what is left: {tokens:,} tokens of {_per_token(request, run)}",
            ),
        ),
        notes=tuple(_notes(workload, facts, run)),
    )


def _run(workload: Workload, known: list[int], facts: ModelFacts) -> _Run:
    """Return how it would run on cards of these sizes."""
    options = workload.options
    share, dtype = options.get("gpu_memory_utilization"), str(options.get("kv_cache_dtype") or "")
    large = min(known) >= _LARGE_CARD_BYTES
    batched = _whole(options.get("max_num_batched_tokens"))
    default = max(_BATCHED_TOKENS_LARGE if large else _BATCHED_TOKENS, workload.parallel)
    return _Run(
        share=float(share) if isinstance(share, int | float) else _UTILIZATION,
        gpus=len(known),
        total_bytes=min(known) * len(known),
        context=workload.context or facts.context_max or 0,
        sequences=_whole(options.get("max_num_seqs")) or workload.parallel,
        batched_tokens=batched or default,
        cache_bytes=1.0 if dtype.startswith("fp8") or dtype == "int8" else 2.0,
        cache_type=dtype if dtype and dtype != "auto" else "16 bits",
    )


def _weights(workload: Workload, facts: ModelFacts, run: _Run) -> int:
    """Return the weights over all GPUs: tensor parallelism cuts every large tensor."""
    total = facts.weights_bytes or 0
    wanted = str(workload.options.get("quantization") or "")
    bits = _LOADED_BITS.get(wanted)
    if bits is not None and facts.parameters and facts.quantization in ("bf16", "f16", "f32"):
        plain = facts.parameters * (1 - facts.quantized_ratio) * 16
        return int((facts.parameters * facts.quantized_ratio * bits + plain) / 8)
    if facts.quantization == "f32" and workload.options.get("dtype") not in ("float", "float32"):
        return total // 2  # loaded in 16 bits
    return total


def _weights_why(facts: ModelFacts, run: _Run) -> str:
    kind = facts.quantization or "as in the files"
    return f"{kind}, over {run.gpus} GPUs" if run.gpus > 1 else kind


def _activations(facts: ModelFacts, run: _Run) -> int:
    """
    Return what one step takes of each GPU at its peak, as the profile run finds it.

    In 16 bits: gate and up and their product of the feed-forward, a share of them on each GPU, and
    four rows of the hidden size; then the logits in 32 bits with two copies to sample from.
    """
    hidden, ahead = facts.embedding_length or 0, facts.feed_forward_length or 0
    if facts.experts_used and facts.expert_length:
        ahead = max(ahead, facts.experts_used * facts.expert_length)
    step = 2 * run.batched_tokens * (3 * ahead // run.gpus + 4 * hidden)
    return step + 3 * 4 * run.sequences * (facts.vocabulary or 0)


def _request_bytes(facts: ModelFacts, run: _Run) -> int:
    """Return the KV cache of one request of the whole context, over all GPUs."""
    return int(sum(_layer_bytes(part, run) for part in facts.cache))


def _layer_bytes(part: LayerCache, run: _Run) -> float:
    # Fewer heads than GPUs are kept on several of them.
    heads = -(-part.kv_heads // run.gpus) * run.gpus
    span = run.context
    if part.window is not None:
        span = min(span, part.window + run.batched_tokens)
    tokens = -(-span // _BLOCK) * _BLOCK
    row = heads * (part.key_length + part.value_length) * run.cache_bytes
    return part.layers * (tokens * row + part.state_bytes)


def _per_token(request: int, run: _Run) -> str:
    return f"{request / run.context / 1024:.0f} KiB each ({run.cache_type})"


def _notes(workload: Workload, facts: ModelFacts, run: _Run) -> Iterator[str]:
    yield _taken(run)
    yield from facts.notes
    if told := surprise(facts):
        yield told


def _taken(run: _Run) -> str:
    share = f"{run.share:g} of the card" if run.gpus == 1 else f"{run.share:g} of each card"
    rest = "its CUDA context and graphs lie outside of that"
    return f"vLLM takes {share}, whatever the model; {rest}"


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) else None
