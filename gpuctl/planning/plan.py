"""
Profile, host and engines in, Plan out: called by `up`, `plan`, `check`, and by the daemon.

Every mistake is found before any is reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath

from gpuctl.errors import PlanRefused
from gpuctl.model import (
    Assignment,
    ContainerSpec,
    Inventory,
    Known,
    Plan,
    Profile,
    Replica,
    VramPlan,
    Workload,
    WorkloadPlan,
)
from gpuctl.planning import specs
from gpuctl.planning.capacity import check_claims, check_host_memory, check_ports, check_vram
from gpuctl.planning.fit import check_image
from gpuctl.planning.memory import Sized, sized, vram_plan
from gpuctl.planning.mistakes import Mistakes
from gpuctl.planning.placement import Group, Placement
from gpuctl.planning.places import Place, each_scaled
from gpuctl.planning.tuning import tuned
from gpuctl.planning.workloads import check_options, engine_of
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
    known = replace(known, assignments=known.assignments.under(profile.host.name))
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
    homes = {w.name: placement.place(w) for w in profile.workloads}
    replicas = tuple(r for w in profile.workloads for r in planner.replicas(w, homes[w.name]))
    workloads = tuple(planner.workload(w, homes[w.name]) for w in profile.workloads)
    _check_fit(profile, inventory, replicas, planner.sized, mistakes)
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
        workloads=workloads,
    )


def _check_fit(
    profile: Profile,
    inventory: Inventory,
    replicas: tuple[Replica, ...],
    sized: Mapping[str, Sized],
    mistakes: Mistakes,
) -> None:
    """Find what the replicas take of the host together and it cannot give."""
    check_ports(profile, replicas, mistakes)
    check_host_memory(replicas, inventory.memory_total_bytes, mistakes)
    check_claims(sized.values(), mistakes)
    check_vram(replicas, sized, inventory.gpus, profile.host.vram_headroom_bytes, mistakes)


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
    sized: dict[str, Sized] = field(default_factory=dict)  # by replica, as each is planned

    def replicas(self, workload: Workload, homes: tuple[Group, ...]) -> Iterator[Replica]:
        """
        Yield the workload's replicas by index; none when a mistake stands in the way.

        One that `scale` added is there once it has been assigned its GPUs, and until it has gone;
        and it has to go when `max_gpus` has become less than they take together.
        """
        moved = self.known.assignments.moved
        wanted = self.known.assignments.counts.get(workload.name, len(homes))
        taken, most = 0, workload.max_gpus
        for index in range(self._most(workload, len(homes))):
            name = f"{workload.name}-{index}"
            home = homes[index] if index < len(homes) else None
            if home is None and name not in moved:
                continue
            assigned = moved.get(name)
            gpus = (home or ()) if assigned is None else self.placement.moved(assigned.gpus)
            place = Place(home=home, gpus=gpus, assigned=assigned)
            taken += place.takes(workload, homes)
            over = home is None and most is not None and taken > most
            surplus = "scaled" if index >= wanted else "max_gpus" if over else ""
            place = replace(place, surplus=surplus)
            try:
                replica = self._replica(
                    workload, self._slot(workload, index, gpus, len(homes)), place
                )
            except PlanRefused as refusal:
                self.mistakes.profile(refusal.message, refusal.hint)
                return
            if replica is None:
                return
            yield replica

    def workload(self, workload: Workload, homes: tuple[Group, ...]) -> WorkloadPlan:
        """Return how many replicas it has, and where they may go."""
        count = each_scaled(workload, homes)
        spare = (*self.placement.reserve, *self.placement.unused(self.profile.workloads))
        if workload.fallback == "cpu" and self.mistakes.strict:
            self._rehearse(workload, homes)
        return WorkloadPlan(
            name=workload.name,
            replicas=len(homes),
            wanted=self.known.assignments.counts.get(workload.name, len(homes)),
            fallback=workload.fallback == "cpu",
            fallback_image=self._fallback_image(workload),
            max_gpus=workload.max_gpus,
            scaled_gpus=count,
            scaled_need_bytes=self._need(
                workload, self._slot(workload, len(homes), spare[:count], len(homes)), scaled=True
            )
            if 0 < count <= len(spare)
            else None,
        )

    def _fallback_image(self, workload: Workload) -> str:
        """Return the image that it has on the CPU alone; a process has none."""
        if workload.fallback != "cpu" or self.inventory.runtime == "process":
            return ""
        image = workload.on_cpu.image
        return "" if image is None or image == workload.image else image

    def _most(self, workload: Workload, homes: int) -> int:
        """Return how many there may be: the profile's, those wanted, those not gone yet."""
        known = self.known.assignments
        names = (name.rpartition("-") for name in known.moved)
        last = (int(n) + 1 for own, _, n in names if own == workload.name and n.isdecimal())
        return max(homes, known.counts.get(workload.name, 0), *last, 0)

    def _slot(self, workload: Workload, index: int, gpus: Group, homes: int) -> Slot:
        watchdog = specs.watchdog_settings(workload, self.profile.watchdog)
        port = workload.port + index
        if index >= homes and workload.scaled.port is not None:
            port = workload.scaled.port + index - homes
        return Slot(
            index=index,
            gpus=gpus,
            port=port,
            runtime=self.inventory.runtime,
            cpus=self.inventory.cpus,
            python=self.inventory.python,
            driver_version=self.inventory.driver_version,
            cuda_version=self.inventory.cuda_version,
            startup_limit_seconds=watchdog.startup_limit_seconds,
            stop_grace_seconds=watchdog.stop_grace_seconds,
        )

    def _rehearse(self, workload: Workload, homes: tuple[Group, ...]) -> None:
        """Plan a replica on the CPU: a mistake in `on_cpu` must not be found by a dead GPU."""
        home = next(iter(homes), ())
        place = Place(home=home, gpus=(), assigned=Assignment())
        try:
            self._replica(workload, self._slot(workload, 0, (), len(homes)), place)
        except PlanRefused as refusal:
            self.mistakes.profile(refusal.message, refusal.hint)

    def _replica(self, written: Workload, slot: Slot, place: Place) -> Replica | None:
        name = f"{written.name}-{slot.index}"
        workload = place.shape(written)
        engine = engine_of(workload, self.inventory, self.engines, self.mistakes)
        if engine is None:
            return None
        workload, chosen = tuned(workload, slot, engine)
        check_image(workload, slot, engine, self.mistakes)
        one = sized(name, workload, slot, engine, self._known(written, place))
        # A rehearsal of the CPU comes later, and is not what runs.
        vram = self.sized.setdefault(name, one).vram if slot.gpus else None
        launch = engine.launch(workload, slot)
        watchdog = specs.watchdog_settings(workload, self.profile.watchdog)
        spec = specs.container_spec(workload, slot, launch, watchdog)
        if slot.runtime in engine.runtimes:  # where it cannot run, a port is not what is wrong
            _check_port(workload, spec, name)
        need = _each(vram, slot)
        if place.on_cpu(written) and place.home:
            need = self._need(written, replace(slot, gpus=place.home), scaled=False)
        return Replica(
            name=name,
            workload=workload.name,
            engine=engine.name,
            gpus=slot.gpus,
            # What is held where, of a simulated replica, adds up to what it is planned to take.
            spec=replace(spec, vram_bytes=_each(vram and replace(vram, uneven_bytes=0), slot)),
            probe=specs.probe_spec(workload, engine.probe(workload, slot), watchdog),
            watchdog=watchdog,
            model=workload.name,
            aliases=self.aliases[workload.name],
            kind=workload.kind,
            slots=launch.slots or workload.parallel,
            vram_bytes=vram.total_bytes if vram is not None else workload.vram_bytes,
            vram=vram,
            pinned_bytes=launch.pinned_bytes,
            pinned_key=launch.pinned_key,
            tuned=chosen,
            moved=place.assigned,
            home=place.home or (),
            gpu_need_bytes=need,
            on_cpu=place.on_cpu(written),
            surplus=bool(place.surplus),
            surplus_because=place.surplus or "scaled",
            digest=specs.intent_digest(workload, slot, name, place.variants(written)),
            spec_digest=specs.spec_digest(spec),
        )

    def _known(self, workload: Workload, place: Place) -> Known:
        """Return what is known, of a variant's own model where it has one."""
        facts = self.known.facts
        own = next((f for v in place.names(workload) if (f := facts.get(v)) is not None), None)
        if own is None:
            return self.known
        return replace(self.known, facts={**facts, workload.name: own})

    def _need(self, workload: Workload, slot: Slot, *, scaled: bool) -> int | None:
        """Return the VRAM that a replica takes of each GPU of a slot, `None` if not known."""
        place = Place(home=None if scaled else slot.gpus, gpus=slot.gpus)
        shape = place.shape(workload)
        engine = self.engines.get(shape.engine)
        if engine is None or not check_options(shape, engine, self.mistakes):
            return None
        shape, _ = tuned(shape, slot, engine)
        return _each(vram_plan(shape, slot, engine, self._known(workload, place)), slot)


def _each(vram: VramPlan | None, slot: Slot) -> int | None:
    """Return the share of one GPU."""
    return None if vram is None or not slot.gpus else vram.share_bytes(len(slot.gpus))


def _check_port(workload: Workload, spec: ContainerSpec, name: str) -> None:
    if spec.network == "host" and spec.container_port != spec.host_port:
        raise PlanRefused(
            f"workloads.{workload.name}.network: on the host's network {name} must listen on "
            f"{spec.host_port}, and its container_port is {spec.container_port}",
            'use network = "bridge", or one replica whose container_port is its port',
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
