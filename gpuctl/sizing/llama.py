"""
What llama.cpp takes to run a model: ModelFacts and a way of running in, the sum line by line out.

The arithmetic of caches and buffers is llama.cpp's own (src/llama-kv-cache-iswa.cpp,
src/llama-memory-recurrent.cpp, src/llama-graph.cpp); tests/e2e/test_estimates.py holds it against
the real server.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

from gpuctl.model import MIB, LayerCache, ModelFacts, VramLine, VramPlan
from gpuctl.sizing.tensors import BY_NAME

#: llama.cpp rounds a request's context, and the window's part of the cache, up to this many cells.
CELLS = 256

#: What a CUDA process takes of each GPU besides its tensors: context, kernels, cuBLAS workspace.
#: Source: gpustack/gguf-parser-go, `--platform-footprint` (150 MiB of RAM, 250 MiB of VRAM).
#: Not verified here on a card; what a replica is measured to hold replaces the whole sum.
CUDA_BYTES = 250 * MIB

#: llama-server's own `--ubatch-size`.
UBATCH = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaRun:
    """How llama.cpp is to run a model; the defaults are the server's."""

    gpus: int  # 0: all of it in host RAM
    context: int | None = None  # tokens of one request; None: all that the model was made for
    parallel: int = 1
    ubatch: int = UBATCH
    key_type: str = "f16"
    value_type: str = "f16"
    flash_attention: bool = True
    gpu_layers: int | None = None  # None: all; the output layer counts as one more
    all_outputs: bool = False  # of every token, as embeddings are: not of the last alone


def llama_cpp(facts: ModelFacts, run: LlamaRun) -> VramPlan | None:
    """Return what llama.cpp takes over all its GPUs; `None` where the headers do not tell."""
    context = run.context or facts.context_max
    if facts.weights_bytes is None or context is None:
        return None
    run = replace(run, context=context)
    weights, kept = _llama_weights(facts, run)
    share = offloaded(facts, run)
    cache = int(llama_cache_bytes(facts, run) * share)
    # Each GPU of several computes its own layers, in buffers and a context of its own.
    each = max(1, run.gpus)
    buffers = llama_buffer_bytes(facts, run) * each
    lines = [
        VramLine(label="weights", amount_bytes=weights, why=kept),
        VramLine(label="KV cache", amount_bytes=cache, why=_formula(facts, run, share)),
        VramLine(label="compute buffers", amount_bytes=buffers, why=_buffers(run, each)),
    ]
    overhead = buffers
    if run.gpus:
        overhead += CUDA_BYTES * each
        per_gpu = "what a CUDA process takes of a GPU before it loads anything"
        why = f"{per_gpu}, of each of {each}" if each > 1 else per_gpu
        lines.append(VramLine(label="CUDA context", amount_bytes=CUDA_BYTES * each, why=why))
    even = -(-(weights + cache) // each)
    return VramPlan(
        total_bytes=weights + cache + overhead,
        weights_bytes=weights,
        kv_bytes=cache,
        overhead_bytes=overhead,
        source="headers",
        uneven_bytes=max(0, _fullest(facts, run) - even),
        lines=tuple(lines),
    )


def _fullest(facts: ModelFacts, run: LlamaRun) -> int:
    """
    Return the weights and the cache of the GPU that has most of them; 0 without several.

    Layers are whole, and the output layer counts as one more, the last. Of n on GPUs the first of
    g has those below n/g, the next those below 2n/g.
    Source: llama-model.cpp, load_tensors: the i-th goes where upper_bound finds i/n.
    """
    if run.gpus < 2 or not facts.blocks:
        return 0
    whole = facts.blocks + 1
    placed = whole if run.gpu_layers is None else min(run.gpu_layers, whole)
    bounds = [whole - placed + -(-placed * index // run.gpus) for index in range(run.gpus + 1)]
    return max(_of_layers(first, end, facts, run) for first, end in pairwise(bounds))


def _of_layers(first: int, end: int, facts: ModelFacts, run: LlamaRun) -> int:
    """Return the weights and the cache of some layers; kinds of cache take turns."""
    assert facts.blocks
    count = min(end, facts.blocks) - min(first, facts.blocks)
    cache = 0
    for part in facts.cache:
        held = min(part.layers, -(-part.layers * count // facts.blocks))
        cache += run.parallel * _run_bytes(replace(part, layers=held), run)
    output = facts.output_bytes if first < end == facts.blocks + 1 else 0
    return _layers_bytes(first, end, facts) + output + cache


def _layers_bytes(first: int, end: int, facts: ModelFacts) -> int:
    """Return the weights of some repeating layers, of a mean one each where theirs is not known."""
    assert facts.blocks
    if len(facts.layer_bytes) == facts.blocks:
        return sum(facts.layer_bytes[first:end])
    count = min(end, facts.blocks) - min(first, facts.blocks)
    return -(-_repeating_bytes(facts) * count // facts.blocks)


def llama_cache_bytes(facts: ModelFacts, run: LlamaRun) -> int:
    """Return the KV cache of all slots, and the state of recurrent layers, on whatever device."""
    return run.parallel * sum(_run_bytes(part, run) for part in facts.cache)


def _run_bytes(part: LayerCache, run: LlamaRun) -> int:
    keys = BY_NAME[run.key_type].bytes_of(part.kv_heads * part.key_length)
    values = BY_NAME[run.value_type].bytes_of(part.kv_heads * part.value_length)
    return part.layers * (cells(part, run) * (keys + values) + part.state_bytes)


def cells(part: LayerCache, run: LlamaRun) -> int:
    """Return the tokens that a layer keeps of one request: a window's, and a batch beside it."""
    assert run.context is not None
    whole = _padded(run.context)
    if part.window is None:
        return whole
    # Source: llama_kv_cache_iswa, size_swa; the server gives each slot a stream of its own.
    return _padded(min(whole, part.window + run.ubatch))


def _padded(tokens: int) -> int:
    return -(-tokens // CELLS) * CELLS


def llama_buffer_bytes(facts: ModelFacts, run: LlamaRun) -> int:
    """
    Return what one GPU computes in: the attention's mask and the activations of a batch.

    The widest moment is the feed-forward's, of three rows of its length and five of the
    embedding's, or without flash attention the one that holds every head's scores. It is what
    llama.cpp reports as its compute buffer within 2 %, of a Llama, a Qwen 2 and a Gemma 3 (CPU,
    2026-11-21; builds before 2026-10 keep the mask in 32 bits too, which is three times as much).
    """
    assert run.context is not None
    tokens = min(run.ubatch, _padded(run.context))
    embedding, ahead = facts.embedding_length or 0, facts.feed_forward_length or 0
    widest = 3 * ahead + 5 * embedding
    if facts.experts_used and facts.expert_length:
        # Every expert in use answers with a row of its own.
        routed = facts.experts_used * (3 * facts.expert_length + embedding) + 5 * embedding
        widest = max(widest, routed)
    spans = sorted({cells(part, run) for part in facts.cache if part.kv_heads}) or [tokens]
    if not run.flash_attention:
        widest = max(widest, (facts.heads or 0) * spans[-1] + 7 * embedding)
    outputs = embedding if run.all_outputs else 0
    # The answer's odds over the vocabulary come when the widest moment has passed.
    last = run.parallel * (facts.vocabulary or 0)
    return 4 * max(tokens * (widest + outputs), last) + _attention(facts, run, tokens, spans)


def _attention(facts: ModelFacts, run: LlamaRun, tokens: int, spans: list[int]) -> int:
    """Return the masks, one for each kind of layer, and what a quantized cache is unpacked into."""
    # Batches overlap on several GPUs. Source: ggml-backend.cpp, GGML_SCHED_MAX_COPIES.
    copies = 4 if run.gpus > 1 else 1
    masks = copies * tokens * sum(spans) * (2 if run.flash_attention else 4)
    if not run.flash_attention or not {run.key_type, run.value_type} - {"f16", "f32", "bf16"}:
        return masks
    wide = (part.kv_heads * (part.key_length + part.value_length) for part in facts.cache)
    return masks + 2 * spans[-1] * max(wide, default=0)


def offloaded(facts: ModelFacts, run: LlamaRun) -> float:
    """Return the share of the repeating layers that is on GPUs (0-1): all, without any GPU."""
    if not run.gpus or run.gpu_layers is None or not facts.blocks:
        return 1.0
    return min(run.gpu_layers, facts.blocks) / facts.blocks


def _llama_weights(facts: ModelFacts, run: LlamaRun) -> tuple[int, str]:
    total = facts.weights_bytes or 0
    kind = facts.quantization or "as in the file"
    if not run.gpus:
        return total, kind
    repeating = _repeating_bytes(facts)
    why = f"{kind}, without the token embeddings, which stay in host RAM"
    if not facts.input_bytes:
        why = kind
    layers = run.gpu_layers
    if layers is None or not facts.blocks or layers > facts.blocks:
        return repeating + facts.output_bytes, why
    # The last layers are the ones on the GPU. Since 2026 the output layer is the first of them; a
    # server before that has another layer instead. Source: llama-model.cpp, i_gpu_start.
    before = _layers_bytes(facts.blocks - layers, facts.blocks, facts)
    since = _layers_bytes(facts.blocks + 1 - layers, facts.blocks, facts)
    since += facts.output_bytes if layers else 0
    return max(before, since), f"{layers} of {facts.blocks} layers, {kind}"


def _repeating_bytes(facts: ModelFacts) -> int:
    """Return the weights of all layers but the output layer."""
    return (facts.weights_bytes or 0) - facts.input_bytes - facts.output_bytes


def _buffers(run: LlamaRun, each: int) -> str:
    return f"for {run.ubatch} tokens at once" + (f", on each of {each} GPUs" if each > 1 else "")


def _formula(facts: ModelFacts, run: LlamaRun, share: float) -> str:
    """Return how the KV cache is summed: `32 layers x 8 KV heads x (128 + 128) x f16 x …`."""
    parts = [part for part in facts.cache if part.layers]
    told = [_one(part, run) for part in parts[:3]]
    if len(parts) > 3:
        told.append(f"{len(parts) - 3} more kinds of layer")
    kinds = run.key_type if run.key_type == run.value_type else f"{run.key_type}/{run.value_type}"
    if not told:
        return "it keeps nothing of the tokens it has read"
    if share < 1:
        told.append(f"{share:.0%} of it on the GPU")
    return f"{' + '.join(told)}; {kinds}, {_slots(run.parallel)}"


def _one(part: LayerCache, run: LlamaRun) -> str:
    if not part.kv_heads:
        return f"{part.layers} layers of a fixed state"
    heads = f"{part.layers} layers x {part.kv_heads} KV heads"
    told = f"{heads} x ({part.key_length} + {part.value_length}) x {cells(part, run)} tokens"
    return f"{told} and a fixed state" if part.state_bytes else told


def _slots(parallel: int) -> str:
    return "1 slot" if parallel == 1 else f"{parallel} slots"
