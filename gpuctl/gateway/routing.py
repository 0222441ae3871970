"""
Which of the replicas that may take a request gets it. PURE.

`admission` says which ones may, and asks the strategy that the profile names; before that, what
keeps a conversation where its prompt is still in the cache. Each is one function.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Protocol, TypeVar

from gpuctl.gateway.latency import Latency

#: A replica of weight 0 (its GPU is near its shutdown) comes after every other, however busy, and
#: is still better than none.
LAST_RESORT: Final = 1e-9
_INFINITE: Final = float("inf")


class Target:
    """What is looked at of a replica."""

    __slots__ = ("engine_waiting", "in_flight", "latency", "name", "slots", "weight")

    def __init__(self, name: str) -> None:
        self.name = name
        self.in_flight = 0
        self.slots = 1  # requests it answers at a time, at least 1
        self.weight = 1.0  # 1: full load; 0: none that another can take
        self.engine_waiting = 0  # requests in the engine's own queue
        self.latency = Latency()


#: Tells a number from 0 on, below 1: `random.Random().random`.
Luck = Callable[[], float]


class Turn:
    """What a strategy may go by besides the replicas."""

    __slots__ = ("count", "luck", "now", "ring")

    def __init__(self, now: float, luck: Luck, count: int, ring: Sequence[Target] = ()) -> None:
        self.now = now  # loop clock, seconds
        self.luck = luck
        self.count = count  # requests of this route that were routed before
        self.ring = ring  # all of the route, whose turn comes round; none: the targets


T = TypeVar("T", bound=Target)


class Strategy(Protocol):
    """Chooses one of the targets, which are never none."""

    def __call__(self, targets: list[T], turn: Turn, /) -> T: ...


def least_busy(targets: list[T], turn: Turn) -> T:
    """
    Choose the one where this request finds the least before it, in slots of equal speed.

    What is in flight, waits in the engine and comes now, by its slots; times how much slower than
    the best it answers of late; by its weight. Random among equals.
    """
    now = turn.now
    best = _best(targets, now)
    scores: list[float] = []
    for target in targets:  # `_load`, written out: it is asked of every replica at every request
        load = (target.in_flight + target.engine_waiting + 1) / (
            target.slots * (target.weight or LAST_RESORT)
        )
        scores.append(target.latency.factor(best, now) * load)
    return _lowest(targets, scores, turn)


def round_robin(targets: list[T], turn: Turn) -> T:
    """
    Choose one after the other, those of weight 0 only among themselves.

    Each turn belongs to one of the route. Those of a replica that takes nothing now go to the
    others by turns: were they to go to its neighbour, that would get twice its share.
    """
    able = [target for target in targets if target.weight] or targets
    ring = turn.ring or able
    lap, place = divmod(turn.count, len(ring))
    owner = ring[place].name
    for target in able:
        if target.name == owner:
            return target
    return able[lap % len(able)]


def latency(targets: list[T], turn: Turn) -> T:
    """
    Choose the one that will have answered first, by its average and what is before this request.

    One that is untried or forgotten comes first while it is idle; with something in flight it
    counts as the best, so that a burst does not all go where nothing is known.
    """
    now = turn.now
    best = _best(targets, now)
    if best == _INFINITE:
        best = 1.0  # nothing is known of any: only what is in flight tells them apart
    scores: list[float] = []
    for target in targets:
        average = target.latency.value(now)
        if average == _INFINITE:
            average = 0.0 if target.weight and not target.in_flight else best
        scores.append(average * _load(target))
    return _lowest(targets, scores, turn)


STRATEGIES: Final[Mapping[str, Strategy]] = {
    "least_busy": least_busy,
    "round_robin": round_robin,
    "latency": latency,
}


def prefer(ready: Sequence[T], free: Sequence[T], key: bytes) -> T | None:
    """
    Return the replica that requests of this key go to, None where the strategy is to choose.

    Rendezvous hashing over all that are ready: one that comes or goes moves only the keys that are
    its own, and a full one moves none.

    Args:
        ready: All of the route that are ready, never none.
        free: Those of them that may take a request now, never none.
        key: What requests that belong together have in common.
    """
    head = hashlib.blake2b(key, digest_size=8)
    chosen, highest = ready[0], b""
    for target in ready:
        mixed = head.copy()
        mixed.update(target.name.encode())
        rank = mixed.digest()
        if rank > highest:
            chosen, highest = target, rank
    if chosen not in free:
        return None
    least = min(target.in_flight / target.slots for target in free)
    if (chosen.in_flight - 1) / chosen.slots > least:
        return None
    if not chosen.weight and any(target.weight for target in free):
        return None
    return chosen


def _best(targets: list[T], now: float) -> float:
    """Return the lowest average in seconds, infinite where none is known."""
    best = _INFINITE
    for target in targets:
        average = target.latency.value(now)
        if average < best:
            best = average
    return best


def _load(target: Target) -> float:
    """Return the share of its slots that is taken with this request too, by its weight."""
    taken = target.in_flight + target.engine_waiting + 1
    return taken / (target.slots * (target.weight or LAST_RESORT))


def _lowest(targets: list[T], scores: list[float], turn: Turn) -> T:
    """Return the target of the lowest score, one of them at random."""
    lowest, count = _INFINITE, 0
    for score in scores:
        if score < lowest:
            lowest, count = score, 1
        elif score == lowest:
            count += 1
    index = scores.index(lowest)
    for _ in range(int(turn.luck() * count) if count > 1 else 0):
        index += 1
        while scores[index] != lowest:
            index += 1
    return targets[index]
