"""
`cordon`, `uncordon`, `scale`, `failover`: a request in, its Events out, or why not. PURE.

`intents` calls it. What cannot be done is refused here, before anything is recorded: whoever asks
is told at once and not by a condition later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from gpuctl.avoidance import Conditions
from gpuctl.errors import GpuctlError, NotFound, UsageError
from gpuctl.failover import room, scaled, within
from gpuctl.history import History, fold
from gpuctl.model import (
    Assignments,
    Event,
    EventKind,
    Json,
    Plan,
    Snapshot,
    WorkloadPlan,
)
from gpuctl.moments import event
from gpuctl.room import Pressed, Room, Wish, added

VERBS = ("cordon", "uncordon", "scale", "failover")
#: Of a UUID that is given by its beginning: shorter ones are typing errors.
_PREFIX_CHARACTERS = 4
#: Of one workload: a Linux bridge, as Docker's networks are, has 1024 ports (BR_MAX_PORTS of
#: net/bridge/br_private.h), and each replica is looked at on the deciding thread.
_MOST_REPLICAS = 1000


class NoRoom(GpuctlError):
    """There is no GPU for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Present:
    """What a request is held against."""

    plan: Plan
    now: Snapshot
    conditions: Conditions
    history: History
    arrange: Callable[[Assignments], Plan]

    def after(self, events: list[Event]) -> Present:
        """Return it as it would be after these Events. Raises `PlanRefused`."""
        history = reduce(fold, events, self.history)
        return replace(self, history=history, plan=self.arrange(history.assignments))


def requested(
    verb: str, subject: str, arguments: Mapping[str, object], who: Mapping[str, Json], at: Present
) -> list[Event]:
    """
    Return the Events of one request, the operator's intent first.

    Raises:
        NotFound: there is no such GPU, replica or workload.
        UsageError: it makes no sense.
        NoRoom: there is no GPU for what `scale` would add.
        PlanRefused: something else stands in its way, such as a port.
    """
    match verb:
        case "scale":
            return _scaled(arguments, who, at)
        case "failover":
            return [_failed_over(subject, str(arguments.get("to", "")), who, at)]
    uuid = named(subject, [(gpu.index, gpu.uuid) for gpu in at.plan.gpus])
    told = dict(who)
    if arguments.get("note"):
        told["note"] = str(arguments["note"])
    reading = at.now.gpus.get(uuid)
    health = reading.health if reading is not None and verb == "uncordon" else None
    if health is not None and health.ecc_uncorrected_volatile is not None:
        told["ecc_uncorrected"] = health.ecc_uncorrected_volatile
    return [event(at.now, EventKind.INTENT, uuid, verb, told)]


def named(name: str, gpus: Sequence[tuple[int, str]]) -> str:
    """
    Return the UUID of the GPU that an index, a UUID or its beginning means.

    *gpus* are indexes and UUIDs of all there are. Raises `NotFound`.
    """
    text = name.removeprefix("GPU-")
    by_index = [uuid for index, uuid in gpus if name == str(index) and index >= 0]
    by_uuid = [uuid for _, uuid in gpus if name in (uuid, uuid.removeprefix("GPU-"))]
    begun = [uuid for _, uuid in gpus if uuid.removeprefix("GPU-").startswith(text)]
    found = by_index or by_uuid or (begun if len(text) >= _PREFIX_CHARACTERS else [])
    if len(found) == 1:
        return found[0]
    if found:
        what = f"{name!r} is the beginning of several GPUs"
        raise NotFound(what, f"write more of it: {', '.join(found)}")
    there = ", ".join(str(index) for index, _ in gpus if index >= 0) or "none"
    raise NotFound(f"no GPU is known by {name!r}", f"there are {there}; `gpuctl gpus` lists them")


def _failed_over(subject: str, to: str, who: Mapping[str, Json], at: Present) -> Event:
    if to not in ("cpu", "gpu"):
        what = f"failover goes to cpu or gpu, not {to!r}"
        raise UsageError(what, "write `gpuctl failover cpu`, and `gpuctl failover gpu` to end it")
    replicas = [r for r in at.plan.replicas if subject in ("", r.name, r.workload)]
    if not replicas:
        raise NotFound(
            f"{subject!r} is no replica or workload of the profile {at.plan.profile!r}",
            "`gpuctl status` lists them",
        )
    able = {workload.name for workload in at.plan.workloads if workload.fallback}
    on_gpus = [r.workload for r in replicas if r.gpus or r.on_cpu]
    unable = [name for name in dict.fromkeys(on_gpus) if name not in able]
    if to == "cpu" and not able & set(on_gpus):
        raise UsageError(*_cannot(unable))
    # Of everything it is said of the host, whatever is applied there.
    told: dict[str, Json] = {"profile": at.plan.profile} if subject else {}
    if to == "cpu" and unable:
        told["staying"] = tuple(unable)  # workloads: in an emergency the others do not wait for it
    return event(at.now, EventKind.INTENT, subject, "failover", {**who, "to": to, **told})


def _cannot(unable: list[str]) -> tuple[str, str]:
    if not unable:
        return "it runs on the CPU already", "`gpuctl status` shows what runs where"
    names = ", ".join(unable)
    hint = 'add fallback = "cpu" to it in the profile, then `gpuctl up`'
    return f"no fallback to the CPU: {names}", hint


def _scaled(arguments: Mapping[str, object], who: Mapping[str, Json], at: Present) -> list[Event]:
    """Return what each workload's count comes to; what is wrong with several is told at once."""
    counts = arguments.get("counts")
    if not isinstance(counts, Mapping) or not counts:
        raise UsageError("scale to how many?", "write `gpuctl scale NAME=2`")
    events: list[Event] = []
    mistakes: list[GpuctlError] = []
    present = at
    for name, count in counts.items():
        try:
            more = _counted(str(name), count, who, present)
            present = present.after(more)
        except GpuctlError as mistake:
            mistakes.append(mistake)
        else:
            events += more
    if mistakes:
        raise together(mistakes)
    return events


def together(mistakes: Sequence[GpuctlError]) -> GpuctlError:
    """Return one error that says all of it, each hint once; one that is alone stays as it is."""
    if len(mistakes) == 1:
        return mistakes[0]
    hints = dict.fromkeys(mistake.hint for mistake in mistakes if mistake.hint)
    found = GpuctlError("\n".join(mistake.message for mistake in mistakes), "\n".join(hints))
    # What makes no sense (2) stands above what there is no room for (1).
    found.exit_code = max(mistake.exit_code for mistake in mistakes)
    return found


def _counted(name: str, count: object, who: Mapping[str, Json], at: Present) -> list[Event]:
    """Return the intent of one workload's count, and where its replicas more go."""
    workloads = {workload.name: workload for workload in at.plan.workloads}
    workload = workloads.get(name)
    if workload is None:
        raise NotFound(f"no workload is named {name!r}", f"there are {', '.join(workloads)}")
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        what = f"{name}={count}: not 1 or more"
        raise UsageError(what, f"`gpuctl stop {name}` stops all of it")
    most = max(_MOST_REPLICAS, workload.replicas)
    if count > most:
        what = f"{name}={count}: more than {most} replicas"
        raise UsageError(what, f"write a number from 1 to {most}")
    told = {**who, "replicas": count, "as_profile": count == workload.replicas}
    told["profile"] = at.plan.profile
    moves = _added(replace(workload, wanted=count), at)
    return [event(at.now, EventKind.INTENT, workload.name, "scale", told), *moves]


def _added(workload: WorkloadPlan, at: Present) -> list[Event]:
    """Return where each replica more goes. Raises `NoRoom`."""
    there = {replica.name for replica in at.plan.replicas}
    free = room(at.plan, at.now, at.conditions, at.history)
    moves: list[Event] = []
    wishes = (added(workload, index) for index in range(workload.replicas, workload.wanted))
    for number, wished in enumerate(w for w in wishes if w.name not in there):
        if not within(workload, at.plan, wished.gpus * (number + 1)):
            raise UsageError(
                f"{workload.name}: {workload.wanted} replicas would take more than its "
                f"max_gpus ({workload.max_gpus})",
                "raise max_gpus in the profile, then `gpuctl up`",
            )
        place = free.find(wished)
        if place is None:
            raise NoRoom(*_full(wished, free, at))
        free.put(wished, place)
        moves.append(scaled(at.now, wished, place, at.plan.profile))
    return moves


def _full(wished: Wish, free: Room, at: Present) -> tuple[str, str]:
    unread = at.now.errors.get("gpus")
    if unread is not None:
        what = f"no room for {wished.name}: the GPUs cannot be read ({unread.message})"
        return what, "`gpuctl doctor` shows what is wrong with the driver"
    needs = "" if wished.need_bytes is None else f" with {wished.need_bytes / 2**30:.1f} GiB free"
    gpus = "one GPU" if wished.gpus == 1 else f"{wished.gpus} GPUs"
    hint = "`gpuctl gpus` shows what is on each; `gpuctl uncordon` gives one back"
    if not at.plan.reserve:
        hint = "keep some in reserve (host.reserve), or take a workload off one"
    what = f"no room for {wished.name}: it takes {gpus}{needs}, neither unused nor in reserve"
    return "\n".join((what, *map(_pressed, free.pressed(wished)))), hint


def _pressed(card: Pressed) -> str:
    used, total, left = (
        each / 2**30 for each in (card.used_bytes, card.total_bytes, card.room_bytes)
    )
    return (
        f"GPU {card.gpu.index}: {card.level} pressure, {used:.1f} of {total:.1f} GiB in use: "
        f"{left:.1f} GiB for another model"
    )
