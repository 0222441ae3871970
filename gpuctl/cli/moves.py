"""`scale`, `cordon`, `uncordon`, `failover`: send an Intent, wait until all is where it goes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpuctl.cli import compose, follow, intents, outcome, superseding
from gpuctl.cli.session import Session
from gpuctl.errors import GpuctlError, NotFound, UsageError

if TYPE_CHECKING:
    from gpuctl.model import Event
    from gpuctl.model.status import ReplicaStatus, Status

_SERVING = ("ready", "busy", "degraded")
#: Why one is stopped that its workload has too many of.
_SURPLUS = ("scaled", "max_gpus")
#: A GPU that is in one of these is used again.
_USED = ("ok", "reserve")
#: One that is in one of these is not, whatever an operator says.
_GONE = ("lost", "missing", "unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What was asked for."""

    event: int  # the id of its intent
    names: Callable[[Status], Collection[str]]  # of the replicas that are waited for
    undoes: Callable[[Event], str]  # a later intent → its command if that undoes this one, else ""


def scale(session: Session, written: Iterable[str], *, wait: bool, timeout: float) -> int:
    """Have so many replicas of each workload; return the exit code."""
    counts = _counts(written)
    words = ", ".join(f"{name}={count}" for name, count in counts.items())
    event = compose.ask(session, "scale", counts=counts)

    def names(status: Status) -> frozenset[str]:
        return frozenset(r["name"] for r in status["replicas"] if r["workload"] in counts)

    def done(status: Status) -> bool:
        for name, count in counts.items():
            of_it = [r for r in status["replicas"] if r["workload"] == name]
            there = [r for r in of_it if r["phase"] != "stopped" or r["reason"] not in _SURPLUS]
            if len(there) != count or not all(r["phase"] in _SERVING for r in there):
                return False
        return True

    command = Command(event=event, names=names, undoes=superseding.scale(counts))
    return _followed(session, command, done, f"scaled: {words}", wait, timeout)


def cordon(session: Session, gpu: str, reason: str, *, wait: bool, timeout: float) -> int:
    """Start nothing more on a GPU; return the exit code."""
    before = session.status()
    uuid = _uuid(before, gpu)
    event = compose.ask(session, "cordon", uuid, note=reason)
    moving = frozenset(r["name"] for r in before["replicas"] if _on(r, uuid))

    def done(status: Status) -> bool:
        stuck = _subjects(status, "no_gpu_left")
        rows = (r for r in status["replicas"] if r["name"] in moving)
        return all(r["name"] in stuck or (_settled(r) and not _on(r, uuid)) for r in rows)

    index = _index(before, uuid)
    undoes = superseding.of_gpu("uncordon", uuid, index)
    command = Command(event=event, names=lambda _: moving, undoes=undoes)
    code = _followed(session, command, done, f"gpu {index}: cordoned", wait, timeout)
    if wait:
        _tell_stuck(session, session.status(), moving)
    return code


def uncordon(session: Session, gpu: str, *, wait: bool, timeout: float) -> int:
    """Use a GPU again; return the exit code."""
    before = session.status()
    uuid = _uuid(before, gpu)
    event = compose.ask(session, "uncordon", uuid)
    homes = {
        one["subject"]: one["evidence"].get("home", ())
        for one in before["conditions"]
        if one["check"] == "placement" and uuid in one["evidence"].get("home", ())
    }
    stuck = _subjects(before, "no_gpu_left")  # which may have what it waits for
    coming = frozenset(homes) | {
        r["name"]
        for r in before["replicas"]
        if _on(r, uuid) or (r["name"] in stuck and _settled(r))
    }

    def done(status: Status) -> bool:
        rows = [r for r in status["replicas"] if r["name"] in coming]
        if not all(_settled(r) for r in rows):
            return False
        states = {each["uuid"]: each["state"] for each in status["gpus"]}
        if any(states.get(each) not in _USED for home in homes.values() for each in home):
            return True  # another of a group's GPUs, or the driver, keeps it from there
        return not any(r["name"] in homes and r.get("moved") for r in rows)

    state = next(each["state"] for each in before["gpus"] if each["uuid"] == uuid)
    words = "in use again" if state not in _GONE else f"not cordoned any more, and still {state}"
    index = _index(before, uuid)
    undoes = superseding.of_gpu("cordon", uuid, index)
    command = Command(event=event, names=lambda _: coming, undoes=undoes)
    return _followed(session, command, done, f"gpu {index}: {words}", wait, timeout)


def failover(session: Session, to: str, subject: str, *, wait: bool, timeout: float) -> int:
    """Have replicas run on the CPU, or end that; return the exit code."""
    before = session.status()
    names = intents.subjects(before, subject) if subject else None
    event = compose.ask(session, "failover", subject, to=to)
    staying = _staying(session, event)

    def concerned(status: Status) -> frozenset[str]:
        return frozenset(
            r["name"]
            for r in status["replicas"]
            if (names is None or r["name"] in names) and r["workload"] not in staying
        )

    def done(status: Status) -> bool:
        rows = [r for r in status["replicas"] if r["name"] in concerned(status)]
        if to == "gpu":
            return all(_settled(r) and not (r.get("on_cpu") and _coming(r)) for r in rows)
        # What is stopped keeps its GPUs, and moves only when it is started again.
        return all(r["phase"] == "stopped" or (_settled(r) and not r["gpus"]) for r in rows)

    words = "on the CPU, far slower: `gpuctl failover gpu` ends it" if to == "cpu" else "on GPUs"
    workloads = {r["workload"] for r in before["replicas"] if names is None or r["name"] in names}
    undoes = superseding.failover(to, concerned(before) | workloads)
    command = Command(event=event, names=concerned, undoes=undoes)
    return _followed(session, command, done, words, wait, timeout)


def _followed(
    session: Session,
    command: Command,
    done: Callable[[Status], bool],
    words: str,
    wait: bool,
    timeout: float,
) -> int:
    """
    Wait until a Status that knows of the command says that it is carried out, or will not be.

    Raises:
        Superseded: a later command undoes it.
    """
    if not wait:
        session.say(f"{words}: under way")
        return 0
    names, later = command.names, superseding.Later(session, command.event, command.undoes)

    def over(status: Status) -> bool:
        if status["last_event"] < command.event:
            return False
        later.look(status)
        return done(status) or bool(outcome.failures(status, names(status)))

    follower = follow.Follower(session=session, timeout_seconds=timeout)
    with follow.progress(session) as show:
        status = follower.until(over, show)
    if done(status):
        session.say(words)
        return 0
    return outcome.tell(session, status, names(status), words)


def _staying(session: Session, event: int) -> Collection[str]:
    """Return the workloads that a failover leaves where they are, and name them."""
    found = compose.events(session, after=event - 1, kinds=("intent",))
    told = next((each.evidence.get("staying") for each in found if each.id == event), None)
    staying = [str(name) for name in told] if isinstance(told, (tuple, list)) else []
    if staying:
        session.say(f"no fallback to the CPU, so it stays on its GPUs: {', '.join(staying)}")
    return staying


def _tell_stuck(session: Session, status: Status, names: Collection[str]) -> None:
    for one in sorted(status["conditions"], key=lambda one: one["subject"]):
        if one["reason"] == "no_gpu_left" and one["subject"] in names:
            unread = one["evidence"].get("unread")
            why = f"the GPUs cannot be read ({unread})" if unread else "no other GPU is left for it"
            session.say(f"{one['subject']}: goes on there, as {why}")


def _counts(written: Iterable[str]) -> dict[str, int]:
    """Return the counts by workload. Raises `UsageError` with every word that is not one."""
    from gpuctl.moving import together

    counts: dict[str, int] = {}
    mistakes: list[GpuctlError] = []
    for each in written:
        name, _, count = each.partition("=")
        if not name or not count.isdecimal():
            what = f"{each!r} is not a workload and a number"
            mistakes.append(UsageError(what, "write `gpuctl scale llm=2`"))
        elif name in counts:
            hint = "say once how many it shall have"
            mistakes.append(UsageError(f"{name} is named twice", hint))
        else:
            counts[name] = int(count)
    if mistakes:
        raise together(mistakes)
    return counts


def _uuid(status: Status, gpu: str) -> str:
    from gpuctl.moving import named

    if not status["gpus"]:
        raise NotFound(f"no GPU is known by {gpu!r}", "the daemon has read none: `gpuctl status`")
    return named(gpu, [(each["index"], each["uuid"]) for each in status["gpus"]])


def _index(status: Status, uuid: str) -> int:
    return next(each["index"] for each in status["gpus"] if each["uuid"] == uuid)


def _on(replica: ReplicaStatus, uuid: str) -> bool:
    return any(gpu["uuid"] == uuid for gpu in replica["gpus"])


def _settled(replica: ReplicaStatus) -> bool:
    return replica["phase"] in (*_SERVING, "stopped")


def _coming(replica: ReplicaStatus) -> bool:
    """True for one on the CPU that is on its way to a GPU."""
    return replica.get("moved") in ("failover_cpu", "moved_back", "gpu_free")


def _subjects(status: Status, reason: str) -> set[str]:
    return {one["subject"] for one in status["conditions"] if one["reason"] == reason}
