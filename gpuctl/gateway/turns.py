"""
Turns at the operator's endpoints: what finds no room there waits, in the order in which it came.

An exchange asks for one, and says when it has left. These answers take milliseconds: a burst of
probes must not hear that the gateway is unwell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from gpuctl.gateway.replica import Replica


class Waiting(Protocol):
    """Who asks; see `exchange`."""

    def turn(self, replica: Replica) -> None:
        """Go there now."""


class Turns:
    """Of one replica, which has a number of slots."""

    __slots__ = ("_replica", "_soon", "_waiting")

    def __init__(self, replica: Replica, soon: Callable[[Callable[[], None]], None]) -> None:
        """*soon* calls what it is given, when what is done now is done."""
        self._replica, self._soon = replica, soon
        self._waiting: dict[Waiting, None] = {}  # the oldest first

    def ask(self, who: Waiting) -> None:
        """Let it go there, now or later."""
        if self._waiting or len(self._replica.open) >= self._replica.slots:
            self._waiting[who] = None
        else:
            who.turn(self._replica)

    def left(self, who: Waiting) -> None:
        """Know that one is there no longer, or waits no longer."""
        self._waiting.pop(who, None)
        if self._waiting:  # one that finds a shut gate leaves at once: no call within its own
            self._soon(self._next)

    def _next(self) -> None:
        while self._waiting and len(self._replica.open) < self._replica.slots:
            who = next(iter(self._waiting))
            del self._waiting[who]
            who.turn(self._replica)
