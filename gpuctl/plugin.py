"""
What a one-file plug-in provides, and how it is found.

A new engine is one file in `gpuctl/engines/` with a constant `ENGINE`; a new check is one file in
`gpuctl/checks/` with a constant `CHECK`. Both are pure: data in, data out.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gpuctl.history import History
from gpuctl.model import (
    Condition,
    EngineStats,
    GpuIdentity,
    GpuReading,
    ModelFacts,
    Mount,
    Plan,
    ProbeSpec,
    Snapshot,
    Tuned,
    Verdict,
    VramPlan,
    Workload,
)
from gpuctl.trends import Trends


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """Where one replica goes."""

    index: int  # the replica's number within its workload
    gpus: tuple[GpuIdentity, ...]  # empty on the CPU
    port: int  # on the host's loopback
    runtime: str  # docker | process | simulated
    cpus: int = 1  # of the host
    python: str = "python3"  # the interpreter that runs gpuctl
    driver_version: str | None = None  # NVIDIA's, of the host
    cuda_version: tuple[int, int] | None = None  # the newest that this driver serves
    startup_limit_seconds: float = 1800.0  # a start that takes longer is given up
    stop_grace_seconds: float = 30.0  # from SIGTERM to SIGKILL


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What an engine wants run; planning adds limits, mounts, GPUs and ports."""

    image: str = ""
    entrypoint: tuple[str, ...] | None = None  # None: the image's own (a process needs one)
    command: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    container_port: int = 8080
    shm_bytes: int | None = None  # what the engine needs in /dev/shm; None: the runtime's default
    pinned_bytes: int = 0  # host RAM that it takes at its start and keeps, whatever it does ...
    pinned_key: str = ""  # ... and the key of the workload that says how much
    slots: int | None = None  # requests it takes at once; None: the workload's `parallel`
    mounts: tuple[Mount, ...] = ()  # what it keeps between starts, where the workload keeps nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfit:
    """Why an engine cannot run where it is put, found before anything is fetched."""

    key: str  # of the workload: image, options.dtype …
    what: str
    hint: str  # what to use instead
    warning: bool = False  # it could not be told: said, and not refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """What an engine's last words mean, for a start that ended."""

    what: str
    hint: str  # what to change


#: How far a start has come, in order; an engine that has no graphs or no warm-up skips those.
STAGES = ("weights_loaded", "graphs_ready", "warmed_up")


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An inference server that gpuctl can start and ask."""

    name: str  # as `engine = "…"` in a profile
    options: type[Any]  # frozen dataclass of `[workloads.<name>.options]`; all have defaults
    launch: Callable[[Workload, Slot], Launch]
    probe: Callable[[Workload, Slot], ProbeSpec]
    stats: Callable[[str], EngineStats]  # the text of /metrics → numbers; never raises
    runtimes: frozenset[str] = frozenset({"docker", "simulated"})
    needs_model: bool = True
    needs_image: bool = True  # on Docker
    #: What it takes of its GPUs; None where the model's files do not tell.
    memory: Callable[[Workload, Slot, ModelFacts], VramPlan | None] | None = None
    #: The options that suit the card of the slot, and the operator's own beside them.
    tune: Callable[[Workload, Slot], Iterable[Tuned]] | None = None
    #: Whether this image, with these options, runs on this card under this driver.
    fit: Callable[[Workload, Slot], Iterable[Unfit]] | None = None
    #: How far its start has come by its last log lines: one of `STAGES`, "" where they do not tell.
    stage: Callable[[Sequence[str]], str] | None = None
    #: Why it gave up, by its last log lines; None where they do not tell.
    explain: Callable[[Sequence[str]], Explained | None] | None = None
    needs_gpu: bool = False  # its usual image does: on the CPU it takes an image of its own
    groups: bool = False  # one replica may span several GPUs (tensor parallel)
    owns: frozenset[str] = frozenset()  # flags `launch` sets: a profile's `args` may not
    whole: frozenset[str] = frozenset()  # flags that one of those begins like, and not short for it


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What a check may look at."""

    plan: Plan
    now: Snapshot
    history: History
    before: Mapping[tuple[str, str], Condition]  # (check, subject) → the last tick's
    trends: Trends = field(default_factory=Trends)  # this tick's readings among them

    def gpus(self) -> tuple[GpuReading, ...]:
        """Return every planned GPU that can be asked, by index; none while the driver is unread."""
        if "gpus" in self.now.errors:
            return ()
        found = (self.now.gpus.get(gpu.uuid) for gpu in self.plan.gpus)
        return tuple(gpu for gpu in found if gpu is not None and gpu.state == "ok")

    def said(self, check: str, subject: str) -> str:
        """Return the reason that a check gave on the last tick, "" where all was well."""
        before = self.before.get((check, subject))
        return before.verdict.reason if before is not None else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One question asked every tick, of every subject it concerns."""

    name: str
    order: int  # checks run and are listed in this order: stopped 10, vram 20, health 30 …
    run: Callable[[Scene], Iterable[Verdict]]
    #: It is asked once the tick's moves are recorded: the Scene has the plan with them, and as
    #: `before` what the other checks say on this tick.
    after_moves: bool = False


def load_engines() -> Mapping[str, Engine]:
    """Return every engine by name; two of one name are a mistake in the package."""
    return {engine.name: engine for engine in _load("gpuctl.engines", "ENGINE")}


def load_checks() -> tuple[Check, ...]:
    """Return every check in its order."""
    return tuple(sorted(_load("gpuctl.checks", "CHECK"), key=lambda check: check.order))


def _load(package: str, constant: str) -> list[Any]:
    found: dict[str, Any] = {}
    path = importlib.import_module(package).__path__
    for module in pkgutil.iter_modules(path):
        plug_in = getattr(importlib.import_module(f"{package}.{module.name}"), constant)
        if plug_in.name in found:
            raise ValueError(f"{package}: two plug-ins are named {plug_in.name!r}")
        found[plug_in.name] = plug_in
    return list(found.values())
