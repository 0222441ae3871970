"""
What vLLM takes of its GPUs: a share of each, and whether weights and one request fit in it.

It takes `gpu_memory_utilization` of a card whatever the model, and gives what weights and
activations leave to the KV cache. Source: vLLM, v1/worker/gpu_worker.py
(determine_available_memory) and v1/core/kv_cache_utils.py.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from gpuctl import cards, own_settings
from gpuctl.engines.vllm.options import FLAGS, Options, running, spelled
from gpuctl.model import LayerCache, ModelFacts, VramLine, VramPlan, Workload
from gpuctl.plugin import Slot
from gpuctl.sizing import surprise

#: What is said of a model that was not fetched yet.
_UNREAD = "the model is not here, or does not tell: whether it fits into that is not known"

#: A cache block holds so many tokens.
_BLOCK = 16

#: Weights that are quantized while they are loaded, in bits; with a scale for every 32 of them in
#: the mx formats. Source: `_ONLINE_SHORTHANDS` in vllm/config/quantization.py of 0.32.
_LOADED_BITS = {
    "fp8": 8.0,
    "fp8_per_tensor": 8.0,
    "fp8_per_block": 8.0,
    "fp8_per_channel": 8.0,
    "experts_int8": 8.0,
    "mxfp8": 8.25,
    "mxfp4": 4.25,
    "bitsandbytes": 4.5,
}
#: What files call numbers that are not quantized, in bits.
_PLAIN_BITS = {"bf16": 16, "f16": 16, "f32": 32}
#: Numbers as the model computes with them, in bytes. `auto` makes 16 bits of 32.
_DTYPE_BYTES = {"float": 4, "float32": 4}
#: Numbers in the KV cache, in bytes, by what their type begins with; else as wide as those.
#: Source: `STR_DTYPE_TO_TORCH_DTYPE` in vllm/utils/torch_utils.py of 0.32.
_CACHE_BYTES = {"fp8": 1.0, "int8": 1.0, "float16": 2.0, "half": 2.0, "bfloat16": 2.0}

#: Flags that change what goes on inside the claim, or the claim, and have no option.
_UNCOUNTED = tuple(
    spelling
    for flag in (
        *("--kv-cache-memory-bytes", "--cpu-offload-gb", "--offload-group-size", "--config"),
        *("--num-gpu-blocks-override", "--block-size", "--kv-cache-dtype-skip-layers"),
        *("--quantization-config", "--hf-overrides", "--language-model-only", "--load-format"),
        *("--limit-mm-per-prompt", "--decode-context-parallel-size", "--performance-mode"),
        *("--enable-lora", "--spec-method", "--spec-model", "--disable-hybrid-kv-cache-manager"),
    )
    for spelling in spelled(flag)
)

#: Speculation that loads no weights. Source: docs/features/spec_decode of vLLM.
_WITHOUT_WEIGHTS = ("ngram", "ngram_gpu", "suffix")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    share: float
    gpus: int
    total_bytes: int  # of all its GPUs
    context: int  # 0: not known
    sequences: int
    batched_tokens: int
    number_bytes: int  # of one number as it is computed with
    cache_bytes: float  # of one number in the cache
    cache_type: str
    quantization: str  # while it is loaded, "" as in the files


def memory(workload: Workload, slot: Slot, facts: ModelFacts) -> VramPlan | None:
    """
    Return the claim, and what goes on inside it as far as the headers tell.

    `None` on the CPU, where there is no share of a GPU to take, and where a card's size is unknown.
    """
    sizes = [gpu.usable_bytes for gpu in slot.gpus]
    known = [size for size in sizes if size is not None]
    if not sizes or len(known) < len(sizes):
        return None
    run = _run(workload, slot, min(known), facts)
    claim = int(run.total_bytes * run.share)
    if facts.weights_bytes is None or not run.context:
        return VramPlan(total_bytes=claim, source="claim", notes=(_taken(run), _UNREAD))
    weights, why = _weights(facts, run)
    peak = _activations(facts, run) * run.gpus
    request = _request_bytes(facts, run)
    left = claim - weights - peak
    tokens = max(0, left) * run.context // request if request else 0
    open_sum = tuple(own_settings.uncounted(workload, _UNCOUNTED))
    return VramPlan(
        total_bytes=claim,
        weights_bytes=weights,
        kv_bytes=max(0, left),
        overhead_bytes=peak,
        source="claim",
        # What is not in the sum may be what makes it fit.
        least_bytes=None if open_sum else weights + peak + request,
        lines=(
            VramLine(label="weights", amount_bytes=weights, why=why),
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
        notes=(*_notes(workload, facts, run), *open_sum),
    )


def _run(workload: Workload, slot: Slot, card_bytes: int, facts: ModelFacts) -> _Run:
    """Return how it would run, each of its cards having at least so many bytes."""
    options = running(workload)
    number = _DTYPE_BYTES.get(options.dtype or "", 2)
    cache = options.kv_cache_dtype or "auto"
    known = (size for name, size in _CACHE_BYTES.items() if cache.startswith(name))
    context = workload.context or facts.context_max or 0
    sequences = options.max_num_seqs or workload.parallel
    return _Run(
        share=options.gpu_memory_utilization,
        gpus=len(slot.gpus),
        total_bytes=card_bytes * len(slot.gpus),
        context=context,
        sequences=sequences,
        batched_tokens=options.max_num_batched_tokens
        or _batched_tokens(slot, sequences, context, options),
        number_bytes=number,
        cache_bytes=next(known, float(number)),
        cache_type=f"{number * 8} bits" if cache == "auto" else cache,
        quantization=options.quantization or "",
    )


def _batched_tokens(slot: Slot, sequences: int, context: int, options: Options) -> int:
    """
    Return the tokens of one step where nobody says how many.

    Source: `_set_default_max_num_seqs_and_batched_tokens_args` in vllm/engine/arg_utils.py.
    """
    tokens = cards.batched_tokens(slot.gpus[0])
    if options.enable_chunked_prefill is False:
        tokens = max(tokens, context)
    return max(sequences, min(tokens, sequences * context) if context else tokens)


def _weights(facts: ModelFacts, run: _Run) -> tuple[int, str]:
    """Return the weights over all GPUs, and in what: they are loaded as they are computed with."""
    total, kind = facts.weights_bytes or 0, facts.quantization or "as in the files"
    over = f", over {run.gpus} GPUs" if run.gpus > 1 else ""
    plain = _PLAIN_BITS.get(facts.quantization)
    if plain is None:
        return total, kind + over
    bits, ratio = _LOADED_BITS.get(run.quantization), facts.quantized_ratio
    if bits is not None and facts.parameters:
        mean = ratio * bits + (1 - ratio) * run.number_bytes * 8
        why = f"{run.quantization} as it is loaded, {kind} in the files"
        return int(facts.parameters * mean / 8), why + over
    if run.number_bytes * 8 == plain:
        return total, kind + over
    why = f"{run.number_bytes * 8} bits as it is loaded, {kind} in the files"
    return total * run.number_bytes * 8 // plain, why + over


def _activations(facts: ModelFacts, run: _Run) -> int:
    """
    Return what one step takes of each GPU at its peak, as the profile run finds it.

    Gate and up and their product of the feed-forward, a share of them on each GPU, and four rows of
    the hidden size; then the logits in 32 bits with two copies to sample from.
    """
    hidden, ahead = facts.embedding_length or 0, facts.feed_forward_length or 0
    if facts.experts_used and facts.expert_length:
        ahead = max(ahead, facts.experts_used * facts.expert_length)
    step = run.number_bytes * run.batched_tokens * (3 * ahead // run.gpus + 4 * hidden)
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
    if not run.cache_type.endswith(" bits") and not run.cache_type.startswith(tuple(_CACHE_BYTES)):
        width = f"summed in {run.cache_bytes * 8:.0f} bits"
        yield f"how wide {run.cache_type} is is not known here: the KV cache is {width}"
    yield from _drafts(workload)


def _drafts(workload: Workload) -> Iterator[str]:
    """Yield a note where speculation loads weights of its own, which no header here tells of."""
    found = own_settings.own(workload, "speculative_config", FLAGS["speculative_config"])
    if found is None or found.value is None:
        return
    try:
        method = json.loads(str(found.value)).get("method")
    except (ValueError, AttributeError):
        method = None  # vLLM has other forms in `args`
    if method not in _WITHOUT_WEIGHTS:
        where = f"{found.key} ({found.why})"
        yield f"{where}: the weights and the cache it guesses with are not in this sum"


def _taken(run: _Run) -> str:
    share = f"{run.share:g} of the card" if run.gpus == 1 else f"{run.share:g} of each card"
    rest = "its CUDA context and graphs lie outside of that"
    return f"vLLM takes {share}, whatever the model; {rest}"
