"""What llama.cpp takes of its GPUs: a workload's sizes and its model's headers in, the sum out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import get_args

from gpuctl import own_settings
from gpuctl.engines.llamacpp.options import FLAGS, CacheType, running
from gpuctl.model import ModelFacts, VramPlan, Workload
from gpuctl.plugin import Slot
from gpuctl.sizing import LlamaRun, llama_cpp, surprise

#: Flags of the server that change the sum and have no option.
_UNCOUNTED = (
    *("--swa-full", "-kvu", "--kv-unified", "--mmproj", "-mm", "-ncmoe", "--n-cpu-moe", "-cmoe"),
    *("--cpu-moe", "-ot", "--override-tensor", "-nkvo", "--no-kv-offload", "--lora"),
    *("-ts", "--tensor-split", "-sm", "--split-mode"),
)


def memory(workload: Workload, slot: Slot, facts: ModelFacts) -> VramPlan | None:
    """Return what one replica takes over its GPUs; `None` where the headers do not tell."""
    found = llama_cpp(facts, run(workload, slot))
    if found is None:
        return None
    return replace(found, notes=tuple(_notes(workload, facts)))


def run(workload: Workload, slot: Slot) -> LlamaRun:
    """Return how the workload's settings have the server run; what is not set is its default."""
    options = running(workload)
    return LlamaRun(
        gpus=len(slot.gpus),
        context=workload.context,
        parallel=workload.parallel,
        ubatch=options.ubatch or LlamaRun(gpus=0).ubatch,
        key_type=_counted(options.cache_type_k),
        value_type=_counted(options.cache_type_v),
        # Left to itself the server takes it wherever it can, and it can on all of these cards.
        flash_attention=options.flash_attention != "off",
        gpu_layers=options.gpu_layers,
        all_outputs=workload.kind in ("embedding", "rerank"),
    )


def _counted(cache_type: str | None) -> str:
    """Return the type a cache is summed in; one that stands in args may be no type at all."""
    return cache_type if cache_type and cache_type in get_args(CacheType) else "f16"


def _notes(workload: Workload, facts: ModelFacts) -> Iterator[str]:
    if told := surprise(facts):
        yield told
    draft = own_settings.own(workload, "spec_draft_model", FLAGS["spec_draft_model"])
    if draft is not None and draft.value:
        yield f"{draft.value}, the draft model, is not in this sum: say what both take with `vram`"
    yield from own_settings.uncounted(workload, _UNCOUNTED)
