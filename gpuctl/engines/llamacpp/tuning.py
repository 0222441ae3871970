"""The options that suit a card, each with its reason; what the profile says is the operator's."""

from __future__ import annotations

from collections.abc import Iterator

from gpuctl import caches, cards
from gpuctl.engines.llamacpp.options import COMPILED, FLAGS, compiled_by_driver
from gpuctl.model import GIB, GpuIdentity, Tuned, Workload
from gpuctl.own_settings import own
from gpuctl.plugin import Slot

#: More layers than any model has; builds before 2026 do not know the word `all`.
ALL_LAYERS = 999

#: Up to here a card is planned full, and the compute buffers count: they grow with the batch.
SMALL_BYTES = 8 * GIB
SMALL_BATCH = 256


def tune(workload: Workload, slot: Slot) -> Iterator[Tuned]:
    """Yield every setting for the GPUs of a slot; the CPU has none to suit."""
    if not slot.gpus:
        return
    for chosen in _chosen(workload, cards.weakest(slot.gpus)):
        yield own(workload, chosen.key, FLAGS[chosen.key]) or chosen
    for key in ("threads", "pooling", "cache_ram_mib", "spec_draft_model", "spec_draft_max"):
        found = own(workload, key, FLAGS[key])
        if found is not None:
            yield found
    if is_compiled(slot):
        yield from caches.tuned(workload, slot, (COMPILED,))


def is_compiled(slot: Slot) -> bool:
    """Whether a container's GPUs need code that the driver compiles from the image's PTX."""
    found = (cards.capability(gpu) for gpu in slot.gpus)
    return slot.runtime != "process" and any(map(compiled_by_driver, filter(None, found)))


def _chosen(workload: Workload, gpu: GpuIdentity) -> Iterator[Tuned]:
    why = "every layer on the GPU: by itself it may leave some on the CPU, and say nothing"
    yield Tuned(key="gpu_layers", value=ALL_LAYERS, why=why)
    yield from _batches(workload, gpu)
    why = "auto: on where the card's kernels allow it"
    yield Tuned(key="flash_attention", value=None, why=why)
    for key in ("cache_type_k", "cache_type_v"):
        yield Tuned(key=key, value=None, why="f16; q8_0 takes half, with flash_attention on")
    if workload.kind == "chat":
        why = "off: it gains where answers repeat the prompt, else it costs"
        yield Tuned(key="spec_type", value=None, why=why)


def _batches(workload: Workload, gpu: GpuIdentity) -> Iterator[Tuned]:
    small = gpu.memory_total_bytes is not None and gpu.memory_total_bytes <= SMALL_BYTES
    if workload.kind in ("embedding", "rerank") and workload.context is not None:
        size: int | None = workload.context
        why = "a text is computed in one batch, and a longer one refused"
    elif small:
        size, why = (
            SMALL_BATCH,
            f"small compute buffers: {cards.vram(gpu)} of VRAM are planned full",
        )
    else:
        return
    for key in ("batch", "ubatch"):
        yield Tuned(key=key, value=size, why=why)
