"""How a wait ended: what is ready, what failed, why, and what to do about it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from gpuctl.cli import compose
from gpuctl.cli.session import Session
from gpuctl.errors import StoreError

if TYPE_CHECKING:
    from gpuctl.model import Event
    from gpuctl.model.status import ReplicaStatus, Status

#: The first retry follows at once; a replica that failed this often in the hour will not be
#: helped by waiting at the terminal, though the daemon goes on trying.
_TRIES = 2

#: On its way, and nothing is wrong with it.
_COMING = ("pending", "loading", "draining")

#: The last failure and the last log are among so many.
_LATEST = 20


def failures(status: Status, names: Collection[str]) -> list[ReplicaStatus]:
    """Return the replicas that failed for good, or again and again."""
    return [
        replica
        for replica in status["replicas"]
        if replica["name"] in names
        and (
            replica["phase"] == "failed"
            or (replica["phase"] == "backoff" and replica["restarts_1h"] >= _TRIES)
        )
    ]


def settled(status: Status, names: Collection[str]) -> bool:
    """Return True when no replica is on its way any more: each is well, or has failed."""
    failed = {replica["name"] for replica in failures(status, names)}
    well = ("ready", "busy", "degraded", "stopped")
    return all(
        replica["phase"] in well or replica["name"] in failed
        for replica in status["replicas"]
        if replica["name"] in names
    )


def tell(session: Session, status: Status, names: Collection[str], well: str) -> int:
    """Say how it ended on stderr; return 0 when all of them are as wanted, else 3."""
    from gpuctl.views import progress, summary

    wanting = [r for r in status["replicas"] if r["name"] in names and not summary.well(r)]
    if not wanting:
        session.say(well)
        return 0
    coming = [r for r in wanting if r["phase"] in _COMING]
    for replica in wanting:
        if replica in coming:
            continue
        if replica["reason"] == "on_cpu" and replica.get("moved") == "failover_cpu":
            session.say(_in_emergency(status, replica))  # as an operator wants it: no failure
            continue
        reason, log = last_failure(session, replica["name"])
        for line in progress.trouble(replica, reason, log):
            session.say(line)
    if coming:
        session.say(f"not ready yet: {', '.join(progress.told(r) for r in coming)}")
    session.say("the daemon goes on; `gpuctl status` shows how far it is, `gpuctl down` ends it")
    return 3


def _in_emergency(status: Status, replica: ReplicaStatus) -> str:
    from gpuctl.views import journal

    name = replica["name"]
    told = (
        one for one in status["conditions"] if (one["subject"], one["reason"]) == (name, "on_cpu")
    )
    since = next((one["since"] for one in told), replica["since"])
    when = "" if since is None else f" since {journal.moment(since)}"
    return f"{name}: on the CPU{when}: `gpuctl failover gpu` ends it"


def last_failure(session: Session, replica: str) -> tuple[str, tuple[str, ...]]:
    """Return why a replica last failed and its last log lines, from the journal."""
    from gpuctl.model import EventKind
    from gpuctl.views import journal

    reason, log = "", tuple[str, ...]()
    told = ("failed", "undone", "evidence", "ready")
    for event in events(session, limit=_LATEST, kinds=told, subject=replica):
        if event.evidence.get("withdrawn"):
            continue  # nobody wanted it any more
        if event.kind is EventKind.READY:
            reason, log = "", ()  # what failed before is over
        if event.kind in (EventKind.FAILED, EventKind.UNDONE):
            reason = ": ".join(filter(None, (event.reason, str(event.evidence.get("error", "")))))
        if not reason:
            continue  # left behind by what was stopped, and did not fail
        if words := event.evidence.get("explanation"):
            reason = f"{reason}: {words}; {event.evidence.get('advice')}"
        log = journal.log_lines(event.evidence) or log
    return reason, log


def events(
    session: Session,
    *,
    after: int = 0,
    limit: int | None = None,
    kinds: Sequence[str] = (),
    subject: str | None = None,
) -> tuple[Event, ...]:
    """Return stored events, oldest first; none when the journal cannot be read."""
    try:
        return compose.events(session, after=after, limit=limit, kinds=kinds, subject=subject)
    except StoreError:
        return ()
