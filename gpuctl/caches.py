"""
What an engine compiles or fetches once and should find again: kept in named volumes. Pure.

A cache is the operator's as soon as the profile mounts something at its place, or above it, or
sets the variable that moves it; then nothing is added.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath

from gpuctl.model import Mount, Tuned, Workload
from gpuctl.plugin import Slot

#: Docker makes a new volume root's, so another user of the container could not write to it.
_ROOT = frozenset({"root", "0"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """One directory inside a container."""

    volume: str
    target: str
    variables: tuple[str, ...] = ()  # that move it
    why: str


def kept(workload: Workload, slot: Slot, caches: Iterable[Cache]) -> tuple[Cache, ...]:
    """Return those of an engine's caches that gpuctl keeps in volumes of its own."""
    if slot.runtime == "process" or not _by_root(workload):
        return ()
    return tuple(cache for cache in caches if not _by_operator(workload, cache))


def outlives(workload: Workload, slot: Slot, cache: Cache) -> bool:
    """Whether what is written at a cache's place is there after the container: gpuctl's or not."""
    return bool(kept(workload, slot, (cache,))) or _is_mounted(workload, cache)


def mounts(caches: Iterable[Cache]) -> tuple[Mount, ...]:
    """Return the mounts that keep caches."""
    return tuple(Mount(source=cache.volume, target=cache.target) for cache in caches)


def tuned(workload: Workload, slot: Slot, caches: Iterable[Cache]) -> Iterator[Tuned]:
    """Yield what `plan` shows of the caches: kept, or why not."""
    wanted = tuple(caches)
    for cache in kept(workload, slot, wanted):
        yield Tuned(key="mounts", value=f"{cache.volume}:{cache.target}", why=cache.why)
    lost = [cache.target for cache in wanted if not _by_operator(workload, cache)]
    if lost and slot.runtime != "process" and not _by_root(workload):
        yield Tuned(
            key="mounts",
            value=None,
            why=f"user {workload.user} cannot write to a volume, which is root's: to keep"
            f" {', '.join(lost)}, mount directories of its own there",
        )


def _by_root(workload: Workload) -> bool:
    return workload.user is None or workload.user.partition(":")[0] in _ROOT


def _by_operator(workload: Workload, cache: Cache) -> bool:
    moved = any(name in workload.environment for name in cache.variables)
    return moved or _is_mounted(workload, cache)


def _is_mounted(workload: Workload, cache: Cache) -> bool:
    place = PurePosixPath(cache.target)
    return any(place.is_relative_to(PurePosixPath(m.target)) for m in workload.mounts)
