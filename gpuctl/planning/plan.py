"""
Profile, host and engines in, Plan out: called by `up`, `plan`, `check`, and by the daemon.

Every mistake is found before any is reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from gpuctl.errors import PlanRefused
from gpuctl.model import Inventory, Known, Plan, Profile, Replica, Workload
from gpuctl.planning import specs
from gpuctl.planning.capacity import check_host_memory, check_ports, check_vram
from gpuctl.planning.memory import vram_plan
from gpuctl.planning.mistakes import Mistakes
from gpuctl.planning.placement import Placement
from gpuctl.planning.tuning import tuned
from gpuctl.planning.workloads import engine_of
from gpuctl.plugin import Engine, Slot

_NOTHING_KNOWN = Known()


def plan(
    profile: Profile,
    inventory: Inventory,
    engines: Mapping[str, Engine],
    *,
    strict: bool = True,
    known: Known = _NOTHING_KNOWN,
) -> Plan:
    """
    Return what should run where, with what is *known* of the models and of earlier moves.

    Not *strict* is for a daemon on a host that has lost something since `up`: what the host lacks
    becomes a warning, and replicas on missing GPUs stay in the plan, on a GPU whose UUID begins
    with `missing:` (or is the profile's own).

    Raises:
        PlanRefused: the profile cannot be carried; one line for each mistake.
    """
    mistakes = Mistakes(source=profile.source, strict=strict)
    placement = Placement(profile.host, inventory, mistakes)
    planner = _Planner(
        profile=profile,
        inventory=inventory,
        engines=engines,
        placement=placement,
        aliases=_aliases(profile, mistakes),
        mistakes=mistakes,
        known=known,
    )
    replicas = tuple(replica for w in profile.workloads for replica in planner.replicas(w))
    _check_fit(profile, inventory, replicas, mistakes)
    return Plan(
        profile=profile.host.name,
        watchdog=profile.watchdog,
        replicas=replicas,
        reserve=placement.reserve,
        gpus=placement.gpus,
        expected_gpus=sum(entry.count for entry in profile.host.gpus),
        missing_gpus=placement.missing,
        vram_headroom_bytes=profile.host.vram_headroom_bytes,
        warnings=mistakes.settle(),
    )


def _check_fit(
    profile: Profile, inventory: Inventory, replicas: tuple[Replica, ...], mistakes: Mistakes
) -> None:
    """Find what the replicas take of the host together and it cannot give."""
    check_ports(profile, replicas, mistakes)
    check_host_memory(replicas, inventory.memory_total_bytes, mistakes)
    check_vram(replicas, inventory.gpus, profile.host.vram_headroom_bytes, mistakes)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Planner:
    """What every workload of one plan is planned with."""

    profile: Profile
    inventory: Inventory
    engines: Mapping[str, Engine]
    placement: Placement
    aliases: Mapping[str, tuple[str, ...]]
    mistakes: Mistakes
    known: Known

    def replicas(self, workload: Workload) -> Iterator[Replica]:
        """Yield the workload's replicas by index; none when a mistake stands in the way."""
        groups = self.placement.place(workload)
        engine = engine_of(workload, self.inventory, self.engines, self.mistakes)
        if engine is None:
            return
        for index, gpus in enumerate(groups):
            slot = Slot(
                index=index,
                gpus=gpus,
                port=workload.port + index,
                runtime=self.inventory.runtime,
                cpus=self.inventory.cpus,
                python=self.inventory.python,
                driver_version=self.inventory.driver_version,
                cuda_version=self.inventory.cuda_version,
            )
            try:
                yield self._replica(workload, engine, slot)
            except PlanRefused as refusal:
                self.mistakes.profile(refusal.message, refusal.hint)
                return

    def _replica(self, workload: Workload, engine: Engine, slot: Slot) -> Replica:
        name = f"{workload.name}-{slot.index}"
        workload, chosen = tuned(workload, slot, engine)
        for unfit in engine.fit(workload, slot) if engine.fit is not None else ():
            self.mistakes.host(f"workloads.{workload.name}.{unfit.key}: {unfit.what}", unfit.hint)
        vram = vram_plan(workload, slot, engine, self.known)
        launch = engine.launch(workload, slot)
        watchdog = specs.watchdog_settings(workload, self.profile.watchdog)
        spec = specs.container_spec(workload, slot, launch, watchdog)
        if spec.network == "host" and spec.container_port != spec.host_port:
            raise PlanRefused(
                f"workloads.{workload.name}.network: on the host's network {name} must listen on "
                f"{spec.host_port}, and its container_port is {spec.container_port}",
                'use network = "bridge", or one replica whose container_port is its port',
            )
        return Replica(
            name=name,
            workload=workload.name,
            engine=engine.name,
            gpus=slot.gpus,
            spec=spec,
            probe=specs.probe_spec(workload, engine.probe(workload, slot), watchdog),
            watchdog=watchdog,
            model=workload.name,
            aliases=self.aliases[workload.name],
            kind=workload.kind,
            slots=launch.slots or workload.parallel,
            vram_bytes=vram.total_bytes if vram is not None else workload.vram_bytes,
            vram=vram,
            tuned=chosen,
            digest=specs.intent_digest(workload, slot, name),
            spec_digest=specs.spec_digest(spec),
        )


def _aliases(profile: Profile, mistakes: Mistakes) -> Mapping[str, tuple[str, ...]]:
    """
    Return by workload the names a client may use besides the workload's own.

    The model's own name is one of them, unless two workloads serve that model: then it would not
    tell which is meant.
    """
    owners: dict[str, str] = {workload.name: workload.name for workload in profile.workloads}
    for workload in profile.workloads:
        for alias in workload.aliases:
            owner = owners.setdefault(alias, workload.name)
            if owner != workload.name:
                mistakes.profile(
                    f"workloads.{workload.name}.aliases: {alias!r} names workload {owner} already",
                    "choose another alias: a client's request must lead to one workload",
                )
    shared = Counter(_model_name(workload) for workload in profile.workloads)
    found: dict[str, tuple[str, ...]] = {}
    for workload in profile.workloads:
        model = _model_name(workload)
        own = bool(model) and shared[model] == 1 and owners.get(model) is None
        names = (*workload.aliases, *((model,) if own else ()))
        found[workload.name] = tuple(dict.fromkeys(n for n in names if n != workload.name))
    return found


def _model_name(workload: Workload) -> str:
    """Return a model file's name without its ending, or a hub's name as it is."""
    path = PurePosixPath(workload.model)
    if path.suffix == ".gguf" or path.is_absolute():
        return path.name.removesuffix(".gguf")
    return workload.model
