"""
What a model needs at several contexts, and on which GPUs it fits: facts and a host in, sums out.

The sums are the engines' own `memory`, as a plan's are; `models inspect` shows them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from gpuctl.model import GIB, GpuIdentity, Inventory, ModelFacts, VramPlan, Workload
from gpuctl.planning.advice import largest_context
from gpuctl.planning.capacity import vram_budget
from gpuctl.planning.memory import Sized
from gpuctl.plugin import Engine, Slot
from gpuctl.sizing.llama import CELLS, LlamaRun, llama_cache_bytes

#: Which engines run a format, the one whose sum is shown first.
ENGINES = {
    "gguf": ("llama.cpp", "llama-cpp-python"),
    "safetensors": ("vllm",),
    "config": ("vllm",),
}

#: What people plan with; the longest that the model was made for comes after these.
CONTEXTS = (2048, 4096, 8192, 32768)

#: A card for the sum of a host that has none: vLLM's depends a little on the size.
_NOMINAL = GpuIdentity(index=0, uuid="GPU-0", memory_total_bytes=24 * GIB)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """How the model is to run; `None` leaves the context to the model."""

    context: int | None = None  # tokens of one request
    parallel: int = 1
    headroom_bytes: int = 256 * 1024**2  # of each GPU, as a profile's default


@dataclass(frozen=True, slots=True, kw_only=True)
class Sum:
    """What all requests of one context take, of however many GPUs."""

    context: int
    weights_bytes: int
    kv_bytes: int
    overhead_bytes: int

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.kv_bytes + self.overhead_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One engine on one GPU, or on all of them together."""

    engine: str
    gpus: tuple[GpuIdentity, ...]
    fits: bool | None  # None: the card's size or the engine's sum is not known
    largest_context: int | None = None  # the longest that would fit, up to what it was made for
    why: tuple[str, ...] = ()  # what stands against it, whatever the sizes


def kv_bytes_per_token(facts: ModelFacts) -> int:
    """Return what one token more of a long request takes, in 16 bits; windows are full by then."""
    growing = tuple(replace(part, state_bytes=0) for part in facts.cache if part.window is None)
    run = LlamaRun(gpus=1, context=CELLS)
    return llama_cache_bytes(replace(facts, cache=growing), run) // CELLS


def contexts(facts: ModelFacts, wish: Wish) -> tuple[int, ...]:
    """Return the contexts to show: the usual ones that the model has, its longest, and the wish."""
    longest = facts.context_max
    usual = {context for context in CONTEXTS if longest is None or context <= longest}
    asked = {context for context in (longest, wish.context) if context is not None}
    return tuple(sorted(usual | asked))


def sums(
    facts: ModelFacts, inventory: Inventory, engines: Mapping[str, Engine], wish: Wish
) -> tuple[Sum, ...]:
    """Return what the format's first engine takes, by context; none where nothing tells."""
    engine = engines[ENGINES[facts.format][0]]
    slot = _slot(inventory, (next(iter(inventory.gpus), _NOMINAL),))
    found = []
    for context in contexts(facts, wish):
        one = _sized(facts, engine, slot, replace(wish, context=context))
        if one is not None and one.vram is not None:
            found.append(_sum(context, one.vram, wish.parallel))
    return tuple(found)


def candidates(
    facts: ModelFacts, inventory: Inventory, engines: Mapping[str, Engine], wish: Wish
) -> tuple[Candidate, ...]:
    """Return each engine of the format on each GPU; on all together where no single one does."""
    found: list[Candidate] = []
    for name in ENGINES[facts.format]:
        engine = engines[name]
        alone = [_candidate(facts, engine, inventory, (gpu,), wish) for gpu in inventory.gpus]
        found += alone
        refused = all(one.fits is False and not one.why for one in alone)
        if engine.groups and len(alone) > 1 and refused:
            found.append(_candidate(facts, engine, inventory, inventory.gpus, wish))
    return tuple(found)


def _candidate(
    facts: ModelFacts,
    engine: Engine,
    inventory: Inventory,
    gpus: tuple[GpuIdentity, ...],
    wish: Wish,
) -> Candidate:
    slot = _slot(inventory, gpus)
    workload = _workload(facts, engine, wish)
    why = tuple(_against(engine, workload, slot))
    budgets = [vram_budget(gpu, wish.headroom_bytes) for gpu in gpus]
    known = [budget for budget in budgets if budget is not None]
    one = _sized(facts, engine, slot, wish)
    longest = _sized(facts, engine, slot, replace(wish, context=facts.context_max))
    if one is None or one.vram is None or longest is None or len(known) < len(budgets):
        return Candidate(engine=engine.name, gpus=gpus, fits=False if why else None, why=why)

    def fits(vram: VramPlan) -> bool:
        claimed = vram.least_bytes is None or vram.least_bytes <= vram.total_bytes
        return claimed and vram.share_bytes(len(gpus)) <= min(known)

    whole = longest.vram is not None and fits(longest.vram)
    largest = facts.context_max if whole else largest_context(longest, fits)
    return Candidate(
        engine=engine.name,
        gpus=gpus,
        fits=not why and fits(one.vram),
        largest_context=None if why else largest,
        why=why,
    )


def _against(engine: Engine, workload: Workload, slot: Slot) -> Iterator[str]:
    """Yield what the engine says against these cards; without an image, nothing of its CUDA."""
    for unfit in engine.fit(workload, slot) if engine.fit is not None else ():
        if not unfit.warning:
            yield unfit.what


def _sized(facts: ModelFacts, engine: Engine, slot: Slot, wish: Wish) -> Sized | None:
    """Return the replica that it would be; `None` where the engine has no sum."""
    workload = _workload(facts, engine, wish)
    if engine.memory is None:
        return None
    vram = engine.memory(workload, slot, facts)
    if vram is not None and vram.source == "claim" and vram.least_bytes is None:
        vram = None  # the engine's share of a card alone, whatever the model needs
    return Sized(
        replica="model-0",
        workload=workload,
        slot=slot,
        engine=engine,
        facts=facts,
        vram=vram,
    )


def _workload(facts: ModelFacts, engine: Engine, wish: Wish) -> Workload:
    return Workload(
        name="model",
        engine=engine.name,
        model=facts.source,
        context=wish.context,
        parallel=wish.parallel,
        port=1,
    )


def _slot(inventory: Inventory, gpus: tuple[GpuIdentity, ...]) -> Slot:
    return Slot(
        index=0,
        gpus=gpus,
        port=1,
        runtime="docker",
        cpus=inventory.cpus,
        driver_version=inventory.driver_version,
        cuda_version=inventory.cuda_version,
    )


def _sum(context: int, vram: VramPlan, parallel: int) -> Sum:
    """Return a sum; of a claim, what must fit into it for so many requests."""
    weights, overhead = vram.weights_bytes or 0, vram.overhead_bytes or 0
    kv = vram.kv_bytes or 0
    if vram.least_bytes is not None:
        kv = (vram.least_bytes - weights - overhead) * parallel
    return Sum(context=context, weights_bytes=weights, kv_bytes=kv, overhead_bytes=overhead)
