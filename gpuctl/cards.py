"""
What is known of NVIDIA's cards beyond what a driver tells: GPU identities in, facts out; pure.

Called by the engines, to choose settings and to refuse what a card cannot run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from gpuctl.model import GIB, GpuIdentity

Capability = tuple[int, int]

#: The first that computes in bfloat16 (Ampere), and in fp8 (Ada).
#: Source: https://docs.nvidia.com/cuda/cuda-c-programming-guide/, "Compute Capabilities".
BFLOAT16: Capability = (8, 0)
FP8: Capability = (8, 9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A model of card: `name` is one word of the name that the driver gives it."""

    name: str
    capability: Capability
    sequences: int  # requests that a batching engine should take at once
    least_bytes: int = 0  # of VRAM: the row holds from there on


#: Compute capabilities: https://developer.nvidia.com/cuda-gpus and .../cuda-legacy-gpus.
#: Sequences: T4, L4 and A4000 as proven in service; A100, H100 and H200 as vLLM begins with, which
#: has one figure for cards of 70 GiB and more, but A100, and one for all others
#: (`get_batch_defaults` in vllm/engine/arg_utils.py of 0.32); the rest lie between by VRAM (a
#: sequence of 2,000 tokens of an 8B model keeps 256 MiB) and by memory bandwidth, which sets the
#: tokens a second that all of them share.
CARDS = (
    Card(name="P106", capability=(6, 1), sequences=4),
    Card(name="T4", capability=(7, 5), sequences=8),
    Card(name="L4", capability=(8, 9), sequences=16),
    Card(name="A4000", capability=(8, 6), sequences=20),
    Card(name="3090", capability=(8, 6), sequences=32),
    Card(name="A6000", capability=(8, 6), sequences=64),
    Card(name="A100", capability=(8, 0), sequences=256, least_bytes=70 * GIB),
    Card(name="A100", capability=(8, 0), sequences=128),
    Card(name="H100", capability=(9, 0), sequences=1024),
    Card(name="H200", capability=(9, 0), sequences=1024),
)

#: For a card that is not listed: the figures above by VRAM alone, from the least bytes on.
_BY_VRAM = ((70 * GIB, 1024), (36 * GIB, 64), (20 * GIB, 16), (12 * GIB, 8), (0, 4))

#: Tokens that vLLM computes at once where it is not told, from so many bytes of VRAM on; every A100
#: takes the last row. Source: `get_batch_defaults` in vllm/engine/arg_utils.py
#: of 0.32, for its server; the first row came after 0.19.
_BATCHED_TOKENS = ((160 * GIB, 16384), (70 * GIB, 8192), (0, 2048))

#: A word of the name of cards for games, and of those for mining.
_CONSUMER = frozenset({"GEFORCE", "TITAN", "CMP", "P102", "P104", "P106"})


def card(gpu: GpuIdentity) -> Card | None:
    """Return the row of a GPU's model, `None` when it is not listed."""
    found = (row for row in CARDS if row.name in _words(gpu))
    vram_bytes = gpu.memory_total_bytes or 0
    return next((row for row in found if vram_bytes >= row.least_bytes), None)


def capability(gpu: GpuIdentity) -> Capability | None:
    """Return the compute capability: the driver's word, else that of the model; `None` unknown."""
    known = card(gpu)
    return gpu.compute_capability or (known.capability if known is not None else None)


def weakest(gpus: Iterable[GpuIdentity]) -> GpuIdentity:
    """Return the GPU of a group that the others must wait for: least capable, then smallest."""
    return min(gpus, key=lambda gpu: (capability(gpu) or (0, 0), gpu.memory_total_bytes or 0))


def sequences(gpu: GpuIdentity) -> tuple[int, str] | None:
    """
    Return how many requests at once suit a GPU, and why.

    `None`: neither its model nor its VRAM is known.
    """
    known = card(gpu)
    if known is not None:
        size = f" of {vram(gpu)}" if known.name == "A100" and gpu.memory_total_bytes else ""
        return known.sequences, f"what {known.name} cards{size} keep up with"
    if gpu.memory_total_bytes is None:
        return None
    count = next(count for least, count in _BY_VRAM if gpu.memory_total_bytes >= least)
    return count, f"{shown(gpu)} is not a card gpuctl knows: by its {vram(gpu)} of VRAM"


def batched_tokens(gpu: GpuIdentity) -> int:
    """Return the tokens of one step of vLLM on a GPU; one of unknown size is taken as small."""
    vram_bytes = 0 if "A100" in gpu.name.upper() else gpu.usable_bytes or 0
    return next(count for least, count in _BATCHED_TOKENS if vram_bytes >= least)


def is_consumer(gpu: GpuIdentity) -> bool:
    """
    Whether it is a card for games or mining, for which older drivers stay as old as they are.

    NVIDIA's libraries that lift an older driver, which its images bring, serve the others only.
    Source: https://docs.nvidia.com/deploy/cuda-compatibility/forward-compatibility.html
    """
    return not _words(gpu).isdisjoint(_CONSUMER)


def shown(gpu: GpuIdentity) -> str:
    """Return how a message names a card: `P106-100 (compute capability 6.1)`, else `GPU 0`."""
    name = gpu.name.removeprefix("NVIDIA ") or f"GPU {gpu.index}"
    found = capability(gpu)
    return f"{name} (compute capability {written(found)})" if found else name


def vram(gpu: GpuIdentity) -> str:
    """Return a GPU's VRAM for people: `24 GiB`."""
    return f"{round((gpu.memory_total_bytes or 0) / GIB)} GiB"


def written(version: tuple[int, ...]) -> str:
    """Return a version for people: `12.8`."""
    return ".".join(str(part) for part in version)


def _words(gpu: GpuIdentity) -> frozenset[str]:
    return frozenset(re.split(r"[^A-Z0-9]+", gpu.name.upper()))
