"""
Which replicas go elsewhere now: Plan, Snapshot, Conditions and History in, Events out. PURE.

The daemon records these before it decides, and plans anew. For each replica the first rung holds:

 1. nobody wants it → it has its place until it is gone, and one that `scale` added as long as that
    counts it and `max_gpus` allows it
 2. an operator's `failover cpu` holds, and its workload may → the CPU
 3. it is elsewhere, and its own GPUs are well again → there
 4. it is well where it is → it stays; but where nothing of it runs, its workload may, and the
    driver has let nothing new use a GPU for a minute → the CPU
 5. enough GPUs of the reserve are read as well and have room, and the driver works → there, as a
    whole; what has lost its GPU at once goes to those that were well when they were last read
 6. its workload may, and nothing of it runs or its GPU has failed → the CPU
 7. it stays, and waits

A GPU that a replica leaves because it failed is cordoned: it is used again when an operator says
so. From one that an operator has cordoned replicas go in their own time, if there is a place, and
from one whose driver asks for it to be drained.
"""

from __future__ import annotations

from collections.abc import Iterator

from gpuctl.avoidance import Conditions, avoided, cordons, left, unusable, urgent
from gpuctl.history import History
from gpuctl.model import Event, EventKind, Json, Plan, Replica, Snapshot, WorkloadPlan
from gpuctl.moments import event
from gpuctl.room import Room, Wish, added, wish
from gpuctl.wanted import desired

_ALIVE = ("running", "paused")
#: A driver that is being replaced is of two versions until its modules are loaded anew.
_DRIVER_SECONDS = 60.0


def failover(
    plan: Plan, now: Snapshot, conditions: Conditions, history: History
) -> tuple[Event, ...]:
    """Return what is cordoned and what moves; nothing while the runtime is unread."""
    if "runtime" in now.errors or now.runtime_boot_seconds is None:
        return ()
    return tuple(_Moves(plan, now, conditions, history).events())


def room(plan: Plan, now: Snapshot, conditions: Conditions, history: History) -> Room:
    """Return the room on GPUs that a start is not barred from: a hot one would have it wait."""
    return Room(plan, now, {*avoided(conditions, now.boot_seconds), *cordons(history)})


class _Moves:
    """One tick's moves, each counted for those after it."""

    def __init__(self, plan: Plan, now: Snapshot, conditions: Conditions, history: History) -> None:
        self.plan, self.now, self.history = plan, now, history
        self.failed = left(conditions, now.boot_seconds)
        self.urgent = urgent(conditions, now.boot_seconds)  # of these, no time to lose
        self.driver = unusable(conditions)
        self.cordons = cordons(history)
        self.room = room(plan, now, conditions, history)
        self.workloads = {workload.name: workload for workload in plan.workloads}
        self.cordoned: set[str] = set()  # by this tick

    def events(self) -> Iterator[Event]:
        return (each for each in self._events() if not self._told(each))

    def _events(self) -> Iterator[Event]:
        yield from self._forgotten()  # first, as some are told anew
        for replica in self.plan.replicas:
            yield from self._replica(replica, self.workloads.get(replica.workload))
        for workload in self.plan.workloads:
            yield from self._scaled(workload)

    def _told(self, each: Event) -> bool:
        """True of a move that was told before: it cannot be planned, and is not told each time."""
        known = self.history.assignments.moved.get(each.subject)
        if each.kind != EventKind.MOVED or known is None:
            return False
        again = (each.evidence.get("gpus"), each.reason, each.evidence.get("voluntary"))
        told = (known.gpus, known.reason, known.voluntary)
        return again == told and not self._others(known.profile)

    def _replica(self, replica: Replica, workload: WorkloadPlan | None) -> Iterator[Event]:
        if replica.surplus:  # 1
            if replica.moved is not None and self._gone(replica):
                yield self._back(replica, replica.surplus_because)
            return
        if workload is None or not desired(self.history, replica, running=False):
            if replica.moved is not None and replica.home and self._ended(replica):
                yield self._back(replica, "stopped_elsewhere")
            return
        if workload.fallback and self._emergency(replica):  # 2
            if replica.gpus:
                yield self._moved(replica, (), "failover_cpu", voluntary=True)
            return
        if replica.moved is not None and replica.home and self._homely(replica):  # 3
            self.room.put(wish(replica, workload), [gpu.uuid for gpu in replica.home])
            yield self._back(replica, "moved_back")
            return
        here = self._unfit(replica)
        if (replica.gpus and not here) or not (replica.gpus or replica.on_cpu):  # 4
            yield from self._driverless(replica, workload) or self._hurried(replica)
            return
        yield from self._elsewhere(replica, workload, here)

    def _forgotten(self) -> Iterator[Event]:
        """Forget what was said under another profile, or of workloads that this one has no more."""
        known = self.history.assignments
        for name, moved in sorted(known.moved.items()):
            because = self._forgets(name.rpartition("-")[0], moved.profile)
            if because:
                yield event(self.now, EventKind.MOVED, name, because, {"voluntary": True})
        for name in sorted(known.counts):
            because = self._forgets(name, known.counted.get(name, ""))
            if because:
                told = {"by": "gpuctl", "because": because}
                yield event(self.now, EventKind.INTENT, name, "scale", told)
        for name, (asked, _) in sorted(self.history.failovers.items()):
            if self._others(asked.profile):
                told = {"by": "gpuctl", "because": "other_profile", "to": ""}
                yield event(self.now, EventKind.INTENT, name, "failover", told)

    def _forgets(self, workload: str, profile: str) -> str:
        """Return why nothing that was said of a workload holds any more, "" if it does."""
        if self._others(profile):
            return "other_profile"
        return "" if workload in self.workloads else "not_in_profile"

    def _others(self, profile: str) -> bool:
        return profile not in ("", self.plan.profile)

    def _elsewhere(
        self, replica: Replica, workload: WorkloadPlan, here: dict[str, str]
    ) -> Iterator[Event]:
        """Rungs 5 and 6, for a replica on GPUs that are *here* unfit, or on the CPU."""
        failed = [uuid for uuid in here if uuid in self.failed]
        reason = next((here[uuid] for uuid in (*failed, *here)), "gpu_free")
        pressing = bool(self.urgent.keys() & failed)
        wished = wish(replica, workload, pressing=pressing)
        place = None if self.driver is not None else self.room.find(wished)
        if place is None and replica.moved is not None and replica.moved.reason == "failover_cpu":
            # It stays where an operator had it go, and no more because of that.
            because = next((self._why(gpu.uuid) for gpu in replica.home), "no_gpu_left")
            yield self._moved(replica, (), because or "no_gpu_left", voluntary=True)
            return
        if place is None:
            idle = self._container(replica) is None
            if not (replica.gpus and workload.fallback and (failed or idle)):
                return  # 7
            place = ()
        self.room.put(wished, place)
        yield from self._cordon(failed)
        yield self._moved(replica, place, reason, voluntary=not pressing)

    def _scaled(self, workload: WorkloadPlan) -> Iterator[Event]:
        """Give what `scale` asks for a place, as far as there is one."""
        there = {replica.name: replica for replica in self.plan.replicas}
        for index in range(workload.replicas, workload.wanted):
            wished = added(workload, index)
            if wished.name in there or not within(workload, self.plan, wished.gpus):
                continue
            place = self.room.find(wished)
            if place is not None:
                self.room.put(wished, place)
                yield scaled(self.now, wished, place, self.plan.profile)

    def _homely(self, replica: Replica) -> bool:
        """True when its own GPUs are read as well, and nothing speaks against them."""
        return all(self.room.well(gpu.uuid) for gpu in replica.home)

    def _unfit(self, replica: Replica) -> dict[str, str]:
        """Return which of its GPUs it cannot stay on, and why."""
        found = {g.uuid: self.failed[g.uuid] for g in replica.gpus if g.uuid in self.failed}
        held = [g.uuid for g in replica.gpus if g.uuid in self.cordons and g.uuid not in found]
        found |= {uuid: self.cordons[uuid].reason for uuid in held}
        if found or replica.moved is None:
            return found
        homes = {g.uuid for r in self.plan.replicas if r.name != replica.name for g in r.home}
        return {g.uuid: "profile_changed" for g in replica.gpus if g.uuid in homes}

    def _why(self, uuid: str) -> str:
        """Return why a GPU is not used, "" where only the readings of it are missing."""
        cordon = self.cordons.get(uuid)
        return self.failed.get(uuid) or (cordon.reason if cordon is not None else "")

    def _driverless(self, replica: Replica, workload: WorkloadPlan) -> tuple[Event, ...]:
        """Return the move of what could not be started on any GPU, and may run on the CPU."""
        driver = self.driver
        if driver is None or not (replica.gpus and workload.fallback):
            return ()
        lasted = self.now.boot_seconds - driver.since_boot_seconds
        if lasted < _DRIVER_SECONDS or self._container(replica) is not None:
            return ()
        return (self._moved(replica, (), driver.verdict.reason, voluntary=False),)

    def _hurried(self, replica: Replica) -> Iterator[Event]:
        """What was to go in its own time has no time left when its GPU fails meanwhile."""
        known, container = self.history.replica(replica.name), self._container(replica)
        if container is None or known.moved is None or not known.moved.voluntary:
            return
        failed = [uuid for uuid in container if uuid in self.urgent]
        if not failed:
            return
        yield from self._cordon(failed)
        if replica.moved is None:
            yield self._back(replica, self.urgent[failed[0]], voluntary=False)
        else:
            gpus = tuple(gpu.uuid for gpu in replica.gpus)
            yield self._moved(replica, gpus, self.urgent[failed[0]], voluntary=False)

    def _container(self, replica: Replica) -> tuple[str, ...] | None:
        """Return the GPUs of its running container, `None` without one."""
        container = self.now.own(replica.name)
        return container.gpus if container is not None and container.state in _ALIVE else None

    def _gone(self, replica: Replica) -> bool:
        container = self.now.own(replica.name)
        return self._ended(replica) and (container is None or container.state == "removed")

    def _ended(self, replica: Replica) -> bool:
        """True when nothing of it runs or is about to; what it left may be kept for its log."""
        under_way = self.history.replica(replica.name).attempt is not None
        left_over = bool(self.now.aside.get(replica.name)) or under_way
        return not left_over and self._container(replica) is None

    def _emergency(self, replica: Replica) -> bool:
        profile = self.plan.profile
        return self.history.failed_over(replica.name, replica.workload, profile) == "cpu"

    def _cordon(self, uuids: list[str]) -> Iterator[Event]:
        for uuid in uuids:
            if uuid not in self.cordons and uuid not in self.cordoned:
                self.cordoned.add(uuid)
                yield event(self.now, EventKind.CORDONED, uuid, self.failed[uuid], {})

    def _moved(
        self, replica: Replica, gpus: tuple[str, ...], reason: str, *, voluntary: bool
    ) -> Event:
        came = tuple(gpu.uuid for gpu in replica.gpus)
        told: dict[str, Json] = {"gpus": gpus, "from": came, "voluntary": voluntary}
        told["profile"] = self.plan.profile
        return event(self.now, EventKind.MOVED, replica.name, reason, told)

    def _back(self, replica: Replica, reason: str, *, voluntary: bool = True) -> Event:
        """Without `gpus`, it is where the profile puts it."""
        home = tuple(gpu.uuid for gpu in replica.home)
        came = tuple(gpu.uuid for gpu in replica.gpus)
        told: dict[str, Json] = {"home": home, "from": came, "voluntary": voluntary}
        return event(self.now, EventKind.MOVED, replica.name, reason, told)


def scaled(now: Snapshot, wished: Wish, gpus: tuple[str, ...], profile: str) -> Event:
    """Return the Event that gives one replica more its GPUs, under the profile of this name."""
    told: dict[str, Json] = {"gpus": gpus, "from": (), "voluntary": True, "profile": profile}
    return event(now, EventKind.MOVED, wished.name, "scaled", told)


def within(workload: WorkloadPlan, plan: Plan, more: int) -> bool:
    """Return whether a workload may have so many GPUs more, by its `max_gpus`."""
    own = (replica for replica in plan.replicas if replica.workload == workload.name)
    taken = sum(_taken(replica, workload) for replica in own)
    return workload.max_gpus is None or taken + more <= workload.max_gpus


def _taken(replica: Replica, workload: WorkloadPlan) -> int:
    """Return the GPUs that a replica has, or comes back to from the CPU."""
    have = len(replica.home or replica.gpus)
    return have or (workload.scaled_gpus if replica.on_cpu else 0)
