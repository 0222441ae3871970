"""
Which request gets a place at a replica, and which one waits or is refused. PURE.

`exchange` asks with a `Ticket`, and holds a `Seat` while its request runs. Settings and routes come
with each Status. State changes before anybody is told, so whoever is told may ask, release and
cancel as it likes: what comes of that is told after what is under way, never within.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Set
from typing import TYPE_CHECKING, Final

from gpuctl.gateway import places, routing
from gpuctl.gateway.queue import Queue

if TYPE_CHECKING:
    from gpuctl.gateway.replica import Replica, Route
    from gpuctl.model import GatewaySettings

#: Who has avoided none yet.
NOBODY: Final[Set[str]] = frozenset()


class Seat:
    """One place at one replica, and one of all that may be in flight, until it is released."""

    __slots__ = ("_admission", "_key", "_trial", "replica")

    def __init__(self, admission: Admission, replica: Replica, key: str, trial: bool) -> None:
        self._admission: Admission | None = admission
        self._key = key
        self._trial = trial  # it was given while the gate was half-open
        self.replica = replica

    def release(self, now: float | None = None) -> None:
        """
        Give the place back, and serve whom that lets in; a second time does nothing.

        Args:
            now: Loop clock, seconds. None: the latest time that the admission was told.
        """
        admission = self._admission
        if admission is not None:
            self._admission = None
            admission._freed(self.replica, self._key, self._trial, now)


class Ticket:
    """
    What one request asks for a place with. Once it was answered it may be asked with again.

    While it waits, only what it avoids may change.
    """

    __slots__ = (
        *("affinity", "avoid", "deadline", "due", "key", "priority", "refuse", "route", "serve"),
        "since",
    )

    def __init__(
        self,
        route: Route,
        key: str,
        priority: int,
        avoid: Set[str],
        affinity: bytes | None,
        since: float,
        deadline: float,
        serve: Callable[[Seat], None],
        refuse: Callable[[str], None],
    ) -> None:
        """
        Make one.

        Args:
            route: Whose replicas.
            key: Id of the API key, or whatever else is to have its fair part.
            priority: The higher is served first.
            avoid: Names of the replicas that failed it: with some, it is a retry.
            affinity: What requests that belong together have in common.
            since: Loop clock: its place in the order, and the queue's time-out.
            deadline: Loop clock: it does not wait for longer, whatever the queue's is.
            serve: Told a seat, if it has waited for one.
            refuse: Told why there will be none.
        """
        self.route = route
        self.key = key
        self.priority = priority
        self.avoid = avoid
        self.affinity = affinity
        self.since = since
        self.deadline = deadline
        self.serve = serve
        self.refuse = refuse
        self.due: Seat | str | None = None  # decided, and not told yet


class Admission:
    """
    The seats that are taken, and the tickets that wait. Every `now` is on the loop's clock.

    Nobody waits while a seat for it is free, as far as the admission was told: by a release, or by
    `wake` after anything else. A key that has much waiting holds up no other: `queue` says whose
    turn it is, of all that a free replica suits.
    """

    def __init__(self, settings: GatewaySettings, luck: routing.Luck) -> None:
        self.in_flight = 0  # seats that are taken
        self._turn = routing.Turn(0.0, luck, 0)  # of the latest request
        self._routes: dict[str, Route] = {}  # by model
        self._seats: dict[str, int] = {}  # by key, of those that have some
        self._trials: set[Replica] = set()  # with a seat of a trial
        self._queue: Queue[Ticket] = Queue()
        self._due: deque[Ticket] = deque()  # decided, and told in this order
        self._telling = False
        self._draining = False
        self._now = 0.0  # the latest time that it was told
        self._use(settings)

    def configure(self, settings: GatewaySettings, routes: Mapping[str, Route]) -> None:
        """
        Take what a new Status says; who can be served because of it is served by `wake`.

        Args:
            settings: Where more wait than may now, the last ones are refused.
            routes: By model. Who waits for one that is gone, or has no hope left, is refused.
        """
        self._use(settings)
        self._routes = dict(routes)
        for model in self._queue.models():
            route = self._routes.get(model)
            if route is None or not places.promising(route):
                for ticket in self._queue.of(model):
                    self._refuse(ticket, "no_replica")
        while len(self._queue) > self._size and (last := self._queue.last()) is not None:
            self._refuse(last, "queue_full")
        self._tell()

    def ask(self, ticket: Ticket, now: float) -> Seat | str | None:
        """
        Return a seat, or why there is none, or None: it waits.

        The reasons are "queue_full", "no_replica" and "draining". Who waits is told once, later:
        `serve` with its seat, or `refuse` with one of these reasons or "queue_timeout".
        """
        self._now = now
        if self._queue.places:
            self._serve(now)  # whom a newcomer would overtake
        answer = self._answer(ticket, now)
        if self._due:
            self._tell(ticket)
            if ticket.due is not None:
                answer, ticket.due = ticket.due, None
        return answer

    def at_once(
        self, route: Route, key: str, avoid: Set[str], affinity: bytes | None, now: float
    ) -> Seat | None:
        """
        Return a seat if nobody waits and one is free; else `ask` knows what becomes of it.

        So it is with most requests, and they need no ticket: the arguments are what is in one.
        """
        self._now = now
        if self._queue.places or (self._draining and not avoid):
            return None
        known = self._routes.get(route.model)
        free = None if known is None else self._free(known, avoid, now)
        return self._seat(known, key, affinity, free, now) if known and free else None

    def cancel(self, ticket: Ticket) -> None:
        """Forget a ticket that waits or is about to be told; nothing for any other."""
        self._queue.discard(ticket)
        due, ticket.due = ticket.due, None
        if isinstance(due, Seat):
            due.release()

    def wake(self, now: float) -> None:
        """Serve who can be served now: after a Status, or when a gate's cooldown is over."""
        self._now = now
        self._serve(now)
        self._tell()

    def expire(self, now: float) -> None:
        """Refuse those that have waited for as long as the queue lets them, or they can."""
        self._now = now
        for ticket in self._queue:
            if now >= min(ticket.since + self._timeout_seconds, ticket.deadline):
                self._refuse(ticket, "queue_timeout")
        self._tell()

    def drain(self) -> None:
        """Refuse all that wait and all that come, but a retry that a seat is free for."""
        self._draining = True
        for ticket in self._queue:
            self._refuse(ticket, "draining")
        self._tell()

    def waiting(self, route: Route | None = None) -> int:
        """Return how many wait for a route, or for any."""
        return len(self._queue) if route is None else len(self._queue.of(route.model))

    def depth(self) -> dict[int, int]:
        """Return how many wait, by priority; only those at which somebody does."""
        depth: dict[int, int] = {}
        for ticket in self._queue:
            depth[ticket.priority] = depth.get(ticket.priority, 0) + 1
        return depth

    def crowds(self) -> dict[str, int]:
        """Return how many wait, by key; only those of which somebody does."""
        crowds: dict[str, int] = {}
        for ticket in self._queue:
            crowds[ticket.key] = crowds.get(ticket.key, 0) + 1
        return crowds

    # A seat.

    def _answer(self, ticket: Ticket, now: float) -> Seat | str | None:
        route = self._routes.get(ticket.route.model)
        if route is None:
            return "no_replica"
        if self._draining and not ticket.avoid:
            return "draining"
        free = self._free(route, ticket.avoid, now)
        if free:
            return self._seat(route, ticket.key, ticket.affinity, free, now)
        return self._wait(ticket, route)

    def _free(self, route: Route, avoid: Set[str], now: float) -> list[Replica | places.Pressed]:
        if self.in_flight >= self._most:
            return []
        return places.free(route, avoid, self._trials, now)

    def _seat(
        self,
        route: Route,
        key: str,
        affinity: bytes | None,
        free: list[Replica | places.Pressed],
        now: float,
    ) -> Seat:
        turn = self._turn
        turn.now, turn.count, turn.ring = now, route.turns, route.replicas
        replica = places.chosen(route, free, affinity, self._trials, self._strategy, turn)
        trial = replica.gate.retry_at is not None
        if trial:
            self._trials.add(replica)
        replica.in_flight += 1
        route.turns += 1
        self.in_flight += 1
        self._seats[key] = self._seats.get(key, 0) + 1
        return Seat(self, replica, key, trial)

    def _freed(self, replica: Replica, key: str, trial: bool, now: float | None) -> None:
        replica.in_flight -= 1
        self.in_flight -= 1
        left = self._seats[key] - 1
        if left:
            self._seats[key] = left
        else:
            del self._seats[key]
        if trial:
            self._trials.discard(replica)
        if self._queue.places:
            self.wake(self._now if now is None else now)

    # The queue.

    def _wait(self, ticket: Ticket, route: Route) -> str | None:
        """Let it wait, in another's place where the queue is full; or return why it does not."""
        if not places.promising(route):
            return "no_replica"
        if self._draining:
            return "draining"
        if len(self._queue) >= self._size:
            last = self._queue.last()
            if last is None or not self._queue.yields(last, ticket):
                return "queue_full"
            self._refuse(last, "queue_full")
        self._queue.add(route.model, ticket)
        return None

    def _serve(self, now: float) -> None:
        """Give a seat to one after the other of those that wait, while one suits somebody."""
        while self._queue:
            free = {
                model: found
                for model in self._queue.models()
                if (found := self._free(self._routes[model], NOBODY, now))
            }
            if not free:
                return
            ticket = self._queue.first(free, lambda ticket: self._suits(ticket, now), self._seats)
            if ticket is None:
                return
            route = self._routes[ticket.route.model]
            found = self._free(route, ticket.avoid, now) if ticket.avoid else free[route.model]
            self._queue.discard(ticket)
            seat = self._seat(route, ticket.key, ticket.affinity, found, now)
            self._decide(ticket, seat)

    def _suits(self, ticket: Ticket, now: float) -> bool:
        """Return whether any of its route's free replicas is one that it need not avoid."""
        if not ticket.avoid:
            return True
        return bool(self._free(self._routes[ticket.route.model], ticket.avoid, now))

    def _refuse(self, ticket: Ticket, reason: str) -> None:
        self._queue.discard(ticket)
        self._decide(ticket, reason)

    def _decide(self, ticket: Ticket, due: Seat | str) -> None:
        ticket.due = due
        self._due.append(ticket)

    def _tell(self, asking: Ticket | None = None) -> None:
        """
        Tell all that something was decided for, but the one that is asking: `ask` returns it.

        What they do about it may decide more, which the same loop tells.
        """
        if self._telling:
            return
        self._telling = True
        try:
            while self._due:
                ticket = self._due.popleft()
                if ticket is asking:
                    continue
                due, ticket.due = ticket.due, None
                if isinstance(due, Seat):
                    ticket.serve(due)
                elif due is not None:  # None: it was cancelled meanwhile
                    ticket.refuse(due)
        finally:
            self._telling = False

    def _use(self, settings: GatewaySettings) -> None:
        self._most = math.inf if settings.max_in_flight is None else settings.max_in_flight
        self._size = settings.queue.size
        self._timeout_seconds = settings.queue.timeout_seconds
        self._strategy = routing.STRATEGIES[settings.routing]
