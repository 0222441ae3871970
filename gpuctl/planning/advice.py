"""
What would fit instead: the replicas of one GPU and what it has to give in, next steps out.

Asked for where a plan is refused. One workload is changed at a time, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from gpuctl.model import VramPlan
from gpuctl.planning.memory import Sized
from gpuctl.quantities import format_bytes
from gpuctl.sizing import QUANTIZATIONS, requantized

#: Engines round a context up to whole pages of this many tokens (llama.cpp's cache).
CONTEXT_STEP = 256

_LEAST_HELP = "move a workload to another GPU, or choose a smaller model or context"

#: Whether a replica's other sum would do.
Fits = Callable[[VramPlan], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """A GPU that has room."""

    label: str
    free_bytes: int


def overfull(on_it: Sequence[Sized], budget_bytes: int, others: Sequence[Other]) -> Iterator[str]:
    """Yield what to do about a GPU whose replicas are planned beyond its budget."""
    said = False
    for one in _heaviest(on_it):
        for hint in smaller(one, _alone_of(one, on_it, budget_bytes)):
            said = True
            yield hint
    for one in _heaviest(on_it):
        for hint in _smaller_claim(one, _alone_of(one, on_it, budget_bytes)):
            said = True
            yield hint
    for one in _heaviest(on_it):
        need = share(one.vram)
        room = next((o for o in others if need is not None and o.free_bytes >= need), None)
        if room is not None and len(one.slot.gpus) == 1:
            said = True
            where = f"{room.label} has {format_bytes(room.free_bytes)} free"
            yield f"{one.replica}: {where}, and it takes {format_bytes(need or 0)}"
            break
    if not said:
        yield _LEAST_HELP
    for one in _heaviest(on_it):
        # The highest that ever was: of a leak, or of a request that does not come again.
        if one.vram is not None and one.vram.source == "measured":
            held = f"{format_bytes(one.vram.total_bytes)} were measured"
            yield f"{one.workload.name}: {held}: where it needs less, say so with its `vram`"


def _smaller_claim(one: Sized, fits: Fits) -> Iterator[str]:
    """Yield the largest share of its cards, in hundredths, that an engine may claim there."""
    if one.vram is None or one.vram.source != "claim":
        return
    whole = len(one.slot.gpus) * min(gpu.usable_bytes or 0 for gpu in one.slot.gpus)
    for hundredths in range(99, 0, -1):
        claim = whole * hundredths // 100
        if claim < (one.vram.least_bytes or 0):
            return
        if fits(replace(one.vram, total_bytes=claim)):
            yield f"{one.workload.name}: gpu_memory_utilization = {hundredths / 100:g} would fit"
            return


def smaller(one: Sized, fits: Fits) -> Iterator[str]:
    """Yield the largest context of a workload that would fit, and the best quantization."""
    if not one.flexible or one.facts is None:
        return
    name = one.workload.name
    context = largest_context(one, fits)
    if context is not None:
        asked = one.workload.context or one.facts.context_max
        yield f"{name}: context = {context} would fit, {asked} does not"
    for other in QUANTIZATIONS[one.facts.format]:
        changed = requantized(one.facts, other)
        if changed is None or (changed.weights_bytes or 0) >= (one.facts.weights_bytes or 0):
            continue
        found = one.otherwise(facts=changed)
        if found is not None and fits(found):
            size = format_bytes(changed.weights_bytes or 0)
            yield f"{name}: the model in {other.name} would fit: {size} of weights"
            return


def largest_context(one: Sized, fits: Fits) -> int | None:
    """Return the largest context that fits, in whole steps; `None` where not even one does."""
    asked = one.workload.context or (one.facts.context_max if one.facts else None)
    if asked is None:
        return None
    low, high = 0, (asked - 1) // CONTEXT_STEP
    while low < high:
        middle = -(-(low + high) // 2)
        found = one.otherwise(context=middle * CONTEXT_STEP)
        if found is not None and fits(found):
            low = middle
        else:
            high = middle - 1
    return low * CONTEXT_STEP or None


def share(vram: VramPlan | None, gpus: int = 1) -> int | None:
    """Return the bytes that a sum takes of each of its GPUs."""
    return None if vram is None else vram.share_bytes(gpus)


def _alone_of(one: Sized, on_it: Sequence[Sized], budget_bytes: int) -> Fits:
    """Return a test of whether the GPU would do, were this workload's replicas otherwise."""
    same = sum(other.workload.name == one.workload.name for other in on_it)
    rest = sum(
        share(other.vram, len(other.slot.gpus)) or 0
        for other in on_it
        if other.workload.name != one.workload.name
    )

    def fits(found: VramPlan) -> bool:
        return rest + same * (share(found, len(one.slot.gpus)) or 0) <= budget_bytes

    return fits


def _heaviest(on_it: Sequence[Sized]) -> list[Sized]:
    """Return one replica of each workload, the one that takes most first."""
    first: dict[str, Sized] = {}
    for one in on_it:
        first.setdefault(one.workload.name, one)
    return sorted(first.values(), key=lambda one: -(share(one.vram, len(one.slot.gpus)) or 0))
