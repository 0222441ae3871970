"""An admission with routes of real replicas, and what the requests that ask there are told."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable
from typing import Any

from gpuctl.gateway.admission import Admission, Seat, Ticket
from gpuctl.gateway.gate import Gate
from gpuctl.gateway.replica import Replica, Route
from gpuctl.model import GatewaySettings, QueueSettings

COOLDOWN_SECONDS = 30.0


def replica(name: str, **known: Any) -> Replica:
    """Make a replica that is ready, with one slot, unless *known* says otherwise."""
    made = Replica(name, name.rsplit("-", 1)[0], Gate(1, COOLDOWN_SECONDS))
    made.state = "ready"
    for field, value in known.items():
        setattr(made, field, value)
    return made


def route(model: str, replicas: int = 1, **known: Any) -> Route:
    made = Route(model, "chat")
    made.replicas = [replica(f"{model}-{index}", **known) for index in range(replicas)]
    return made


def settings(
    most: int | None = None, size: int = 100, timeout_seconds: float = 30.0, **others: Any
) -> GatewaySettings:
    queue = QueueSettings(size=size, timeout_seconds=timeout_seconds)
    return GatewaySettings(max_in_flight=most, queue=queue, **others)


class Desk:
    """Requests go by their names. `now` is what the test sets it to."""

    def __init__(self, *routes: Route, **said: Any) -> None:
        self.now = 100.0
        self.routes = {made.model: made for made in routes}
        self.admission = Admission(settings(**said), random.Random(7).random)
        self.admission.configure(settings(**said), self.routes)
        self.tickets: dict[str, Ticket] = {}
        self.seats: dict[str, Seat] = {}
        #: (request, the replica it was given or the reason it was refused for), as it was told.
        self.told: list[tuple[str, str]] = []

    def at(self, name: str) -> Replica:
        """Return a replica by its name."""
        model, index = name.rsplit("-", 1)
        return self.routes[model].replicas[int(index)]

    def ticket(
        self,
        name: str,
        model: str = "chat",
        key: str = "",
        priority: int = 5,
        avoid: Iterable[str] = (),
        affinity: bytes | None = None,
        since: float | None = None,
        deadline: float = math.inf,
    ) -> Ticket:
        since = self.now if since is None else since
        made = Ticket(
            self.routes.get(model, Route(model, "chat")), key, priority, {*avoid}, affinity,
            since, deadline,
            lambda seat: self.serve(name, seat), lambda reason: self.refuse(name, reason),
        )  # fmt: skip
        self.tickets[name] = made
        return made

    def ask(self, name: str, **wish: Any) -> str | None:
        """Ask for a request; return the name of its replica, the refusal, or None: it waits."""
        ticket, now = self.ticket(name, **wish), self.now
        found: Seat | str | None = self.admission.at_once(
            ticket.route, ticket.key, ticket.avoid, ticket.affinity, now
        )
        if found is None:
            found = self.admission.ask(ticket, now)
        if isinstance(found, Seat):
            self.seats[name] = found
            return found.replica.name
        return found

    def serve(self, name: str, seat: Seat) -> None:
        self.seats[name] = seat
        self.told.append((name, seat.replica.name))

    def refuse(self, name: str, reason: str) -> None:
        self.told.append((name, reason))

    def release(self, name: str) -> None:
        self.seats.pop(name).release(self.now)

    def configure(self, **said: Any) -> None:
        self.admission.configure(settings(**said), self.routes)
        self.admission.wake(self.now)

    def heard(self) -> list[tuple[str, str]]:
        """Return what was told since the last time."""
        told, self.told = self.told, []
        return told
