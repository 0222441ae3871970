"""
Which replicas of a route may take a request now, and which of them takes this one. PURE.

`admission` asks, and counts what is taken. Whether a replica is well is said by Status, by its gate
and by its engine's KV cache; which one is best, by `routing`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from gpuctl.gateway import routing

if TYPE_CHECKING:
    from gpuctl.gateway.replica import Replica, Route

#: Share of a replica's KV cache in use from which it is routed to half as much, and from which it
#: gets nothing more while it answers anything: vLLM preempts, and computes again, when it is full.
KV_PRESSED_RATIO: Final = 0.85
KV_FULL_RATIO: Final = 0.95


def kv_level(ratio: float | None) -> str:
    """Return how full a replica's KV cache is: ok | warning | critical; None is not told."""
    if ratio is None or ratio < KV_PRESSED_RATIO:
        return "ok"
    return "warning" if ratio < KV_FULL_RATIO else "critical"


class Pressed(routing.Target):
    """A replica whose KV cache fills up, as routing is to see it: with half its weight."""

    __slots__ = ("replica",)

    def __init__(self, replica: Replica) -> None:
        super().__init__(replica.name)
        self.replica = replica
        self.in_flight = replica.in_flight
        self.slots = replica.slots
        self.weight = replica.weight / 2
        self.engine_waiting = replica.engine_waiting
        self.latency = replica.latency


def promising(route: Route) -> bool:
    """Return whether one of a route's replicas is ready, or on its way to be."""
    return any(replica.state == "ready" or replica.coming for replica in route.replicas)


def free(
    route: Route, avoid: Collection[str], trials: Collection[Replica], now: float
) -> list[Replica | Pressed]:
    """
    Return the replicas that have a place for one request more, in the route's order.

    Args:
        route: Whose replicas.
        avoid: Names of those that failed the request: they are left out while any other is ready
            with a closed gate, though it be full.
        trials: Those with a seat that was given while the gate was half-open.
        now: Loop clock, seconds.
    """
    found: list[Replica | Pressed] = []
    for replica in route.replicas:
        if replica.in_flight >= replica.slots or replica.state != "ready":
            continue
        if replica.gate.retry_at is not None and not _tryable(replica, trials, now):
            continue
        ratio = replica.kv_ratio
        if ratio is None or ratio < KV_PRESSED_RATIO:
            found.append(replica)
        elif ratio < KV_FULL_RATIO or not replica.in_flight:
            found.append(Pressed(replica))
    if avoid and any(_sound(other) for other in route.replicas if other.name not in avoid):
        return [place for place in found if place.name not in avoid]
    return found


def chosen(
    route: Route,
    places: list[Replica | Pressed],
    affinity: bytes | None,
    trials: Collection[Replica],
    strategy: routing.Strategy,
    turn: routing.Turn,
) -> Replica:
    """
    Return the replica that takes the request.

    Args:
        route: Whose request it is.
        places: What `free` gave for it; never none.
        affinity: What requests that belong together have in common; None: this has none.
        trials: As in `free`.
        strategy: Decides where affinity does not.
        turn: What the strategy goes by.
    """
    place = None
    if affinity is not None:
        seen = {place.name: place for place in places}
        ready = [
            seen.get(replica.name, replica)
            for replica in route.replicas
            if _sound(replica) or (replica.state == "ready" and _tryable(replica, trials, turn.now))
        ]
        place = routing.prefer(ready, places, affinity)
    if place is None:
        place = strategy(places, turn)
    return place.replica if isinstance(place, Pressed) else place


def _tryable(replica: Replica, trials: Collection[Replica], now: float) -> bool:
    """Return whether its gate, which is not closed, lets one try it that has no seat yet."""
    # The gate knows of a trial from when it is sent; one that has its seat is as good as sent.
    return replica.gate.allows(now) and replica not in trials


def _sound(replica: Replica) -> bool:
    """Return whether it is ready, and nothing is held against it."""
    return replica.state == "ready" and replica.gate.retry_at is None
