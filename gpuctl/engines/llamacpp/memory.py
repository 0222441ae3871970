"""What llama.cpp takes of its GPUs: a workload's sizes and its model's headers in, the sum out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from gpuctl.model import ModelFacts, VramPlan, Workload
from gpuctl.plugin import Slot
from gpuctl.sizing import LlamaRun, llama_cpp, surprise

#: Flags of the server that change the sum; in `args` they are the operator's own, and not counted.
_UNCOUNTED = {
    "-ub": "ubatch", "--ubatch-size": "ubatch", "-fa": "flash_attention",
    "--flash-attn": "flash_attention", "-ctk": "cache_type_k", "--cache-type-k": "cache_type_k",
    "-ctv": "cache_type_v", "--cache-type-v": "cache_type_v", "--swa-full": "",
    "-kvu": "", "--kv-unified": "", "-md": "", "--model-draft": "", "--mmproj": "", "-mm": "",
    "-ncmoe": "", "--n-cpu-moe": "", "-cmoe": "", "--cpu-moe": "", "-ot": "",
    "--override-tensor": "", "-nkvo": "", "--no-kv-offload": "", "--lora": "",
    "-ts": "", "--tensor-split": "", "-sm": "", "--split-mode": "",
}  # fmt: skip


def memory(workload: Workload, slot: Slot, facts: ModelFacts) -> VramPlan | None:
    """Return what one replica takes over its GPUs; `None` where the headers do not tell."""
    found = llama_cpp(facts, run(workload, slot))
    if found is None:
        return None
    return replace(found, notes=tuple(_notes(workload, facts)))


def run(workload: Workload, slot: Slot) -> LlamaRun:
    """Return how the workload's settings have the server run; what is not set is its default."""
    options = workload.options
    layers, ubatch = options.get("gpu_layers"), options.get("ubatch")
    return LlamaRun(
        gpus=len(slot.gpus),
        context=workload.context,
        parallel=workload.parallel,
        ubatch=ubatch if isinstance(ubatch, int) else LlamaRun(gpus=0).ubatch,
        key_type=str(options.get("cache_type_k") or "f16"),
        value_type=str(options.get("cache_type_v") or "f16"),
        # Left to itself the server takes it wherever it can, and it can on all of these cards.
        flash_attention=options.get("flash_attention") != "off",
        gpu_layers=layers if isinstance(layers, int) else None,
        all_outputs=workload.kind in ("embedding", "rerank"),
    )


def _notes(workload: Workload, facts: ModelFacts) -> Iterator[str]:
    if told := surprise(facts):
        yield told
    if draft := workload.options.get("spec_draft_model"):
        yield f"{draft}, the draft model, is not in this sum: say what both take with `vram`"
    for argument in workload.args:
        flag = argument.partition("=")[0]
        if flag in _UNCOUNTED:
            instead = f": use options.{_UNCOUNTED[flag]}" if _UNCOUNTED[flag] else ""
            yield f"{flag} stands in args and is not in this sum{instead}"
