"""`start`, `stop`, `restart`: send an Intent, wait until it is carried out."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import TYPE_CHECKING

from gpuctl.cli import compose, follow, outcome, superseding
from gpuctl.cli.session import Session
from gpuctl.errors import NotFound

if TYPE_CHECKING:
    from gpuctl.model.status import ReplicaStatus, Status

#: The command's word → the Intent's.
VERBS = {"start": "run", "stop": "stop", "restart": "renew"}


def command(session: Session, word: str, subject: str, *, wait: bool, timeout: float) -> int:
    """Send the Intent and wait for it; return the exit code."""
    before = session.status()
    names = subjects(before, subject)
    event = compose.ask(session, VERBS[word], subject)
    if not wait:
        session.say(f"{subject}: {word} is under way")
        return 0
    follower = follow.Follower(session=session, timeout_seconds=timeout)
    carried_out = _carried_out(word, names, before)
    asked = {subject, *names}
    later = superseding.Later(session, event, superseding.life(VERBS[word], asked))

    def over(now: Status) -> bool:
        later.look(now)
        known = now["last_event"] >= event
        return known and (carried_out(now) or bool(outcome.failures(now, names)))

    with follow.progress(session) as show:
        status = follower.until(over, show)
    return outcome.tell(session, status, names, f"{subject}: {word} done")


def subjects(status: Status, subject: str, kinds: str = "replica or workload") -> frozenset[str]:
    """
    Return the replicas that a replica's or workload's name means.

    Raises:
        NotFound: there is none; the nearest names are suggested.
    """
    names = {replica["name"] for replica in status["replicas"]}
    if subject in names:
        return frozenset({subject})
    found = {r["name"] for r in status["replicas"] if r["workload"] == subject}
    if found:
        return frozenset(found)
    known = sorted(names | {replica["workload"] for replica in status["replicas"]})
    near = get_close_matches(subject, known, n=3)
    hint = f"did you mean {_either(near)}?" if near else f"there are {', '.join(known)}"
    raise NotFound(f"no {kinds} is named {subject!r}", hint)


def _either(names: list[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def _carried_out(word: str, names: frozenset[str], before: Status) -> Callable[[Status], bool]:
    old = {replica["name"]: replica["container"] for replica in before["replicas"]}

    def one(replica: ReplicaStatus) -> bool:
        if word == "stop":
            return replica["phase"] == "stopped"
        serving = replica["phase"] in ("ready", "busy", "degraded")
        return serving and (word == "start" or replica["container"] != old[replica["name"]])

    return lambda status: all(one(r) for r in status["replicas"] if r["name"] in names)
