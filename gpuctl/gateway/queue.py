"""
Those that wait for a place, and whose turn it is. PURE.

`admission` adds who must wait and says which models have a place; it alone knows of replicas. The
order: the highest priority, of that the key with the fewest requests in flight, then the oldest.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Generic, Protocol, TypeVar


class Waiter(Protocol):
    """What is looked at of one that waits; it stays as it is meanwhile."""

    @property
    def priority(self) -> int: ...  # the higher is served first
    @property
    def key(self) -> str: ...  # whose request it is
    @property
    def since(self) -> float: ...  # seconds of one clock


W = TypeVar("W", bound=Waiter)


class _Lane(Generic[W]):
    """The waiters of one model, priority and key."""

    __slots__ = ("key", "model", "priority", "waiters")

    def __init__(self, model: str, priority: int, key: str) -> None:
        self.model = model
        self.priority = priority
        self.key = key
        #: Since when, and as how manieth it came: by these they are in order, the oldest first.
        self.waiters: list[tuple[float, int, W]] = []


class Queue(Generic[W]):
    """Waiters in lanes, so that finding the next looks at one of each key."""

    __slots__ = ("_came", "_lanes", "places")

    def __init__(self) -> None:
        self._came = 0  # how many have come
        #: Model → (priority, key) → lane, none of them empty.
        self._lanes: dict[str, dict[tuple[int, str], _Lane[W]]] = {}
        #: Where each one waits; to others, the quickest way to see whether anybody does.
        self.places: dict[W, tuple[_Lane[W], float, int]] = {}

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[W]:
        """Go through all as they are now, whatever becomes of them meanwhile."""
        return iter([*self.places])

    def models(self) -> list[str]:
        """Return the models that somebody waits for."""
        return [*self._lanes]

    def of(self, model: str) -> list[W]:
        """Return those that wait for a model."""
        lanes = self._lanes.get(model, {}).values()
        return [waiter for lane in lanes for _, _, waiter in lane.waiters]

    def add(self, model: str, waiter: W) -> None:
        self._came += 1
        lanes = self._lanes.setdefault(model, {})
        name = (waiter.priority, waiter.key)
        lane = lanes.get(name)
        if lane is None:
            lane = lanes[name] = _Lane(model, *name)
        insort(lane.waiters, (waiter.since, self._came, waiter))
        self.places[waiter] = (lane, waiter.since, self._came)

    def discard(self, waiter: W) -> None:
        """Forget one; nothing where it does not wait."""
        place = self.places.pop(waiter, None)
        if place is None:
            return
        lane, *order = place
        del lane.waiters[bisect_left(lane.waiters, (*order,))]
        if lane.waiters:
            return
        lanes = self._lanes[lane.model]
        del lanes[lane.priority, lane.key]
        if not lanes:
            del self._lanes[lane.model]

    def first(
        self, models: Iterable[str], suits: Callable[[W], bool], in_flight: Mapping[str, int]
    ) -> W | None:
        """
        Return whose turn it is, None where it is nobody's.

        Args:
            models: Those that have a place, and are waited for.
            suits: Whether one that waits for such a model can take a place there.
            in_flight: Requests in flight by key, of those that have some.
        """
        best: W | None = None
        least = (0, 0, 0.0, 0)
        for model in models:
            for (priority, key), lane in self._lanes[model].items():
                for since, came, waiter in lane.waiters:
                    if suits(waiter):
                        rank = (-priority, in_flight.get(key, 0), since, came)
                        if best is None or rank < least:
                            best, least = waiter, rank
                        break
        return best

    def last(self) -> W | None:
        """
        Return who has to go first where there are too many, None where nobody waits.

        Of the lowest priority, the youngest of the key that has the most waiting there: one key
        alone must not keep all others out.
        """
        crowds = self._crowds()
        if not crowds:
            return None
        lowest = min(priority for priority, _ in crowds)
        ends = [
            (crowds[name], lane.waiters[-1])
            for lanes in self._lanes.values()
            for name, lane in lanes.items()
            if name[0] == lowest
        ]
        _, (_, _, waiter) = max(ends)
        return waiter

    def yields(self, waiter: W, newcomer: W) -> bool:
        """
        Return whether one that waits has to go for a newcomer.

        It has to for a higher priority; at its own, for a key that has less waiting even with one
        more, so that two keys never take turns in driving each other out.
        """
        if waiter.priority != newcomer.priority:
            return waiter.priority < newcomer.priority
        crowds = self._crowds()
        mine = crowds.get((newcomer.priority, newcomer.key), 0)
        return mine + 1 < crowds[waiter.priority, waiter.key]

    def _crowds(self) -> dict[tuple[int, str], int]:
        """Return how many wait of each priority and key, whatever model they wait for."""
        crowds: dict[tuple[int, str], int] = {}
        for lanes in self._lanes.values():
            for name, lane in lanes.items():
                crowds[name] = crowds.get(name, 0) + len(lane.waiters)
        return crowds
