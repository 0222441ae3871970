"""
Which GPUs have room for a replica: the plan, the readings and what is barred in. PURE.

By the plan it has to fit, and the level of the VRAM that others hold now has to allow it: another
model is loaded there, which nobody planned with them. `failover` and `gpuctl scale` ask it in turn
and tell it whom they put where.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace

from gpuctl.model import ContainerReading, GpuIdentity, Plan, Replica, Snapshot, WorkloadPlan
from gpuctl.pressure import pressure, room_bytes

_ALIVE = ("running", "paused")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """A replica that looks for GPUs."""

    name: str
    gpus: int  # as many, and no fewer
    need_bytes: int | None  # of each
    home: tuple[GpuIdentity, ...] = ()
    spare: bool = False  # it may have GPUs that the profile uses for nothing
    #: It cannot stay where it is: a GPU that was well when NVML last answered will do.
    pressing: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressed:
    """A GPU with room by the plan, whose level of pressure keeps another model off."""

    gpu: GpuIdentity
    level: str
    used_bytes: int  # by all that stay there
    total_bytes: int
    room_bytes: int  # what the level leaves for another model


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tenant:
    need_bytes: int | None
    home: frozenset[str]


def wish(replica: Replica, workload: WorkloadPlan, *, pressing: bool = False) -> Wish:
    """Return what a replica needs to move: as many GPUs as it has where it belongs."""
    return Wish(
        name=replica.name,
        gpus=len(replica.home) or workload.scaled_gpus,
        need_bytes=replica.gpu_need_bytes,
        home=replica.home,
        spare=not replica.home,
        pressing=pressing,
    )


def added(workload: WorkloadPlan, index: int) -> Wish:
    """Return what one more replica of a workload needs."""
    return Wish(
        name=f"{workload.name}-{index}",
        gpus=workload.scaled_gpus,
        need_bytes=workload.scaled_need_bytes,
        spare=True,
    )


class Room:
    """The GPUs of a plan, with whom each has now and will have."""

    def __init__(self, plan: Plan, now: Snapshot, barred: Collection[str]) -> None:
        self._plan, self._now, self._barred = plan, now, barred
        self._planned: defaultdict[str, dict[str, _Tenant]] = defaultdict(dict)
        #: Where containers still run, wherever their replicas are planned.
        self._running: defaultdict[str, dict[str, _Tenant]] = defaultdict(dict)
        known = {replica.name: _tenant(replica) for replica in plan.replicas}
        for replica in plan.replicas:
            for gpu in replica.gpus:
                self._planned[gpu.uuid][replica.name] = known[replica.name]
        stranger = _Tenant(need_bytes=None, home=frozenset())
        there = (*now.owned.values(), *(c for aside in now.aside.values() for c in aside))
        #: Ids and first processes of what runs or ran as a replica: no strangers.
        self._ours = {name for c in there for name in (c.id, c.pid) if name is not None}
        self._alive = tuple(c for c in there if c.state in _ALIVE)
        for container in self._alive:
            for uuid in container.gpus:
                self._running[uuid][container.replica] = known.get(container.replica, stranger)
        self._surplus = {replica.name for replica in plan.replicas if replica.surplus}

    def find(self, wished: Wish) -> tuple[str, ...] | None:
        """
        Return the GPUs that a replica may have, the best first; `None` when there are too few.

        It moves whole: on as many of the reserve, or on fewer beside those of its own that are
        well. What the profile uses for nothing comes before the reserve, for who may have it, and
        of each the emptiest before the others.
        """
        fitting = (gpu for gpu in self._pool(wished) if self._fits(gpu, wished))
        found = [gpu.uuid for gpu in fitting if self._pressed(gpu, wished) is None][: wished.gpus]
        return tuple(found) if len(found) == wished.gpus else None

    def pressed(self, wished: Wish) -> tuple[Pressed, ...]:
        """Return the GPUs that a replica could have but for their level, as `find` looks."""
        fitting = (gpu for gpu in self._pool(wished) if self._fits(gpu, wished))
        found = (self._pressed(gpu, wished) for gpu in fitting)
        return tuple(each for each in found if each is not None)

    def put(self, wished: Wish, uuids: Collection[str]) -> None:
        """Count a replica there from now on."""
        for tenants in self._planned.values():
            tenants.pop(wished.name, None)
        tenant = _Tenant(need_bytes=wished.need_bytes, home=_uuids(wished.home))
        for uuid in uuids:
            self._planned[uuid][wished.name] = tenant

    def well(self, uuid: str) -> bool:
        """True when it is read as well now, and nothing bars it."""
        return "gpus" not in self._now.errors and self._was_well(uuid)

    def _was_well(self, uuid: str) -> bool:
        reading = self._now.gpus.get(uuid)
        return uuid not in self._barred and reading is not None and reading.state == "ok"

    def _pool(self, wished: Wish) -> list[GpuIdentity]:
        """Return the GPUs to look at, the best first."""
        spare = self._spare() if wished.spare else ()

        def emptiest(gpu: GpuIdentity) -> tuple[int, int]:
            return len(self._others(gpu, wished)), gpu.index

        pool = [*sorted(spare, key=emptiest), *sorted(self._plan.reserve, key=emptiest)]
        return [*pool, *wished.home] if wished.gpus > 1 else pool

    def _others(self, gpu: GpuIdentity, wished: Wish) -> list[_Tenant]:
        """Return who else has a GPU, or runs there still."""
        there = {**self._planned[gpu.uuid], **self._running[gpu.uuid]}
        return [tenant for name, tenant in there.items() if name != wished.name]

    def _spare(self) -> list[GpuIdentity]:
        taken = {gpu.uuid for replica in self._plan.replicas for gpu in replica.home}
        taken |= _uuids(self._plan.reserve)
        return [gpu for gpu in self._plan.gpus if gpu.uuid not in taken]

    def _fits(self, gpu: GpuIdentity, wished: Wish) -> bool:
        if not (self._was_well(gpu.uuid) if wished.pressing else self.well(gpu.uuid)):
            return False
        others = self._others(gpu, wished)
        needs = [wished.need_bytes, *(tenant.need_bytes for tenant in others)]
        known = [need for need in needs if need is not None]
        free, home = self._free_bytes(gpu), _uuids(wished.home)
        if free is not None and len(known) == len(needs):
            if sum(known) <= free - self._plan.vram_headroom_bytes:
                return True
            if not home:
                return False
        # Not known, or more than leaves the headroom: those that shared a card of no more VRAM may
        # share this one.
        if any(not home or tenant.home != home for tenant in others):
            return False
        least = min((self._free_bytes(own) or 0 for own in wished.home), default=0)
        return (free or 0) >= least

    def _pressed(self, gpu: GpuIdentity, wished: Wish) -> Pressed | None:
        """
        Return the level that keeps a replica off a GPU, `None` where none does or it is not known.

        One whose need is not known is kept off a card that nothing more is loaded on.
        """
        reading = self._now.gpus[gpu.uuid]
        used, total = reading.memory_used_bytes, reading.memory_total_bytes
        apart = self._apart_bytes(gpu, wished)
        if used is None or not total or apart is None:
            return None
        used = max(0, used - apart)
        level = pressure(replace(reading, memory_used_bytes=used), self._plan.watchdog)
        allowed = room_bytes(level, used, total, self._plan.watchdog)
        if (wished.need_bytes or 1) <= allowed:
            return None
        return Pressed(gpu=gpu, level=level, used_bytes=used, total_bytes=total, room_bytes=allowed)

    def _apart_bytes(self, gpu: GpuIdentity, wished: Wish) -> int | None:
        """Return the VRAM on a GPU that does not count against a replica; `None`: not known."""
        total = 0
        for container in self._alive:
            if gpu.uuid in container.gpus and self._apart(container, gpu, wished):
                held = self._now.vram_bytes(container, (gpu.uuid,))
                if held is None:
                    return None
                total += held
        return total

    def _apart(self, container: ContainerReading, gpu: GpuIdentity, wished: Wish) -> bool:
        """True of its own, of what is leaving, and of what it was planned on one card with."""
        tenant = self._planned[gpu.uuid].get(container.replica)
        if tenant is None or container.replica in {*self._surplus, wished.name}:
            return True
        return bool(wished.home) and tenant.home == _uuids(wished.home)

    def _free_bytes(self, gpu: GpuIdentity) -> int | None:
        """Return what strangers leave of a card: now, or else when the profile was applied."""
        usable = gpu.usable_bytes
        if usable is None:
            return None
        reading = self._now.gpus.get(gpu.uuid)
        if reading is None or reading.processes is None:
            return usable - (gpu.foreign_bytes or 0)
        strangers = (
            process.used_bytes or 0
            for process in reading.processes
            if process.container not in self._ours and process.pid not in self._ours
        )
        return usable - sum(strangers)


def _tenant(replica: Replica) -> _Tenant:
    return _Tenant(need_bytes=replica.gpu_need_bytes, home=_uuids(replica.home))


def _uuids(gpus: Collection[GpuIdentity]) -> frozenset[str]:
    return frozenset(gpu.uuid for gpu in gpus)
