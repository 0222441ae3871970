"""
Which stored Events memory still rests on, so that the others may go. PURE; the store asks.

Of each form of Event `history.fold` remembers the last ones of a replica, however old: a container
that has served for a year is known as ready by one Event of a year ago.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable
from functools import partial

from gpuctl.history import memory
from gpuctl.model import Event, EventKind

#: Marks in the evidence that give an Event of the same kind another meaning.
_MARKS = ("failures", "missing_image", "restart", "resumed", "withdrawn")

_Form = tuple[object, ...]


def needed(events: Iterable[Event]) -> frozenset[int]:
    """
    Return the ids without which `history.remember` would remember something else.

    *events* are all that are stored of the kinds `history.REMEMBERED`, oldest first.
    """
    walk = _Walk()
    for event in events:
        walk.take(event)
    return walk.needed()


class _Walk:
    def __init__(self) -> None:
        # As many of each form as starts are remembered; of most the last one would do.
        newest = partial(deque[int], maxlen=memory.STARTS_KEPT)
        self._newest: defaultdict[_Form, deque[int]] = defaultdict(newest)
        self._intents: set[int] = set()
        self._first: int | None = None  # since when anything is remembered at all
        self._open: dict[str, Event] = {}  # the attempt under way, by replica
        self._container: dict[str, int] = {}  # the Event that told of the present one, by replica
        self._rests_on: dict[int, tuple[int, ...]] = {}

    def take(self, event: Event) -> None:
        if self._first is None:
            self._first = event.id
        if event.kind is EventKind.INTENT:
            self._intents.add(event.id)
            return
        action = str(event.evidence.get("action", ""))
        if action != "drain":
            match event.kind:
                case EventKind.ATTEMPT:
                    self._open[event.subject] = event
                case EventKind.DONE | EventKind.UNDONE:
                    attempt = self._closed(event)
                    if attempt is None:
                        return  # the late end of an attempt that was given up
                    action = str(attempt.evidence.get("action", ""))
                    self._closing(event, attempt, action)
                case EventKind.ADOPTED:
                    self._container[event.subject] = event.id
        self._newest[_form(event, action)].append(event.id)

    def _forget(self, attempt: Event) -> None:
        """Of the attempt under way, which is the newest of its form."""
        self._newest[_form(attempt, str(attempt.evidence.get("action", "")))].remove(attempt.id)

    def needed(self) -> frozenset[int]:
        found = set(self._intents)
        pending = [id_ for ids in self._newest.values() for id_ in ids]
        if self._first is not None:
            pending.append(self._first)
        while pending:
            id_ = pending.pop()
            if id_ not in found:
                found.add(id_)
                pending.extend(self._rests_on.get(id_, ()))
        return frozenset(found)

    def _closed(self, event: Event) -> Event | None:
        """Return the attempt that an Event ends, `None` when it is another one's."""
        attempt = self._open.get(event.subject)
        if attempt is None or attempt.evidence.get("attempt") != event.evidence.get("attempt"):
            return None
        return self._open.pop(event.subject)

    def _closing(self, event: Event, attempt: Event, action: str) -> None:
        self._rests_on[event.id] = (attempt.id,)
        if "missing_image" in event.evidence:
            # It is no start that is remembered, and takes the place of none.
            self._forget(attempt)
            # Kept as the first of all, without its end, it would be one that is under way.
            self._rests_on[attempt.id] = (event.id,)
        if event.kind is EventKind.UNDONE and "failures" in event.evidence:
            # It is the failure of the container that there was before it.
            before = self._container.get(event.subject)
            self._rests_on[event.id] += (before,) if before is not None else ()
        elif event.kind is EventKind.DONE and action == "start":
            self._container[event.subject] = event.id


def _form(event: Event, action: str) -> _Form:
    marks = tuple(mark for mark in _MARKS if event.evidence.get(mark, False) is not False)
    # Of each number of Xid as many are remembered; of other kinds the reason makes no difference.
    number = event.reason if event.kind is EventKind.XID else ""
    return event.subject, event.kind, action, number, marks
