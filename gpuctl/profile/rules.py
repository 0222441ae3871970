"""
What must hold between the values of a profile: ports, GPUs, limits, engines, secrets.

Each rule takes what was valid of the tables and yields Mistakes; where a value was itself wrong,
the rules about it say nothing more. What only the host can tell is left to planning.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, combinations
from typing import TYPE_CHECKING

from gpuctl.model import (
    GatewaySettings,
    GpuName,
    HostSettings,
    Mount,
    Variant,
    WatchdogSettings,
    Workload,
)
from gpuctl.overrides import doubts
from gpuctl.profile import gateway
from gpuctl.profile.lines import Path
from gpuctl.profile.mistakes import Mistake, nearest
from gpuctl.quantities import format_bytes, show

if TYPE_CHECKING:
    from gpuctl.plugin import Engine

#: The least memory limit Docker takes. Source: https://docs.docker.com/engine/containers/resource_constraints/
DOCKER_LEAST_MEMORY_BYTES = 6 * 1024**2

_SECRET_NAMES = ("*_TOKEN", "*_KEY", "*SECRET*", "*PASSWORD*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """A workload as far as it is valid."""

    workload: Workload
    fields: frozenset[str]  # written and valid
    keys: frozenset[str]  # written, valid or not

    @property
    def path(self) -> Path:
        return ("workloads", self.workload.name)

    @property
    def placed(self) -> bool:
        """Whether its GPUs are known: the default counts, a mistake does not."""
        return "gpus" in self.fields or "gpus" not in self.keys


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafts:
    """A whole profile as far as it is valid."""

    host: HostSettings
    host_fields: frozenset[str]
    watchdog: WatchdogSettings
    workloads: tuple[Draft, ...]
    gateway: GatewaySettings | None
    engines: Mapping[str, Engine]

    @property
    def gpu_count(self) -> int | None:
        """How many GPUs the host is said to have; `None` when it is not said."""
        if "gpus" not in self.host_fields:
            return None
        return sum(expected.count for expected in self.host.gpus)


def check(drafts: Drafts) -> Iterator[Mistake]:
    """Yield every mistake there is between valid values."""
    for key, what, hint in doubts(drafts.watchdog):
        yield Mistake(path=("watchdog", key), what=what, hint=hint)
    yield from _reserve(drafts)
    for draft in drafts.workloads:
        yield from _engine(drafts, draft)
        yield from _gpus(drafts, draft)
        yield from _counts(draft)
        yield from _fallback(drafts, draft)
        yield from _scaled(drafts, draft)
        yield from _memory(draft)
        yield from _mounts(draft)
    yield from _ports(drafts)
    if drafts.gateway is not None:
        names = tuple(draft.workload.name for draft in drafts.workloads)
        yield from gateway.check(drafts.gateway, names)


def _reserve(drafts: Drafts) -> Iterator[Mistake]:
    reserve = drafts.host.reserve
    yield from _absent(drafts, reserve, ("host", "reserve"))
    yield from _twice(reserve, ("host", "reserve"), "name each GPU once")


def _engine(drafts: Drafts, draft: Draft) -> Iterator[Mistake]:
    """Yield what the engine needs and the workload lacks."""
    workload, runtime = draft.workload, drafts.host.runtime
    if "engine" not in draft.fields:
        return
    engine = drafts.engines.get(workload.engine)
    if engine is None:
        what = f"there is no engine {show(workload.engine)}"
        hint = nearest(workload.engine, drafts.engines, of="the engines are")
        yield Mistake(path=(*draft.path, "engine"), what=what, hint=hint)
        return
    if engine.needs_model and "model" not in draft.keys:
        what = f"model is missing, and {engine.name} needs one"
        yield Mistake(path=draft.path, what=what, hint='add model = "…"')
    if engine.needs_image and "image" not in draft.keys and runtime == "docker":
        what = f"image is missing, and {engine.name} needs one on Docker"
        yield Mistake(path=draft.path, what=what, hint='add image = "…"')
    if runtime != "auto" and runtime not in engine.runtimes:
        what = f"{engine.name} does not run in runtime {show(runtime)}"
        hint = f"it runs in {', '.join(sorted(engine.runtimes))}"
        yield Mistake(path=(*draft.path, "engine"), what=what, hint=hint)
    if not engine.groups and _largest_group(workload) > 1:
        what = f"a replica of {engine.name} takes one GPU, not {_largest_group(workload)}"
        hint = "name the GPUs one by one: [0, 1] instead of [[0, 1]]"
        yield Mistake(path=(*draft.path, "gpus"), what=what, hint=hint)


def _gpus(drafts: Drafts, draft: Draft) -> Iterator[Mistake]:
    """Yield what is wrong with the GPUs a workload names."""
    path, gpus = (*draft.path, "gpus"), draft.workload.gpus
    if gpus == "none" or not draft.placed:
        return
    reserve = set(drafts.host.reserve)
    count = drafts.gpu_count
    if gpus == "each":
        if count is not None and count <= len(reserve):
            what = "no GPU is left" if count else "this host has no GPU"
            hint = 'write gpus = "none" to run on the CPU, or correct host.gpus and host.reserve'
            yield Mistake(path=path if "gpus" in draft.fields else draft.path, what=what, hint=hint)
        return
    names = tuple(chain.from_iterable(gpus))
    yield from _absent(drafts, names, path)
    yield from _twice(names, path, "write replicas_per_gpu to run several replicas on one GPU")
    for name in dict.fromkeys(names):
        if name in reserve:
            what = f"GPU {name} is in reserve (host.reserve)"
            hint = "take it out of host.reserve, or choose another GPU"
            yield Mistake(path=path, what=what, hint=hint)


def _absent(drafts: Drafts, names: tuple[GpuName, ...], path: Path) -> Iterator[Mistake]:
    """Yield the indexes that a host of so many GPUs has not."""
    count = drafts.gpu_count
    if count is None:
        return
    has = {0: "which has none", 1: "which has only 0"}.get(count, f"which has 0 to {count - 1}")
    for name in dict.fromkeys(names):
        if isinstance(name, int) and name >= count:
            hint = "name one of those, or run `gpuctl init` to write a profile for the GPUs found"
            yield Mistake(path=path, what=f"GPU {name} is not on this host, {has}", hint=hint)


def _twice(names: tuple[GpuName, ...], path: Path, hint: str) -> Iterator[Mistake]:
    for name in dict.fromkeys(names):
        if names.count(name) > 1:
            yield Mistake(path=path, what=f"GPU {name} is named twice", hint=hint)


def _counts(draft: Draft) -> Iterator[Mistake]:
    """Yield counts that mean nothing where they stand."""
    on_cpu = draft.workload.gpus == "none"
    if "replicas" in draft.fields and draft.placed and not on_cpu:
        hint = 'with GPUs, write replicas_per_gpu; replicas goes with gpus = "none"'
        what = "counts replicas on the CPU, and this workload runs on GPUs"
        yield Mistake(path=(*draft.path, "replicas"), what=what, hint=hint)
    if "replicas_per_gpu" in draft.fields and on_cpu:
        what = "counts replicas on a GPU, and this workload runs on the CPU"
        yield Mistake(path=(*draft.path, "replicas_per_gpu"), what=what, hint="write replicas")


def _fallback(drafts: Drafts, draft: Draft) -> Iterator[Mistake]:
    """Yield what is wrong with how a workload runs on the CPU for want of a GPU."""
    workload, path = draft.workload, (*draft.path, "fallback")
    if "on_cpu" in draft.fields:
        yield from _variant(drafts, draft, "on_cpu", workload.on_cpu)
        if workload.on_cpu.gpus is not None:
            hint = "leave it out; gpus belongs to scaled"
            yield Mistake(path=(*draft.path, "on_cpu", "gpus"), what="has no GPUs", hint=hint)
        if workload.on_cpu.port is not None:
            hint = "leave it out: it listens where it always does"
            what = "has no port of its own"
            yield Mistake(path=(*draft.path, "on_cpu", "port"), what=what, hint=hint)
        if workload.fallback == "none" and "fallback" not in draft.keys:
            what = "nothing ever runs so: fallback is missing"
            yield Mistake(path=(*draft.path, "on_cpu"), what=what, hint='add fallback = "cpu"')
    if workload.fallback == "none":
        return
    if workload.gpus == "none" and draft.placed:
        what = "this workload runs on the CPU already"
        yield Mistake(path=path, what=what, hint="leave it out")
    engine = drafts.engines.get(workload.on_cpu.engine or workload.engine)
    own = workload.on_cpu.image is not None or drafts.host.runtime == "process"
    if engine is not None and engine.needs_gpu and not own:
        what = f"the usual image of {engine.name} needs a GPU"
        hint = 'name one for the CPU, as on_cpu = { image = "…" }, or another engine in on_cpu'
        yield Mistake(path=path, what=what, hint=hint)


def _scaled(drafts: Drafts, draft: Draft) -> Iterator[Mistake]:
    """Yield what is wrong with what `gpuctl scale` may add."""
    workload = draft.workload
    if "scaled" in draft.fields:
        yield from _variant(drafts, draft, "scaled", workload.scaled)
        engine = drafts.engines.get(workload.scaled.engine or workload.engine)
        if engine is not None and not engine.groups and (workload.scaled.gpus or 1) > 1:
            what = f"a replica of {engine.name} takes one GPU, not {workload.scaled.gpus}"
            path = (*draft.path, "scaled", "gpus")
            yield Mistake(path=path, what=what, hint="write 1, or leave it out")
    took = _gpus_taken(drafts, workload) if draft.placed else 0
    if workload.max_gpus is not None and workload.max_gpus < took:
        what = f"{workload.max_gpus} is less than the {took} that its replicas take already"
        yield Mistake(path=(*draft.path, "max_gpus"), what=what, hint=f"write {took} or more")


def _gpus_taken(drafts: Drafts, workload: Workload) -> int:
    """Return how many GPUs the profile gives a workload, as far as it says."""
    if workload.gpus == "none":
        return 0
    if workload.gpus == "each":
        return max(0, (drafts.gpu_count or 0) - len(set(drafts.host.reserve)))
    return sum(len(group) for group in workload.gpus)


def _variant(drafts: Drafts, draft: Draft, key: str, variant: Variant) -> Iterator[Mistake]:
    """Yield what another engine would need, and what no other can be."""
    if variant.engine is None:
        return
    path, engine = (*draft.path, key, "engine"), drafts.engines.get(variant.engine)
    if engine is None:
        what = f"there is no engine {show(variant.engine)}"
        hint = nearest(variant.engine, drafts.engines, of="the engines are")
        yield Mistake(path=path, what=what, hint=hint)
        return
    changes = engine.name != draft.workload.engine
    if changes and engine.needs_image and variant.image is None and drafts.host.runtime == "docker":
        what = f"image is missing, and {engine.name} needs one of its own"
        yield Mistake(path=path, what=what, hint=f'add image = "…" to {key}')
    if engine.needs_model and not (variant.model or draft.workload.model):
        what = f"model is missing, and {engine.name} needs one"
        yield Mistake(path=path, what=what, hint=f'add model = "…" to {key}')


def _memory(draft: Draft) -> Iterator[Mistake]:
    memory, swap = draft.workload.memory_bytes, draft.workload.memory_swap_bytes
    if memory is not None and memory < DOCKER_LEAST_MEMORY_BYTES:
        what = f"{format_bytes(memory)} is below 6 MiB, the least that Docker takes"
        yield Mistake(path=(*draft.path, "memory"), what=what, hint='write it as "1536m" or "2g"')
    path = (*draft.path, "memory_swap")
    if swap is not None and "memory" not in draft.keys:
        what = "memory is missing: Docker takes memory_swap only beside it"
        yield Mistake(path=path, what=what, hint='add memory = "…"')
    if memory is not None and swap is not None and swap < memory:
        what = f"{format_bytes(swap)} is less than memory ({format_bytes(memory)})"
        hint = "it counts RAM and swap together: write memory or more"
        yield Mistake(path=path, what=what, hint=hint)


def _mounts(draft: Draft) -> Iterator[Mistake]:
    seen: dict[str, Mount] = {}
    for index, mount in enumerate(draft.workload.mounts):
        if mount.target.rstrip("/") in seen:
            what = f"{show(mount.target)} is mounted twice"
            hint = "give each mount a target of its own"
            yield Mistake(path=(*draft.path, "mounts", index), what=what, hint=hint)
        seen[mount.target.rstrip("/")] = mount


def secrets(environment: object, path: Path) -> Iterator[Mistake]:
    """Yield secrets that stand in the profile itself; they are never shown."""
    for variable, text in environment.items() if isinstance(environment, dict) else ():
        names = (fnmatch.fnmatchcase(variable.upper(), name) for name in _SECRET_NAMES)
        if isinstance(text, str) and text and any(names):
            what = "looks like a secret, and a profile is no place for one"
            hint = f'write {variable} = {{ file = "/path" }}: the file is read at every start'
            yield Mistake(path=(*path, variable), what=what, hint=hint)


def _ports(drafts: Drafts) -> Iterator[Mistake]:
    """Yield ports that two would listen on, as far as the number of replicas is known."""
    needed = [(draft, ports) for draft in drafts.workloads if (ports := _range(drafts, draft))]
    for draft, ports in needed:
        if ports[-1] > 65535:
            what = f"{len(ports)} replicas would need ports up to {ports[-1]}"
            yield Mistake(path=(*draft.path, "port"), what=what, hint="begin lower: 65535 is last")
        front = drafts.gateway and int(drafts.gateway.listen.rpartition(":")[2])
        if front and front in ports:
            what = f"{_span(ports)} takes the port of gateway.listen ({front})"
            yield Mistake(path=(*draft.path, "port"), what=what, hint="choose another port")
    for (first, taken), (second, ports) in combinations(needed, 2):
        if ports[0] <= taken[-1] and taken[0] <= ports[-1]:
            what = f"{_span(ports)} overlaps workloads.{first.workload.name} ({_span(taken)})"
            hint = f"begin at {taken[-1] + 1} or later: replica i listens on port + i"
            yield Mistake(path=(*second.path, "port"), what=what, hint=hint)


def _range(drafts: Drafts, draft: Draft) -> range:
    """Return the ports of a workload's replicas; at least one, even where their number is open."""
    workload = draft.workload
    if "port" not in draft.fields:
        return range(0)
    if workload.gpus == "none":
        count = workload.replicas
    elif workload.gpus == "each":
        free = (drafts.gpu_count or 0) - len(set(drafts.host.reserve))
        count = max(1, free) * workload.replicas_per_gpu
    else:
        count = len(workload.gpus) * workload.replicas_per_gpu
    return range(workload.port, workload.port + count)


def _span(ports: range) -> str:
    return f"{ports[0]}" if len(ports) == 1 else f"{ports[0]} to {ports[-1]}"


def _largest_group(workload: Workload) -> int:
    return max((len(group) for group in workload.gpus if not isinstance(group, str)), default=0)
