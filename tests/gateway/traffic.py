"""
Requests on replicas that take their time, second by second, on no clock at all.

What a strategy does over a thousand requests: who got how many, and how long they took.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from gpuctl.gateway import routing
from gpuctl.gateway.latency import Latency
from gpuctl.gateway.routing import Strategy, Turn

#: How much longer than the usual this answer takes.
Lengths = Callable[[random.Random], float]


@dataclass(slots=True, kw_only=True, eq=False)
class Target(routing.Target):
    """A replica as routing sees it, and as fast as it is."""

    name: str = "chat-0"
    slots: int = 1
    in_flight: int = 0
    weight: float = 1.0
    engine_waiting: int = 0
    latency: Latency = field(default_factory=Latency)
    seconds: float = 1.0  # that an answer of usual length takes, whatever else it answers
    served: int = 0


def targets(*seconds: float, slots: int = 1) -> list[Target]:
    """Return one replica for each speed."""
    return [
        Target(name=f"chat-{index}", slots=slots, seconds=each)
        for index, each in enumerate(seconds)
    ]


def even(generator: random.Random) -> float:
    return 1.0


def varied(generator: random.Random) -> float:
    """Return a length of answers from 50 to 500 tokens, of which 275 are usual."""
    return generator.uniform(50, 500) / 275


@dataclass(slots=True, kw_only=True)
class Traffic:
    """One run: what came, what waits for a slot, what is under way."""

    replicas: Sequence[Target]
    strategy: Strategy
    lengths: Lengths = even
    seed: int = 1
    now: float = 0.0
    took: list[float] = field(default_factory=list)  # seconds with the wait, as they end
    _count: int = 0
    _waiting: deque[float] = field(default_factory=deque)  # when each came

    def one_by_one(self, clients: int, requests: int) -> None:
        """Let each of so many clients ask anew when its answer is there."""
        left = itertools.repeat(None, requests - clients)
        self._run([self.now] * clients, lambda: next(left, False) is None)

    def at(self, times: Iterable[float]) -> None:
        """Let requests come at these times, whatever becomes of them."""
        self._run(times, lambda: False)

    def shares(self) -> list[float]:
        return [replica.served / len(self.took) for replica in self.replicas]

    def p95(self) -> float:
        return sorted(self.took)[len(self.took) * 95 // 100]

    def _run(self, times: Iterable[float], asks_again: Callable[[], bool]) -> None:
        generator = random.Random(self.seed)
        order = itertools.count()  # of what happens at the same time: as it was noted
        events: list[tuple[float, int, Target | None, float, float]] = [
            (time, next(order), None, time, time) for time in times
        ]
        heapq.heapify(events)
        while events:
            self.now, _, ended, came, sent = heapq.heappop(events)
            if ended is None:
                self._waiting.append(came)
            else:
                ended.in_flight -= 1
                ended.latency.add(self.now - sent, self.now)
                self.took.append(self.now - came)
                if asks_again():
                    self._waiting.append(self.now)
            while self._waiting and (chosen := self._choose(generator)) is not None:
                until = self.now + chosen.seconds * self.lengths(generator)
                event = (until, next(order), chosen, self._waiting.popleft(), self.now)
                heapq.heappush(events, event)

    def _choose(self, generator: random.Random) -> Target | None:
        free = [replica for replica in self.replicas if replica.in_flight < replica.slots]
        if not free:
            return None
        chosen = self.strategy(free, Turn(self.now, generator.random, self._count, self.replicas))
        self._count += 1
        chosen.in_flight += 1
        chosen.served += 1
        return chosen
