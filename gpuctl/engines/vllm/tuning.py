"""The options that suit a card, each with its reason; what the profile says is the operator's."""

from __future__ import annotations

import json
from collections.abc import Iterator

from gpuctl import caches, cards
from gpuctl.engines.vllm import images
from gpuctl.engines.vllm import options as of_vllm
from gpuctl.model import GpuIdentity, Json, Tuned, Workload
from gpuctl.own_settings import own, said_by
from gpuctl.plugin import Slot

#: A collective that fails then raises in the process, where it would wait for ever.
#: Source: https://docs.pytorch.org/docs/stable/torch_nccl_environment_variables.html
NCCL_ENVIRONMENT = {"TORCH_NCCL_BLOCKING_WAIT": "1"}

_PROMPTS: tuple[tuple[str, Json, str], ...] = (
    ("enable_prefix_caching", True, "what prompts begin with alike is computed once"),
    ("enable_chunked_prefill", True, "a long prompt does not hold up others' tokens"),
    ("enforce_eager", False, "CUDA graphs: faster; true frees the VRAM they take"),
    ("speculative_config", None, "off: it gains where answers repeat the prompt, else it costs"),
)


#: What the operator may have set that counts on the CPU as well.
_ON_CPU = (
    *("max_num_seqs", "max_num_batched_tokens", "dtype", "quantization", "enable_prefix_caching"),
    *("enable_chunked_prefill", "enforce_eager", "speculative_config"),
)


def tune(workload: Workload, slot: Slot) -> Iterator[Tuned]:
    """Yield every setting for a slot; on the CPU there is no card to suit, only the operator's."""
    if slot.gpus:
        yield from _for_gpus(workload, slot)
    else:
        yield from filter(None, (_own(workload, key) for key in _ON_CPU))
    yield from caches.tuned(workload, slot, of_vllm.caches(workload, slot))


def _for_gpus(workload: Workload, slot: Slot) -> Iterator[Tuned]:
    gpu = cards.weakest(slot.gpus)
    yield _tensor_parallel(slot)
    yield _own(workload, "gpu_memory_utilization") or Tuned(
        key="gpu_memory_utilization", value=0.9, why="of the card: the driver needs the rest"
    )
    yield from _sequences(workload, gpu)
    yield from _for_card(workload, gpu)
    yield from _for_prompts(workload)
    for key in ("max_num_batched_tokens", "quantization", "kv_cache_dtype", "kv_offloading_gib"):
        found = _own(workload, key)
        if found is not None:
            yield found
    if len(slot.gpus) > 1:
        yield from _collectives(workload)


def _tensor_parallel(slot: Slot) -> Tuned:
    count = len(slot.gpus)
    why = "a replica on one GPU" if count == 1 else f"the group has {count} GPUs"
    return Tuned(key="tensor_parallel_size", value=count, why=why)


def _sequences(workload: Workload, gpu: GpuIdentity) -> Iterator[Tuned]:
    written, suits = _own(workload, "max_num_seqs"), cards.sequences(gpu)
    if written is not None:
        yield written
    elif workload.parallel != 1 or "parallel" in json.loads(workload.intent):
        why = "the workload's parallel"
        yield Tuned(key="max_num_seqs", value=workload.parallel, why=why, by_operator=True)
    elif suits is not None:
        yield Tuned(key="max_num_seqs", value=suits[0], why=suits[1])


def _for_card(workload: Workload, gpu: GpuIdentity) -> Iterator[Tuned]:
    """Yield what the compute capability decides: number format, attention."""
    found = cards.capability(gpu)
    dtype, attention = _own(workload, "dtype"), _own(workload, "attention_backend")
    if dtype is not None:
        yield dtype
    elif found is not None and found < cards.BFLOAT16:
        why = f"compute capability {cards.written(found)} has no bfloat16"
        yield Tuned(key="dtype", value="half", why=why)
    if attention is not None:
        yield attention
    elif found is not None:
        yield _attention(found, workload.image)


def _attention(found: cards.Capability, image: str) -> Tuned:
    """
    Return the attention backend.

    FlashAttention and FlashInfer begin with Ampere; Triton's is what is left for Turing, as SDPA
    was once. vLLM comes to the same by itself, and is told so where its flag is known to be there.
    Source: https://docs.vllm.ai/en/v0.32.0/design/attention_backends/
    """
    key = "attention_backend"
    if found >= cards.BFLOAT16:
        newer = "3" if found[0] == 9 else "2"
        return Tuned(key=key, value=None, why=f"vLLM picks FLASH_ATTN, FlashAttention {newer}")
    told = images.version(image) is not None and images.knows(image, "--attention-backend")
    why = f"FlashAttention needs 8.0, this is {cards.written(found)}"
    return Tuned(key=key, value="TRITON_ATTN" if told else None, why=why)


def _for_prompts(workload: Workload) -> Iterator[Tuned]:
    """Yield how prompts and tokens are computed; a model that makes no text decides by itself."""
    for key, value, why in _PROMPTS:
        found = _own(workload, key)
        if found is not None:
            yield found
        elif workload.kind == "chat" or key == "enforce_eager":
            yield Tuned(key=key, value=value, why=why)


def _collectives(workload: Workload) -> Iterator[Tuned]:
    for name, value in NCCL_ENVIRONMENT.items():
        said = workload.environment.get(name)
        yield Tuned(
            key=name,
            value=said or value,
            why=said_by(workload, name)
            if said
            else "NCCL's errors end the process, and hang nothing",
            by_operator=said is not None,
        )


def _own(workload: Workload, key: str) -> Tuned | None:
    return own(workload, key, of_vllm.FLAGS[key])
