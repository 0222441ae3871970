"""
Is what a command waits for still wanted? The latest command wins, and the earlier one says so.

`moves` and `intents` look with each new Status: later intents in, the error that ends the wait out.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from gpuctl.cli import outcome
from gpuctl.cli.session import Session
from gpuctl.errors import GpuctlError

if TYPE_CHECKING:
    from gpuctl.model import Event
    from gpuctl.model.status import Status

#: A later intent → the command that it stands for, if that undoes what is waited for; else "".
Undoes = Callable[["Event"], str]

_HINT = "the later one holds: `gpuctl status` shows how it is now"


class Superseded(GpuctlError):
    """A later command undoes the one that is waited for."""


class Later:
    """The intents after a command's own; each is read once."""

    def __init__(self, session: Session, event: int, undoes: Undoes) -> None:
        self._session, self._undoes = session, undoes
        self._seen = event

    def look(self, status: Status) -> None:
        """Look at the intents that a Status knows of. Raises `Superseded`."""
        if status["last_event"] <= self._seen:
            return
        from gpuctl.views import journal

        found = outcome.events(self._session, after=self._seen, kinds=("intent",))
        self._seen = max((status["last_event"], *(event.id for event in found)))
        for event in found:
            words = self._undoes(event)
            if words:
                at = journal.moment(event.at).split()[1]
                raise Superseded(f"superseded by `{words}` at {at}", _HINT)


def life(verb: str, subjects: Collection[str]) -> Undoes:
    """Return what undoes a `run`, `stop` or `renew` of these replicas and their workload."""

    def undoes(event: Event) -> str:
        if event.subject not in ("", *subjects):
            return ""
        if verb != "stop":
            return f"stop {event.subject}".strip() if event.reason == "stop" else _down(event)
        word = {"run": "start", "renew": "restart", "up": "up"}.get(event.reason, "")
        return f"{word} {event.subject}".strip() if word else ""

    return undoes


def scale(counts: Mapping[str, int]) -> Undoes:
    """Return what undoes a `scale`: another count, or an end."""

    def undoes(event: Event) -> str:
        if event.reason == "scale" and event.subject in counts:
            count = event.evidence.get("replicas")
            if count is None:
                return "up"  # of a profile for which it was not said
            return "" if count == counts[event.subject] else f"scale {event.subject}={count}"
        ends = event.reason == "stop" and _counted(event.subject, counts)
        return f"stop {event.subject}".strip() if ends else _down(event)

    return undoes


def of_gpu(verb: str, uuid: str, index: int) -> Undoes:
    """Return what undoes a `cordon` or `uncordon` of a GPU: the other *verb*."""

    def undoes(event: Event) -> str:
        other = event.reason == verb and event.subject == uuid
        return f"{verb} {index}" if other else _down(event)

    return undoes


def failover(to: str, subjects: Collection[str]) -> Undoes:
    """Return what undoes a `failover` of these replicas and workloads: one elsewhere."""

    def undoes(event: Event) -> str:
        if event.reason != "failover" or event.subject not in ("", *subjects):
            return _down(event)
        other = str(event.evidence.get("to", ""))
        if not other:
            return "up"  # of a profile for which it was not said
        return "" if other == to else f"failover {other} {event.subject}".strip()

    return undoes


def _down(event: Event) -> str:
    return "down" if event.reason == "down" else ""


def _counted(subject: str, counts: Mapping[str, int]) -> bool:
    """True of all, a workload, and of its replicas that the count has."""
    workload, _, index = subject.rpartition("-")
    one = workload in counts and index.isdecimal() and int(index) < counts[workload]
    return one or subject in ("", *counts)
