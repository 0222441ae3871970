"""`scale`, `cordon`, `uncordon`, `failover`: send an Intent, wait until all is where it goes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from gpuctl.cli import compose, follow, intents, outcome
from gpuctl.cli.session import Session
from gpuctl.errors import GpuctlError, NotFound, UsageError

if TYPE_CHECKING:
    from gpuctl.model.status import ReplicaStatus, Status

_SERVING = ("ready", "busy", "degraded")
#: Why one is stopped that its workload has too many of.
_SURPLUS = ("scaled", "max_gpus")
#: A GPU that is in one of these is used again.
_USED = ("ok", "reserve")
#: One that is in one of these is not, whatever an operator says.
_GONE = ("lost", "missing", "unknown")


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
            if len(there) != count or not all(_settled(r) for r in there):
                return False
        return True

    return _followed(session, event, names, done, f"scaled: {words}", wait, timeout)


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

    code = _followed(
        session,
        event,
        lambda _: moving,
        done,
        f"gpu {_index(before, uuid)}: cordoned",
        wait,
        timeout,
    )
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
    coming = frozenset(homes) | {r["name"] for r in before["replicas"] if _on(r, uuid)}

    def done(status: Status) -> bool:
        states = {each["uuid"]: each["state"] for each in status["gpus"]}
        if any(states.get(each) not in _USED for home in homes.values() for each in home):
            return True  # another of a group's GPUs, or the driver, keeps it from there
        rows = (r for r in status["replicas"] if r["name"] in coming)
        return all(_settled(r) and (r["name"] not in homes or not r.get("moved")) for r in rows)

    state = next(each["state"] for each in before["gpus"] if each["uuid"] == uuid)
    words = "in use again" if state not in _GONE else f"not cordoned any more, and still {state}"
    words = f"gpu {_index(before, uuid)}: {words}"
    return _followed(session, event, lambda _: coming, done, words, wait, timeout)


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
        return all(_settled(r) and not r["gpus"] for r in rows)

    words = "on the CPU, far slower: `gpuctl failover gpu` ends it" if to == "cpu" else "on GPUs"
    return _followed(session, event, concerned, done, words, wait, timeout)


def _followed(
    session: Session,
    event: int,
    names: Callable[[Status], Collection[str]],
    done: Callable[[Status], bool],
    words: str,
    wait: bool,
    timeout: float,
) -> int:
    """Wait until a Status that knows of the event says that it is carried out, or will not be."""
    if not wait:
        session.say(f"{words}: under way")
        return 0

    def over(status: Status) -> bool:
        if status["last_event"] < event:
            return False
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
    told = next(each.evidence.get("staying") for each in found if each.id == event)
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
